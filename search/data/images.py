"""Images and labels of every data set in one form: as read, as checked, and as split.

Suffixes of arrays: N images, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from search.data.splits import limited, split

if TYPE_CHECKING:
    from search.data.config import DataConfig

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


@dataclass(frozen=True)
class DataSet:
    """A data set, checked and not yet split."""

    train: Images
    test: Images | None
    """None where it brings no test part of its own."""
    class_names: tuple[str, ...]

    def split(self, config: DataConfig) -> Parts:
        """Splits by the config's limit, fractions and seed. Raises DataError when the limit leaves a class
        too few images."""
        train, test = self.train, self.test
        if test is None:
            rest, tested = split(train.labels_N, config.test_fraction, config.seed, keep=2)
            train, test = train.at(rest), train.at(tested)
        if config.limit is not None and config.limit < len(train.labels_N):
            train = train.at(limited(train.labels_N, config.limit, config.seed, self.class_names))
        trained, validated = split(train.labels_N, config.val_fraction, config.seed)
        return Parts(train.at(trained), train.at(validated), test, self.class_names)
