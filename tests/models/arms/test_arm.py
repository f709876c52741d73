"""Arms: those of the product, and those that somebody adds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.architecture import Architecture, Stage
from models.arms.arm import ARMS, MARKERS, PALETTE, Arm, add, in_order, look
from models.arms.preact import Preact
from models.arms.residual import Residual
from models.cost import measure_cost
from models.network import build, weights_fingerprint
from models.norms import NORMS
from search.views.plots import CAUSE_COLORS
from tests.support.arms import OURS
from tests.support.made_up import Bottleneck, Gated, Halved, installed
from tests.support.studies import sample_architectures


def with_block(architecture: Architecture, block: str) -> Architecture:
    return replace(architecture, block=block)


def test_arms_are_shown_in_their_order_and_each_has_a_look_of_its_own() -> None:
    before = list(ARMS)
    assert before[:3] == list(OURS)
    assert in_order(["preact", "unheard", "plain", "preact"]) == ["plain", "preact", "unheard"]
    assert [look(name).label for name in OURS] == ["plain", "residual", "pre-activation"]
    with installed(Halved, Gated, Bottleneck):
        assert in_order([*OURS, "halved", "gated", "bottleneck"]) == [*OURS, "bottleneck", "gated", "halved"]
        looks = [(arm.color, arm.symbol) for arm in ARMS.values()]
        assert len(set(looks)) == len(looks) == len({color for color, _ in looks})
        assert not {color for color, _ in looks} & set(CAUSE_COLORS.values())
        assert all(re.fullmatch("#[0-9A-F]{6}", color) for color, _ in looks)
    assert list(ARMS) == before


def test_an_arm_that_says_its_name_alone_is_called_by_it() -> None:
    with installed(Halved, Gated):
        assert (look("halved").label, look("halved").brief, look("halved").noun) == (
            "halved", "halved", "halved network",
        )  # fmt: skip
        assert (look("gated").label, look("gated").brief) == ("gated residual", "gated residual")
    assert look("plain").noun == "plain stack"


def test_a_look_is_not_inherited() -> None:
    """Else two arms would be shown as one."""

    class Wider(Preact):
        name = "wider"

    with installed(Wider):
        wider, preact = look("wider"), look("preact")
        assert (wider.label, wider.brief, wider.noun, wider.rank) == ("wider", "wider", "wider network", 100)
        assert wider.color != preact.color
        assert wider.symbol != preact.symbol


def test_an_arm_that_is_not_installed_can_be_shown() -> None:
    """A stored study may have it: no table and no figure fails for want of a colour."""
    unheard = look("unheard")
    assert (unheard.label, unheard.noun) == ("unheard", "unheard network")
    assert re.fullmatch("#[0-9A-F]{6}", unheard.color)
    assert unheard.symbol


def test_arms_that_say_no_look_have_different_ones_as_long_as_there_are_any() -> None:
    def looks(names: list[str]) -> list[tuple[str, str]]:
        return [(look(name).color, look(name).symbol) for name in names]

    new = [type(f"New{i}", (Arm,), {"name": f"new_{i}"}) for i in range(len(PALETTE))]
    with installed(*new):
        assert {color for color, _ in looks([arm.name for arm in new])} == set(PALETTE)
        assert {symbol for _, symbol in looks([arm.name for arm in new])} == set(MARKERS)
    gone = ["went", "left", "gone"]
    assert len({color for color, _ in looks(gone)}) == len({symbol for _, symbol in looks(gone)}) == 3
    assert looks(gone) == looks(gone), "and keep them"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *[(name, "must be a word of lower-case letters, got") for name in ("Wide", "2nd", "two words", "")],
        ("plain", "needs a name of its own, 'plain' is that of models.arms.plain"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(name: str, rule: str) -> None:
    before = list(ARMS)
    with pytest.raises(ValueError, match=rule):
        add(type("New", (Arm,), {"name": name}))
    assert list(ARMS) == before


@pytest.mark.parametrize("arm", [*(type(arm) for arm in ARMS.values()), Halved, Gated, Bottleneck])
def test_an_arm_builds_learns_and_costs_what_it_says(arm: type[Arm]) -> None:
    """Torch's own counter is asked, on architectures from all over the family."""
    with installed(*([arm] if arm.name not in ARMS else [])):
        for architecture in sample_architectures(15, seed=4):
            architecture = with_block(architecture, arm.name)
            network = build(architecture, seed=1)
            with FlopCounterMode(display=False) as counter:
                logits_NK = network(torch.randn(2, *architecture.image_shape))
            cost = measure_cost(architecture)
            assert 2 * 2 * cost.macs == counter.get_total_flops(), architecture
            assert cost.params == sum(parameter.numel() for parameter in network.parameters())
            logits_NK.logsumexp(1).sum().backward()
            assert all(parameter.grad is not None for parameter in network.parameters())
            blocks = [part for part in architecture.parts if part.kind == "block"]
            assert {part.depth for part in blocks} == {ARMS[arm.name].depth}


