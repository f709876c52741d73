"""Heads: what of the last maps the classifier, a linear layer, reads. Adding one is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Head:
    """A way from the last maps to the classifier."""

    features: Callable[[int, tuple[int, int]], int]
    """The number of features of maps, from their channels and their size (height, width)."""
    pool: Callable[[Tensor], Tensor]
    """Makes features_NF of active_NCHW."""


HEADS = {
    "average": Head(lambda width, size: width, lambda active_NCHW: active_NCHW.mean((2, 3))),
    "flatten": Head(
        lambda width, size: width * size[0] * size[1], lambda active_NCHW: active_NCHW.flatten(1)
    ),
}
"""Every head, by its name in a study file: the mean of each channel, or every number of the maps."""
