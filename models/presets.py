"""Known networks by name."""

from __future__ import annotations

from models.architecture import Architecture, Stage
from models.rules import OneOf, obey

_RESNET_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
PRESETS = ("post", *_RESNET_BLOCKS)


def preset(name: str, block: str = "residual") -> Architecture:
    """A known network: `post` (41,514 parameters, 28x28x1) or a CIFAR-10 ResNet of He et al. 2015. Raises
    ValueError naming the known ones."""
    obey("preset", name, OneOf(*PRESETS))
    if name == "post":
        return Architecture(
            image_shape=(1, 28, 28),
            classes=10,
            block=block,
            stages=(Stage(width=16, blocks=1), Stage(width=32, blocks=1)),
            kernel=5,
            padding="valid",
            stem_pool=True,
            transition="pool",
            head="flatten",
        )
    return Architecture(
        image_shape=(3, 32, 32),
        classes=10,
        block=block,
        stages=tuple(Stage(width=width, blocks=_RESNET_BLOCKS[name]) for width in (16, 32, 64)),
        norm="batch",
        init="he",
    )
