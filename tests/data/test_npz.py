"""Images in an .npz file: what it may hold, and what is no whole archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import DataError
from tests.support.images import npz, save

X, Y = np.zeros((8, 4, 4, 1), np.uint8), np.array([0, 1] * 4)


@pytest.mark.parametrize("shape", [(8, 5, 6), (8, 5, 6, 1), (8, 5, 6, 2), (8, 5, 6, 3), (8, 5, 6, 4)])
def test_npz_takes_grey_images_without_channels_and_one_to_four_channels(tmp_path: Path, shape: Any) -> None:
    path = save(tmp_path / "a.npz", {"x": np.ones(shape, np.uint8), "y": np.array([[0], [1]] * 4, np.uint16)})
    assert npz(path).image_shape == ((*shape, 1)[3], 5, 6)
    assert npz(path).train.labels_N.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
def test_npz_floats_become_float32_and_keep_their_range(tmp_path: Path, dtype: Any) -> None:
    pixels_NHW = np.linspace(-5, 300, 8 * 4).reshape(8, 2, 2).astype(dtype)
    parts = npz(save(tmp_path / "a.npz", {"x": pixels_NHW, "y": np.array([0, 1] * 4)}))
    values = np.concatenate([part.pixels_NHWC.ravel() for part in (parts.train, parts.val, parts.test)])
    assert values.dtype == np.dtype("float32")
    assert np.array_equal(np.sort(values), pixels_NHW.astype(np.float32).ravel())


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "no labels": ({"x": X}, None, "must hold y_train, found x_train"),
    "no images": ({"y": Y}, None, "must hold x_train, found y_train"),
    "no test labels": ({"x": X, "y": Y}, {"x": X}, "must hold y_test, found x_train, y_train, x_test"),
    "no test images": ({"x": X, "y": Y}, {"y": Y}, "must hold x_test, found x_train, y_train, y_test"),
    "nothing": ({}, None, "must hold x_train, found no arrays"),
    "objects": ({"x": X.astype(object), "y": Y}, None, "x_train must be a whole array of plain numbers"),
    "object labels": (
        {"x": X, "y": Y.astype(object)},
        None,
        "y_train must be a whole array of plain numbers",
    ),
    "one class": ({"x": X, "y": Y * 0}, None, "must hold at least 2 classes, found 1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_npz_refuses(tmp_path: Path, case: str) -> None:
    train, test, finding = REFUSALS[case]
    refused(save(tmp_path / "bad.npz", train, test), finding)


def test_a_test_part_of_its_own_is_the_test_part(tmp_path: Path) -> None:
    parts = npz(save(tmp_path / "a.npz", {"x": X, "y": Y}, {"x": X[:2] + 9, "y": [1, 0]}))
    assert (int(parts.test.pixels_NHWC.min()), list(parts.test.labels_N)) == (9, [1, 0])
    assert int(parts.train.pixels_NHWC.max()) == 0


def refused(path: Path, finding: str, **settings: Any) -> None:
    with pytest.raises(DataError) as refusal:
        npz(path, **settings)
    message = str(refusal.value)
    assert str(path) in message
    assert finding in message
    assert message.count("\n") <= 1


def test_npz_refuses_what_is_no_whole_archive(tmp_path: Path) -> None:
    whole = save(
        tmp_path / "whole.npz", {"x": np.random.default_rng(0).random((8, 40, 40)), "y": Y}
    ).read_bytes()
    refused(tmp_path / "none.npz", "found none there")
    refused(tmp_path, "found none there")
    for name, content in {"empty": b"", "text": b"x,y\n1,2\n", "half": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        refused(path, "must be a whole .npz file, found: ")
    flipped = bytearray(whole)
    flipped[5000:5100] = bytes(100)
    (tmp_path / "flipped.npz").write_bytes(flipped)
    refused(tmp_path / "flipped.npz", "x_train must be a whole array")
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, X)
    refused(tmp_path / "single.npz", "found a single array")
