"""Rules for images and labels: everything that breaks one is refused with the source and the finding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search.data.checks import LARGEST_SIDE, check_classes, check_images
from search.data.datasets import DataSet
from search.data.images import Raw
from search.errors import DataError

Arrays = dict[str, Any]
X, Y = np.zeros((8, 4, 4, 1), np.uint8), np.array([0, 1] * 4)
HOLED = np.zeros((8, 4, 4, 1), np.float32)
HOLED[0, 0, :3] = [[np.nan], [np.inf], [-np.inf]]
REFUSALS: dict[str, tuple[Arrays, Arrays | None, str]] = {
    "lengths": ({"x": X, "y": Y[:7]}, None, "y_train must hold one label per image, found 7 for 8 images"),
    "holes": ({"x": HOLED, "y": Y}, None, "x_train must be finite in float32, found 3 pixels"),
    "overflow": ({"x": X + 1e39, "y": Y}, None, "x_train must be finite in float32, found 128 pixels"),
    "test holes": ({"x": X + 0.5, "y": Y}, {"x": HOLED, "y": Y}, "x_test must be finite in float32, found 3"),
    "shapes": ({"x": X, "y": Y}, {"x": X[:, :3], "y": Y}, "found (4, 4, 1) and (3, 4, 1)"),
    "dtypes": ({"x": X, "y": Y}, {"x": X + 0.5, "y": Y}, "found uint8 and float32"),
    "one class": ({"x": X, "y": Y * 0}, None, "must hold at least 2 classes, found 1"),
    "negative": ({"x": X, "y": Y - 1}, None, "y_train must count classes from 0, found -1"),
    "float labels": ({"x": X, "y": Y * 1.0}, None, "y_train must be integers, found float64"),
    "one-hot labels": ({"x": X, "y": np.eye(2, dtype=int)[Y]}, None, "found (8, 2)"),
    "gap": ({"x": X, "y": Y * 2}, None, "every class from 0 to 2, found no image of class 1"),
    "far gap": ({"x": X, "y": Y * 10**15}, None, "found no image of class 1"),
    "no first class": ({"x": X, "y": Y + 1}, None, "found no image of class 0"),
    "wrapped label": ({"x": X, "y": Y.astype(np.uint64) * (2**64 - 1)}, None, "found no image of class 0"),
    "test class": (
        {"x": X, "y": Y},
        {"x": X, "y": Y * 2},
        "y_test must be within the training classes 0 to 1, found 2",
    ),
    "test lacks a class": (
        {"x": X, "y": Y},
        {"x": X, "y": Y * 0},
        "y_test must hold every class, found no image of 1",
    ),
    "negative test": ({"x": X, "y": Y}, {"x": X, "y": Y - 1}, "y_test must count classes from 0, found -1"),
    "empty": ({"x": X[:0], "y": Y[:0]}, None, "x_train holds no images, found shape (0, 4, 4, 1)"),
    "empty test": ({"x": X, "y": Y}, {"x": X[:0], "y": Y[:0]}, "x_test holds no images"),
    "int64": ({"x": X.astype(int), "y": Y}, None, "must be uint8 or floating point, found int64"),
    "bool": ({"x": X > 0, "y": Y}, None, "must be uint8 or floating point, found bool"),
    "complex": ({"x": X * 1j, "y": Y}, None, "must be uint8 or floating point, found complex128"),
    "flat": ({"x": X.reshape(8, 16), "y": Y}, None, "found (8, 16)"),
    "channels first": (
        {"x": np.zeros((8, 3, 9, 9), np.uint8), "y": Y},
        None,
        "found 9 in shape (8, 3, 9, 9)",
    ),
    "no channel": ({"x": X[..., :0], "y": Y}, None, "1 to 4 channels"),
    "no height": ({"x": X[:, :0], "y": Y}, None, "sides of 1 to 1024 pixels, found 0 x 4"),
    "too wide": ({"x": np.zeros((8, 1, 1025), np.uint8), "y": Y}, None, "found 1 x 1025"),
    "two of a class": ({"x": X[:5], "y": [0, 0, 0, 1, 1]}, None, "class '1' must have at least 3 images"),
    "one of a class": (
        {"x": X[:4], "y": [0, 0, 0, 1]},
        {"x": X, "y": Y},
        "class '1' must have at least 2 images",
    ),
}


def checked(train: Arrays, test: Arrays | None = None, names: list[str] | None = None) -> DataSet:
    """The data set as it is read from a source."""
    first = (train["x"], np.asarray(train["y"]))
    second = (test["x"], np.asarray(test["y"])) if test else None
    raw = Raw("here", first, second, names)
    ours = check_images("here", "train", *first)
    theirs = check_images("here", "test", *second) if second else None
    return DataSet(ours, theirs, check_classes(raw, ours, theirs))


@pytest.mark.parametrize("case", REFUSALS)
def test_what_breaks_a_rule_is_refused(case: str) -> None:
    train, test, finding = REFUSALS[case]
    with pytest.raises(DataError) as refusal:
        checked(train, test)
    assert str(refusal.value).startswith("here")
    assert finding in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_just_within_the_rules_is_taken() -> None:
    """The smallest and the largest sides, and the fewest images of a class."""
    for shape in ((6, 1, 1, 1), (6, 1, LARGEST_SIDE, 4)):
        assert checked({"x": np.zeros(shape, np.uint8), "y": [0, 1] * 3}).train.pixels_NHWC.shape == shape
    fewest = checked({"x": X[:4], "y": [0, 0, 1, 1]}, {"x": X[:2], "y": [1, 0]})
    assert fewest.test is not None
    assert (list(fewest.train.labels_N), list(fewest.test.labels_N)) == ([0, 0, 1, 1], [1, 0])


def test_names_of_classes_are_those_of_the_source_or_numbers() -> None:
    assert checked({"x": X, "y": Y}).class_names == ("0", "1")
    assert checked({"x": X, "y": Y}, names=["cat", "dog"]).class_names == ("cat", "dog")
    for names, finding in (
        (["cat"], "below the 1 classes, found 1"),
        (["cat", "dog", "cow"], "no image of class 2"),
    ):
        with pytest.raises(DataError, match=finding):
            checked({"x": X, "y": Y}, names=names)
    with pytest.raises(
        DataError, match="class 'dog' must have at least 3 images, for train, val and test, found 2"
    ):
        checked({"x": X[:5], "y": [0, 0, 0, 1, 1]}, names=["cat", "dog"])


def test_images_and_labels_stay_as_they_are() -> None:
    """Only the channel, the column of labels and their type may change."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (8, 4, 5), np.uint8), np.array([[0], [1]] * 4, np.uint16)
    found = checked({"x": pixels, "y": labels}).train
    assert np.array_equal(found.pixels_NHWC[..., 0], pixels)
    assert (found.pixels_NHWC.dtype, found.labels_N.dtype) == (np.uint8, np.int64)
    assert list(found.labels_N) == [0, 1] * 4
    negative = checked({"x": pixels / -1000, "y": labels}).train.pixels_NHWC
    assert np.array_equal(negative[..., 0], (pixels / -1000).astype(np.float32))
