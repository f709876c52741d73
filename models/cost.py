"""The price of an architecture, counted from its value alone: no network is built for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.architecture import Architecture


@dataclass(frozen=True)
class Cost:
    params: int
    """Trained numbers."""
    macs: int
    """Multiply-adds of convs and classifier for one image, forward."""


@dataclass(frozen=True)
class _Conv:
    width_in: int
    width: int
    kernel: int
    pixels: int
    """Of its output."""

    @property
    def weights(self) -> int:
        return self.width_in * self.width * self.kernel**2


def measure_cost(architecture: Architecture) -> Cost:
    a = architecture
    convs = list(_convs(a))
    # a norm brings a scale and a shift for each channel, and the conv before it has no bias
    per_channel = 2 if a.norm == "batch" else 1
    height, width = a.map_sizes[-1] if a.head == "flatten" else (1, 1)
    features = a.stages[-1].width * height * width
    params = sum(conv.weights + per_channel * conv.width for conv in convs) + (features + 1) * a.classes
    # the scalar of a branch that starts at zero, where it is not a norm's scale that does
    if a.zero_branch and (a.block == "preact" or (a.block == "residual" and a.norm == "none")):
        params += sum(stage.blocks for stage in a.stages)
    return Cost(params, sum(conv.weights * conv.pixels for conv in convs) + features * a.classes)


def _convs(a: Architecture) -> Iterator[_Conv]:
    lost = a.kernel - 1 if a.padding == "valid" else 0
    sizes = a.map_sizes
    before, width = (a.image_shape[1], a.image_shape[2]), a.image_shape[0]
    for i, (stage, (rows, columns)) in enumerate(zip(a.stages, sizes, strict=True)):
        if i == 0 or a.transition == "pool":  # the stem, or a conv between stages
            yield _Conv(width, stage.width, a.kernel, (before[0] - lost) * (before[1] - lost))
            width = stage.width
        for _ in range(stage.blocks):
            yield _Conv(width, stage.width, 3, rows * columns)
            yield _Conv(stage.width, stage.width, 3, rows * columns)
            width = stage.width
        before = (rows, columns)
