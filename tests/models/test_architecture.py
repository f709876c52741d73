from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from models.architecture import LATER, MAX_STAGES, Architecture, Stage
from models.arms.arm import ARMS
from models.heads import HEADS
from models.inits import INITS
from models.norms import NORMS
from models.presets import preset
from tests.support.arms import OURS
from tests.support.made_up import Bottleneck, Gated, installed


def test_json_round_trip_is_lossless(architectures: list[Architecture]) -> None:
    for architecture in architectures:
        assert Architecture.from_json(architecture.to_json()) == architecture


def test_is_frozen_and_hashable(architectures: list[Architecture]) -> None:
    assert len(set(architectures)) > 90
    with pytest.raises(dataclasses.FrozenInstanceError):
        architectures[0].norm = "batch"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"block": "plain"}',
        "not json",
        preset("post").to_json().replace('"blocks"', '"count"'),
        preset("post").to_json().replace("[1, 28, 28]", "28"),
    ],
)
def test_from_json_refuses_what_it_did_not_write(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own error for text that is not JSON
        Architecture.from_json(text)


def test_from_json_refuses_unknown_keys() -> None:
    values = json.loads(preset("post").to_json()) | {"colour": "red"}
    with pytest.raises(ValueError, match="an architecture has the keys"):
        Architecture.from_json(json.dumps(values))


def test_prints_what_matters() -> None:
    assert str(preset("resnet20", "preact")) == "preact, 19 convs [16×3, 32×3, 64×3], norm batch, init he"
    zero = dataclasses.replace(preset("post"), zero_branch=True)
    assert str(zero) == "residual, 6 convs [16×1, 32×1], norm none, init default, zero branch"


def test_fingerprint_is_recorded() -> None:
    """Stored studies are compared by it, so it may not change by accident."""
    assert preset("post").fingerprint() == "85231f6ed7111ba3"
    assert preset("resnet20").fingerprint() == "9235e0bfc3e2d8ac"


def test_a_field_that_came_later_changes_nothing_that_was_stored_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here it is the stem's pooling, and the nets of before are those that have none."""
    old, new = preset("resnet20"), dataclasses.replace(preset("resnet20"), stem_pool=True)
    stored = {key: value for key, value in json.loads(old.to_json()).items() if key != "stem_pool"}
    with pytest.raises(ValueError, match="an architecture has the keys"):
        Architecture.from_json(json.dumps(stored))
    fingerprint_then = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()[:16]
    monkeypatch.setitem(LATER, "stem_pool", False)
    assert Architecture.from_json(json.dumps(stored)) == old
    assert json.loads(old.to_json()) == stored
    assert old.fingerprint() == fingerprint_then
    assert Architecture.from_json(new.to_json()) == new
    assert new.fingerprint() != old.fingerprint()


def test_fingerprint_ignores_what_the_arm_does_not_use() -> None:
    for block in OURS:
        a = preset("resnet20", block)
        b = dataclasses.replace(a, zero_branch=True)
        assert (a.fingerprint() == b.fingerprint()) == (block == "plain")
    one_stage = dataclasses.replace(preset("post"), stages=(Stage(width=16, blocks=1),))
    assert one_stage.fingerprint() == dataclasses.replace(one_stage, transition="stride").fingerprint()


def test_fingerprints_differ_wherever_networks_do(architectures: list[Architecture]) -> None:
    assert len({a.fingerprint() for a in architectures}) == len(set(architectures))


@pytest.mark.parametrize(("name", "depth"), [("post", 6), ("resnet20", 19), ("resnet110", 109)])
def test_depth_counts_convs_on_the_main_path(name: str, depth: int) -> None:
    for block in OURS:
        assert preset(name, block).depth == depth


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "dense"}, f"block must be one of {', '.join(ARMS)}, got 'dense'"),
        ({"norm": "unheard"}, f"norm must be one of {', '.join(NORMS)}, got 'unheard'"),
        ({"zero_branch": 1}, "zero_branch must be true or false, got 1"),
        ({"classes": 1}, "classes must be a whole number from 2 to"),
        (
            {"image_shape": (5, 8, 8)},
            r"image_shape\[0\] \(channels\) must be a whole number from 1 to 4, got 5",
        ),
        ({"stages": ()}, "the number of stages must be a whole number from 1"),
        ({"stages": (Stage(width=0, blocks=1),)}, r"stages\[0\].width must be a whole number from 1 to 4096"),
        ({"stages": (Stage(width=8, blocks=10**9),)}, r"stages\[0\].blocks must be a whole number from 1"),
        (
            {"stages": (Stage(width=8, blocks=1), Stage(width=4, blocks=1)), "transition": "stride"},
            "only add",
        ),
    ],
)
def test_errors_name_the_field_the_rule_and_the_value(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(preset("post"), **change)  # type: ignore[arg-type]


def test_a_network_that_does_not_fit_its_image_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="stage 2 would shrink below 1 pixel: maps of 2x2 cannot pass a 5x5"):
        dataclasses.replace(preset("post"), image_shape=(1, 8, 8))
    with pytest.raises(ValueError, match="the stem would shrink below 1 pixel"):
        dataclasses.replace(preset("post"), image_shape=(1, 28, 4))


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("block", ", ".join(ARMS)),
        ("norm", ", ".join(NORMS)),
        ("init", ", ".join(INITS)),
        ("head", ", ".join(HEADS)),
        ("padding", "same, valid"),
        ("transition", "pool, stride"),
    ],
)
@pytest.mark.parametrize("value", ["unheard", "", None, 1])
def test_what_is_not_installed_is_refused_by_name_and_never_taken_for_something_else(
    field: str, known: str, value: object
) -> None:
    message = f"{field} must be one of {known}, got {value!r}"
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(preset("post"), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        Architecture.from_json(json.dumps(json.loads(preset("post").to_json()) | {field: value}))


def test_bounds_are_allowed_and_what_is_beyond_them_is_not() -> None:
    most = tuple(Stage(width=4, blocks=1) for _ in range(MAX_STAGES))
    deep = dataclasses.replace(preset("resnet20"), image_shape=(1, 1024, 1024), stages=most)
    assert len(deep.stages) == MAX_STAGES
    for change in (
        {"image_shape": (1, 1025, 8)},
        {"image_shape": (1, 8, 1025)},
        {"classes": 100_001},
        {"stages": (Stage(width=4097, blocks=1),)},
        {"stages": (Stage(width=8, blocks=257),)},
        {"stages": (*most, Stage(width=4, blocks=1))},
    ):
        with pytest.raises(ValueError, match="must be a whole number from"):
            dataclasses.replace(deep, **change)


def test_widths_may_fall_where_no_shortcut_has_to_follow() -> None:
    """Zero padding adds channels; the convolution of a pooled transition may drop them."""
    narrowing = (Stage(width=8, blocks=1), Stage(width=4, blocks=1))
    assert dataclasses.replace(preset("post"), stages=narrowing, transition="pool").depth == 6
    with pytest.raises(ValueError, match=r"stages\[1\].width must be at least stages\[0\].width=8 .* got 4"):
        dataclasses.replace(preset("post"), stages=narrowing, transition="stride")


def test_other_arms_count_their_own_convolutions_and_read_their_own_zero_branch() -> None:
    with installed(Bottleneck, Gated):
        assert preset("resnet20", "bottleneck").depth == 1 + 9 * 3
        assert preset("resnet20", "gated").depth == 19, "a gate is not on the main path"
        zero = dataclasses.replace(preset("resnet20", "gated"), zero_branch=True)
        assert str(zero).endswith("init he, zero branch")
    assert str(dataclasses.replace(preset("resnet20", "plain"), zero_branch=True)).endswith("init he")