def test_twins_begin_alike_in_what_they_share_and_what_one_has_alone_is_drawn_apart() -> None:
    with installed(Halved, Gated):
        for init in ("default", "he"):
            twins = {
                name: build(
                    Architecture(
                        image_shape=(1, 8, 8), classes=10, block=name, init=init, transition="pool",
                        stages=(Stage(width=8, blocks=2), Stage(width=12, blocks=1)),
                    ),
                    seed=7,
                )
                for name in (*OURS, "halved", "gated")
            }  # fmt: skip
            assert len({weights_fingerprint(twin) for twin in twins.values()}) == 1
            plain = dict(twins["plain"].named_parameters())
            gated = dict(twins["gated"].named_parameters())
            for name, parameter in plain.items():
                assert torch.equal(parameter, gated[name]), name
            gates = [parameter for name, parameter in gated.items() if name.endswith("conv3.weight")]
            assert len({str(gate.flatten()[:4].tolist()) for gate in gates}) == len(gates) == 3, (
                "none is another's"
            )
            again = dict(build(twins["gated"].architecture, seed=7).named_parameters())
            assert all(torch.equal(again[name], parameter) for name, parameter in gated.items())
            other = dict(build(twins["gated"].architecture, seed=8).named_parameters())
            assert not any(torch.equal(other[name], gated[name]) for name in gated if "conv3.weight" in name)


def test_who_shares_weights_with_whom() -> None:
    with installed(Halved, Gated, Bottleneck):
        sharing = ("plain", "residual", "preact", "halved", "gated")
        for name in sharing:
            assert all(ARMS[name].shares_weights_with(ARMS[other]) for other in sharing)
            assert not ARMS[name].shares_weights_with(ARMS["bottleneck"])
        assert [ARMS[name].depth for name in ("plain", "gated", "bottleneck")] == [2, 2, 3]


def test_what_zero_branch_means_to_each() -> None:
    none, batch = NORMS["none"], NORMS["batch"]
    assert [ARMS["plain"].start(norm, True) for norm in (none, batch)] == ["usual", "usual"]
    assert [ARMS["residual"].start(norm, True) for norm in (none, batch)] == ["scale", "gain"]
    assert [ARMS["preact"].start(norm, True) for norm in (none, batch)] == ["scale", "scale"]
    assert {arm.start(norm, False) for arm in ARMS.values() for norm in (none, batch)} == {"usual"}


def test_an_arm_may_refuse_a_network() -> None:
    class Even(Residual):
        name = "even"

        def refusal(self, architecture: Architecture) -> str:
            odd = [stage.width for stage in architecture.stages if stage.width % 2]
            return f"stages of even have even widths, got {odd[0]}" if odd else ""

    with installed(Even):
        stages = (Stage(width=8, blocks=1),)
        even = Architecture(image_shape=(1, 8, 8), classes=2, block="even", stages=stages)
        with pytest.raises(ValueError, match="stages of even have even widths, got 9"):
            replace(even, stages=(Stage(width=9, blocks=1),))
