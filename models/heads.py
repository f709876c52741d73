"""Heads: what of the last maps the classifier reads. Adding one is one entry here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


class Head:
    """The step from maps to the features of the classifier, which is a linear layer."""

    name: ClassVar[str]

    def features(self, width: int, size: tuple[int, int]) -> int:
        """How many features maps of `width` channels and `size` (height, width) have."""
        raise TypeError(f"the head {self.name} counts no features")

    def pool(self, active_NCHW: Tensor) -> Tensor:
        """The features, features_NF."""
        raise TypeError(f"the head {self.name} pools nothing")


class Average(Head):
    """The mean of each channel."""

    name = "average"

    def features(self, width: int, size: tuple[int, int]) -> int:
        return width

    def pool(self, active_NCHW: Tensor) -> Tensor:
        return active_NCHW.mean((2, 3))


class Flatten(Head):
    """Every number of the maps."""

    name = "flatten"

    def features(self, width: int, size: tuple[int, int]) -> int:
        return width * size[0] * size[1]

    def pool(self, active_NCHW: Tensor) -> Tensor:
        return active_NCHW.flatten(1)


HEADS: dict[str, Head] = {head.name: head for head in (Average(), Flatten())}
"""Every head, by its name in a study file."""
