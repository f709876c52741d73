"""Rules for images and labels: what cannot be trained on is refused with the source and the finding."""

from __future__ import annotations

import numpy as np

from search.data.images import Images, Raw
from search.errors import DataError

LARGEST_SIDE, MOST_CHANNELS = 1024, 4


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise DataError(message)


def check_images(source: str, part: str, pixels: np.ndarray, labels: np.ndarray) -> Images:
    """The arrays as Images; pixels may come as NHW, labels as (N, 1). Raises DataError naming the broken
    rule."""
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


def check_classes(raw: Raw, train: Images, test: Images | None) -> tuple[str, ...]:
    """Checks the rules between labels, class names and parts; returns the class names. Raises DataError."""
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
