"""Images and labels of every data set in one form: as read, and as split.

Suffixes of arrays: N images, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Pixels and labels."""


class Raw(NamedTuple):
    """A data set as it lies on the disk, unchecked."""

    source: str
    """What a person would call it: a name, or a path."""
    train: Pair
    test: Pair | None
    """None where it brings no test part of its own."""
    class_names: Sequence[str] | None
    """None where labels are all that tells classes apart."""


@dataclass(frozen=True)
class Images:
    """Pixels in uint8 or float32 of any range; labels in int64, 0 to classes - 1."""

    pixels_NHWC: np.ndarray
    labels_N: np.ndarray

    def at(self, indices: np.ndarray) -> Images:
        """The images with these indices, in their order."""
        return Images(self.pixels_NHWC[indices], self.labels_N[indices])


@dataclass(frozen=True)
class Parts:
    """The three disjoint parts of a data set."""

    train: Images
    val: Images
    test: Images
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, height, width, channels = self.train.pixels_NHWC.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def fingerprint(self) -> str:
        """16 hex digits, equal only for equal images, labels and class names in equal parts and order."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for part in (self.train, self.val, self.test):
            for array in (part.pixels_NHWC, part.labels_N):
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]
