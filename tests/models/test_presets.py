from __future__ import annotations

import pytest

from models.architecture import Stage
from models.arms.arm import ARMS
from models.presets import PRESETS, preset


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet20", 3), ("resnet32", 5), ("resnet44", 7), ("resnet110", 18)]
)
def test_resnets_are_those_of_the_paper(name: str, blocks: int) -> None:
    """Section 4.2 of He et al. 2015: 6n + 2 layers, the last of them the classifier."""
    known = preset(name)
    assert known.depth + 1 == 6 * blocks + 2 == int(name.removeprefix("resnet"))
    assert known.stages == tuple(Stage(width=width, blocks=blocks) for width in (16, 32, 64))
    assert (known.image_shape, known.block, known.norm, known.transition) == (
        (3, 32, 32), "residual", "batch", "stride",
    )  # fmt: skip


def test_every_preset_exists_in_every_arm() -> None:
    for name in PRESETS:
        for arm in ARMS:
            assert preset(name, arm).block == arm


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ValueError, match=f"preset must be one of {', '.join(PRESETS)}, got 'vgg'"):
        preset("vgg")
