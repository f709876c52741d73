from __future__ import annotations

import dataclasses
import json

import pytest

from models.architecture import Architecture, Stage
from models.presets import PRESETS, preset


def test_json_round_trip_is_lossless(architectures: list[Architecture]) -> None:
    for architecture in architectures:
        assert Architecture.from_json(architecture.to_json()) == architecture


def test_is_frozen_and_hashable(architectures: list[Architecture]) -> None:
    assert len(set(architectures)) > 90
    with pytest.raises(dataclasses.FrozenInstanceError):
        architectures[0].norm = "batch"  # type: ignore[misc]


@pytest.mark.parametrize("text", ["[]", "{}", '{"block": "plain"}', "not json"])
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


def test_fingerprint_ignores_what_the_arm_does_not_use() -> None:
    for block in BLOCKS:
        a = preset("resnet20", block)
        b = dataclasses.replace(a, zero_branch=True)
        assert (a.fingerprint() == b.fingerprint()) == (block == "plain")
    one_stage = dataclasses.replace(preset("post"), stages=(Stage(width=16, blocks=1),))
    assert one_stage.fingerprint() == dataclasses.replace(one_stage, transition="stride").fingerprint()


def test_fingerprints_differ_wherever_networks_do(architectures: list[Architecture]) -> None:
    assert len({a.fingerprint() for a in architectures}) == len(set(architectures))


@pytest.mark.parametrize(("name", "depth"), [("post", 6), ("resnet20", 19), ("resnet110", 109)])
def test_depth_counts_convs_on_the_main_path(name: str, depth: int) -> None:
    for block in BLOCKS:
        assert preset(name, block).depth == depth


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "dense"}, "block must be one of plain, residual, preact, got 'dense'"),
        ({"norm": "layer"}, "norm must be one of none, batch, got 'layer'"),
        ({"zero_branch": 1}, "zero_branch must be one of False, True, got 1"),
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


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ValueError, match=f"preset must be one of {', '.join(PRESETS)}, got 'vgg'"):
        preset("vgg")
