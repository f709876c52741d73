"""Images and labels of every data set in one form, split once and for good into train, val and test."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from search import downloads, imagefiles
from search.errors import DataError, SpecError
from search.splits import limited, split

NAMES = ("digits", *downloads.CLASSES, "npz", "folder")
LARGEST_SIDE, MOST_CHANNELS = 1024, 4


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The [data] table of a study file; SpecError where a value breaks a rule."""

    name: str
    path: str | None = None  # npz and folder: absolute, or relative to the data folder
    image_size: int | tuple[int, int] | None = (
        None  # folder: pixels, (height, width) or one number for a square
    )
    limit: int | None = None  # at most this many images in train and val together
    val_fraction: float = 0.2  # of the training part
    test_fraction: float = 0.2  # used only where the data set brings no test part of its own
    seed: int = 0  # of the splits

    def __post_init__(self) -> None:
        _obey(self.name in NAMES, f"name must be one of {', '.join(NAMES)}", self.name)
        if self.name in ("npz", "folder"):
            named = isinstance(self.path, str) and self.path != ""
            _obey(named, f"path must name the file or folder for data.name = {self.name!r}", self.path)
        else:
            _obey(self.path is None, f"path must be left out for data.name = {self.name!r}", self.path)
        if isinstance(self.image_size, list):  # as TOML brings it
            object.__setattr__(self, "image_size", tuple(self.image_size))
        if self.name == "folder":
            sides = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,) * 2
            fits = len(sides) == 2 and all(_whole(side, 1, 512) for side in sides)
            _obey(fits, "image_size must be 1 to 512 pixels, or [height, width]", self.image_size)
        else:
            rule = f"image_size must be left out for data.name = {self.name!r}"
            _obey(self.image_size is None, rule, self.image_size)
        _obey(
            self.limit is None or _whole(self.limit, 2),
            "limit must be a whole number of at least 2",
            self.limit,
        )
        for key, fraction in (("val_fraction", self.val_fraction), ("test_fraction", self.test_fraction)):
            number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
            _obey(number and 0 < fraction <= 0.9, f"{key} must be above 0 and at most 0.9", fraction)
        _obey(_whole(self.seed, 0), "seed must be a whole number of at least 0", self.seed)


def _obey(ok: bool, rule: str, found: object) -> None:
    if not ok:
        raise SpecError(f"data.{rule}, got {found!r}")


def _whole(value: object, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


@dataclass(frozen=True)
class Images:
    """Pixels in uint8 or float32 of any range; labels in int64, 0 to classes - 1."""

    pixels_NHWC: np.ndarray
    labels_N: np.ndarray

    def at(self, indices: np.ndarray) -> "Images":
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
        """(channels, height, width)"""
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


class _Raw(NamedTuple):
    """A data set as it lies on the disk, unchecked; labels count from 0 where the class names are None."""

    source: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray] | None
    class_names: Sequence[str] | None


@dataclass(frozen=True)
class Whole:
    """A data set, checked and not yet split; `test` is None where it brings no test part of its own."""

    train: Images
    test: Images | None
    class_names: tuple[str, ...]

    def split(self, config: DataConfig) -> Parts:
        """By config's limit, fractions and seed. Raises DataError when the limit leaves a class too few."""
        train, test = self.train, self.test
        if test is None:
            rest, tested = split(train.labels_N, config.test_fraction, config.seed, keep=2)
            train, test = train.at(rest), train.at(tested)
        if config.limit is not None and config.limit < len(train.labels_N):
            train = train.at(limited(train.labels_N, config.limit, config.seed, self.class_names))
        trained, validated = split(train.labels_N, config.val_fraction, config.seed)
        return Parts(train.at(trained), train.at(validated), test, self.class_names)


def read(config: DataConfig, root: Path | None = None) -> Whole:
    """Reads and checks; `root`, the data folder, is $ARCHSEARCH_DATA or ./data if None. Raises DataError."""
    root = root or Path(os.environ.get("ARCHSEARCH_DATA") or "data")
    try:
        raw = _read(config, root)
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user in ~user
        raise DataError(f"{config.path or config.name} in {root} cannot be read: {error}") from None
    train = check(raw.source, "train", *raw.train)
    test = check(raw.source, "test", *raw.test) if raw.test else None
    return Whole(train, test, _check_classes(raw, train, test))


def load(config: DataConfig, root: Path | None = None) -> Parts:
    """What `read` finds, split. Raises DataError."""
    return read(config, root).split(config)


def _read(config: DataConfig, root: Path) -> _Raw:
    if config.name == "digits":
        return _read_digits()
    if config.name in downloads.CLASSES:
        return _Raw(f"{config.name} in {root}", *downloads.read(config.name, root))
    path = root / Path(config.path or "").expanduser()
    if config.name == "npz":
        return _Raw(str(path), *imagefiles.read_npz(path), class_names=None)
    size = config.image_size or 0
    return _Raw(str(path), *imagefiles.read_folder(path, (size, size) if isinstance(size, int) else size))


