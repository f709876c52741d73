"""Heads: what of the last maps the classifier, a linear layer, reads. Adding one is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Head:
    features: Callable[[int, tuple[int, int]], int]
    """How many features maps of so many channels and such a size (height, width) have."""
    pool: Callable[[Tensor], Tensor]
    """From active_NCHW to features_NF."""


HEADS = {
    "average": Head(lambda width, size: width, lambda active_NCHW: active_NCHW.mean((2, 3))),
    "flatten": Head(
        lambda width, size: width * size[0] * size[1], lambda active_NCHW: active_NCHW.flatten(1)
    ),
}
"""Every head, by its name in a study file: the mean of each channel, or every number of the maps."""
