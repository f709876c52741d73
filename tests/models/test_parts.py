"""The parts of a network against the network that is built from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.architecture import Architecture, Stage
from models.arms.arm import ARMS, Arm
from models.block import Block
from models.network import ConvUnit, Network, build
from models.norms import NORMS
from models.parts import Conv, Part
from tests.support.made_up import Bottleneck, Gated, group_norm, installed
from tests.support.studies import sample_architectures

Maps = tuple[int, int, int]
"""Channels, height and width."""


def maps_of(network: Network) -> dict[nn.Module, tuple[Maps, Maps]]:
    """The maps that every module reads and gives for one image."""
    seen: dict[nn.Module, tuple[Maps, Maps]] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...], found: Tensor | tuple[Tensor, ...]) -> None:
        stream = found[0] if isinstance(found, tuple) else found
        seen[module] = (tuple(given[0].shape[1:]), tuple(stream.shape[1:]))  # type: ignore[assignment]

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    network.eval()(torch.zeros(1, *network.architecture.image_shape))
    for hook in hooks:
        hook.remove()
    return seen


def units_of(network: Network) -> list[ConvUnit | Block]:
    """Stem, transitions and blocks, in the order in which images pass them."""
    units: list[ConvUnit | Block] = [network.stem]
    for i, blocks in enumerate(network.stages):
        if i and len(network.transitions):
            units.append(network.transitions[i - 1])  # type: ignore[arg-type]
        units.extend(blocks)  # type: ignore[arg-type]
    return units


def convs_of(unit: ConvUnit | Block) -> list[nn.Conv2d]:
    if isinstance(unit, ConvUnit):
        return [unit.conv]
    return [unit.layer(f"conv{i}") for i, _ in enumerate(unit.part.convs, start=1)]  # type: ignore[misc]


@pytest.mark.parametrize("arm", [*(type(arm) for arm in ARMS.values()), Gated, Bottleneck])
def test_parts_are_what_a_built_network_does(arm: type[Arm]) -> None:
    """Sizes and channels of all maps by hooks; stride, depth and parameters by the layers."""
    with installed(*([arm] if arm.name not in ARMS else [])), group_norm():
        for architecture in sample_architectures(25, seed=9):
            architecture = replace(architecture, block=arm.name)
            network, norm = build(architecture, seed=0), NORMS[architecture.norm]
            maps = maps_of(network)
            units = units_of(network)
            assert len(units) == len(architecture.parts)
            for unit, part in zip(units, architecture.parts, strict=True):
                assert maps[unit] == ((part.width_in, *part.size), (part.width, *part.output)), part
                assert part.params(norm) == sum(parameter.numel() for parameter in unit.parameters()), part
                shrinking = 1
                for conv, (fact, size, output) in zip(convs_of(unit), part.traced(), strict=True):
                    assert maps[conv] == ((fact.width_in, *size), (fact.width, *output)), fact
                    assert conv.stride == (fact.stride, fact.stride)
                    assert conv.kernel_size == (fact.kernel, fact.kernel)
                    shrinking *= conv.stride[0]
                assert part.stride == shrinking
                assert part.depth == sum(not conv.gate for conv in part.convs)
            assert architecture.features == network.head.in_features
            assert architecture.depth == sum(part.depth for part in architecture.parts)


def test_kinds_and_stages_are_named_in_order() -> None:
    pooled = Architecture(
        image_shape=(1, 16, 16), classes=2, block="plain", transition="pool",
        stages=(Stage(width=4, blocks=2), Stage(width=8, blocks=1)),
    )  # fmt: skip
    assert [(part.kind, part.stage) for part in pooled.parts] == [
        ("stem", 0), ("block", 0), ("block", 0), ("transition", 1), ("block", 1),
    ]  # fmt: skip
    strided = replace(pooled, transition="stride")
    assert [(part.kind, part.stage, part.stride) for part in strided.parts] == [
        ("stem", 0, 1), ("block", 0, 1), ("block", 0, 1), ("block", 1, 2),
    ]  # fmt: skip
    assert (strided.parts[-1].width_in, strided.parts[-1].width) == (4, 8)


@pytest.mark.parametrize(
    ("conv", "output"),
    [
        (Conv(width_in=1, width=1), (5, 8)),
        (Conv(width_in=1, width=1, stride=2), (3, 4)),
        (Conv(width_in=1, width=1, kernel=5, padded=False), (1, 4)),
        (Conv(width_in=1, width=1, kernel=7, padded=False), (-1, 2)),
        (Conv(width_in=1, width=1, kernel=3, padded=False, stride=2), (2, 3)),
        (Conv(width_in=1, width=1, kernel=1, gate=True), (1, 1)),
    ],
)
def test_sizes_of_maps_by_hand(conv: Conv, output: tuple[int, int]) -> None:
    assert conv.output((5, 8)) == output


def test_parameters_by_hand() -> None:
    """Weights, and of each channel a bias or two numbers of the norm; a bias alone where no norm follows."""
    conv = Conv(width_in=3, width=8, kernel=5)
    assert (conv.weights, conv.params(NORMS["none"]), conv.params(NORMS["batch"])) == (600, 608, 616)
    bare = replace(conv, normed=False)
    assert (bare.params(NORMS["none"]), bare.params(NORMS["batch"])) == (608, 608)
    part = Part(kind="block", stage=0, size=(7, 9), convs=(conv, bare), scalars=1, pool=True)
    assert part.params(NORMS["batch"]) == 616 + 608 + 1
    assert part.output == (3, 4), "pooling leaves out what does not fill a window"
    assert part.macs == 2 * 600 * 7 * 9, "before it pools"


def test_a_gate_stands_beside_the_main_path_wherever_it_is() -> None:
    """It reads the mean of each channel of what is before it; what comes after it reads the same."""
    first, last = Conv(width_in=4, width=6, stride=2), Conv(width_in=6, width=8)
    gate = Conv(width_in=6, width=3, kernel=1, normed=False, gate=True, own=True)
    for convs in ((first, gate, last), (first, last, gate), (gate, first, last)):
        part = Part(kind="block", stage=0, size=(9, 6), convs=convs)
        assert (part.depth, part.stride, part.width, part.output) == (2, 2, 8, (5, 3))
        sizes = {conv: (size, output) for conv, size, output in part.traced()}
        assert sizes == {
            first: ((9, 6), (5, 3)), last: ((5, 3), (5, 3)), gate: ((1, 1), (1, 1)),
        }  # fmt: skip
        assert part.macs == (first.weights + last.weights) * 15 + gate.weights