def _read_digits() -> _Raw:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels_NHW = digits.images.astype(np.uint8)  # whole numbers from 0 to 16
    return _Raw("digits", (pixels_NHW, digits.target), None, tuple(str(name) for name in digits.target_names))


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise DataError(message)


def check(source: str, part: str, pixels: np.ndarray, labels: np.ndarray) -> Images:
    """The arrays as Images; pixels may come as NHW, labels as (N, 1). DataError names the broken rule."""
    x, y = f"{source}: x_{part}", f"{source}: y_{part}"
    _require(pixels.ndim in (3, 4), f"{x} must have shape (N, H, W) or (N, H, W, C), found {pixels.shape}")
    pixels_NHWC = pixels if pixels.ndim == 4 else pixels[..., np.newaxis]
    count, height, width, channels = pixels_NHWC.shape
    _require(count > 0, f"{x} holds no images, found shape {pixels.shape}")
    rule = f"{x} must have 1 to {MOST_CHANNELS} channels in its last dimension (N, H, W, C)"
    _require(1 <= channels <= MOST_CHANNELS, f"{rule}, found {channels} in shape {pixels.shape}")
    fits = 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE
    _require(fits, f"{x} must have sides of 1 to {LARGEST_SIDE} pixels, found {height} x {width}")
    rule = f"{x} must be uint8 or floating point, found {pixels.dtype}; convert whole numbers 0..255 to uint8"
    _require(pixels.dtype == np.uint8 or pixels.dtype.kind == "f", rule)
    if pixels.dtype != np.uint8:
        with np.errstate(over="ignore"):
            pixels_NHWC = pixels_NHWC.astype(np.float32)
        bad = pixels_NHWC.size - int(np.isfinite(pixels_NHWC).sum())
        _require(bad == 0, f"{x} must be finite in float32, found {bad} pixels that are NaN or infinite")
    labels_N = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    _require(labels_N.ndim == 1, f"{y} must have shape (N,) or (N, 1), found {labels.shape}")
    _require(labels_N.dtype.kind in "iu", f"{y} must be integers, found {labels.dtype}")
    _require(
        len(labels_N) == count, f"{y} must hold one label per image, found {len(labels_N)} for {count} images"
    )
    _require(labels_N.min() >= 0, f"{y} must count classes from 0, found {labels_N.min()}")
    return Images(pixels_NHWC, labels_N.astype(np.int64))


def _check_classes(raw: _Raw, train: Images, test: Images | None) -> tuple[str, ...]:
    """The rules between labels, class names and parts; the class names."""
    y = f"{raw.source}: y_train"
    present, count = np.unique(train.labels_N, return_counts=True)
    classes = len(raw.class_names) if raw.class_names else int(present[-1]) + 1
    _require(present[-1] < classes, f"{y} must be below the {classes} classes, found {present[-1]}")
    gaps = np.flatnonzero(present != np.arange(len(present)))
    gap = int(gaps[0]) if len(gaps) else len(present)
    _require(
        gap == classes, f"{y} must hold every class from 0 to {classes - 1}, found no image of class {gap}"
    )
    _require(classes > 1, f"{raw.source} must hold at least 2 classes, found 1")
    class_names = tuple(raw.class_names or map(str, range(classes)))
    need, parts = (3, "train, val and test") if test is None else (2, "train and val")
    rarest = int(count.argmin())
    rule = f"{raw.source}: class {class_names[rarest]!r} must have at least {need} images, for {parts}"
    _require(count[rarest] >= need, f"{rule}, found {count[rarest]}")
    if test is not None:
        shapes = train.pixels_NHWC.shape[1:], test.pixels_NHWC.shape[1:]
        rule = f"{raw.source}: images of train and test must have one shape (H, W, C)"
        _require(shapes[0] == shapes[1], f"{rule}, found {shapes[0]} and {shapes[1]}")
        dtypes = train.pixels_NHWC.dtype, test.pixels_NHWC.dtype
        rule = f"{raw.source}: x_train and x_test must both be uint8 or both be floating point"
        _require(dtypes[0] == dtypes[1], f"{rule}, found {dtypes[0]} and {dtypes[1]}")
        highest = test.labels_N.max()
        rule = f"{raw.source}: y_test must be within the training classes 0 to {classes - 1}"
        _require(highest < classes, f"{rule}, found {highest}")
        absent = np.setdiff1d(present, test.labels_N)
        rule = f"{raw.source}: y_test must hold every class"
        _require(len(absent) == 0, f"{rule}, found no image of {', '.join(map(str, absent[:5]))}")
    return class_names
