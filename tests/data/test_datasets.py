"""What a data set becomes: parts that never overlap, and a plain refusal of everything that breaks a rule."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.data.config import DataConfig
from search.data.datasets import load
from search.data.images import Images, Parts
from search.data.splits import split
from search.errors import DataError, SpecError


def marked(labels: Any, start: int = 0) -> dict[str, np.ndarray]:
    """Images of 2 x 2 whose first two pixels number them, so that each one is found again in its part."""
    labels_N = np.asarray(labels)
    pixels_NHW = np.zeros((len(labels_N), 2, 2), np.uint8)
    number_N = np.arange(start, start + len(labels_N))
    pixels_NHW[:, 0, 0], pixels_NHW[:, 0, 1] = number_N // 256, number_N % 256
    return {"x": pixels_NHW, "y": labels_N}


def save(path: Path, train: dict[str, Any], test: dict[str, Any] | None = None) -> Path:
    arrays = {f"{key}_train": value for key, value in train.items()}
    arrays |= {f"{key}_test": value for key, value in (test or {}).items()}
    np.savez(path, **arrays)
    return path


def npz(path: Path, **settings: Any) -> Parts:
    return load(DataConfig(name="npz", path=str(path), **settings))


def numbers(part: Images) -> list[int]:
    first, second = part.pixels_NHWC[:, 0, 0, 0].astype(int), part.pixels_NHWC[:, 0, 1, 0].astype(int)
    return list(first * 256 + second)


UNEVEN = [0] * 50 + [1] * 7 + [2] * 3 + [3] * 40


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.9])
def test_split_is_stratified_to_within_one_image_of_each_class(fraction: float) -> None:
    labels_N = np.random.default_rng(3).permutation(UNEVEN)
    stay, aside = split(labels_N, fraction, seed=5)
    assert sorted([*stay, *aside]) == list(range(100))
    assert list(stay) == sorted(stay)
    assert list(aside) == sorted(aside)
    count_K, aside_K = np.bincount(labels_N), np.bincount(labels_N[aside], minlength=4)
    assert np.all(np.abs(aside_K - fraction * count_K) <= 1)
    assert np.all((aside_K >= 1) & (aside_K < count_K))


def test_split_follows_the_seed_alone() -> None:
    labels_N = np.array(UNEVEN)
    for one, other in zip(split(labels_N, 0.3, 1), split(labels_N, 0.3, 1), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(split(labels_N, 0.3, 1)[1], split(labels_N, 0.3, 2)[1])


@pytest.mark.parametrize("own_test", [True, False])
def test_parts_share_no_image_and_lose_none(tmp_path: Path, own_test: bool) -> None:
    test = marked([0, 1, 2, 3] * 5, start=100) if own_test else None
    parts = npz(save(tmp_path / "a.npz", marked(UNEVEN), test), seed=4)
    together = numbers(parts.train) + numbers(parts.val) + numbers(parts.test)
    assert sorted(together) == list(range(120 if own_test else 100))
    assert (sorted(numbers(parts.test)) == list(range(100, 120))) == own_test
    labels = dict(enumerate([*UNEVEN, *[0, 1, 2, 3] * 5]))
    for part in (parts.train, parts.val, parts.test):
        assert [labels[number] for number in numbers(part)] == list(part.labels_N)


def test_the_largest_fractions_leave_three_images_one_to_each_part(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", marked([0] * 3 + [1] * 3))
    parts = npz(path, test_fraction=0.9, val_fraction=0.9)
    assert [list(part.labels_N) for part in (parts.train, parts.val, parts.test)] == [[0, 1]] * 3


def test_digits() -> None:
    parts = load(DataConfig(name="digits"))
    assert (parts.image_shape, parts.classes, parts.class_names[9]) == ((1, 8, 8), 10, "9")
    assert (str(parts.train.pixels_NHWC.dtype), str(parts.train.labels_N.dtype)) == ("uint8", "int64")
    assert parts.train.pixels_NHWC.max() == 16
    assert [len(part.labels_N) for part in (parts.train, parts.val, parts.test)] == [1151, 287, 359]


def test_limit_is_exact_stratified_and_leaves_the_test_part_alone() -> None:
    whole = load(DataConfig(name="digits"))
    parts = load(DataConfig(name="digits", limit=205, seed=0))
    labels_N = np.concatenate([parts.train.labels_N, parts.val.labels_N])
    whole_K = np.bincount(np.concatenate([whole.train.labels_N, whole.val.labels_N]))
    assert len(labels_N) == 205
    assert np.all(np.abs(np.bincount(labels_N) - 205 * whole_K / whole_K.sum()) <= 1)
    assert np.array_equal(parts.test.pixels_NHWC, whole.test.pixels_NHWC)
    assert load(DataConfig(name="digits", limit=10**6)).fingerprint() == whole.fingerprint()


def test_limit_must_leave_two_images_of_each_class(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", marked([0] * 90 + [1] * 10), marked([0, 1]))
    with pytest.raises(DataError, match=r"data\.limit = 14 .* found 1 of '1'; a limit of 20 or more does"):
        npz(path, limit=14)
    assert len(npz(path, limit=20).train.labels_N) + len(npz(path, limit=20).val.labels_N) == 20


def test_fingerprint_tells_apart_pixels_labels_and_seeds(tmp_path: Path) -> None:
    train, test = marked([0, 1] * 10), marked([0, 1], start=20)
    first = npz(save(tmp_path / "a.npz", train, test)).fingerprint()
    assert first == npz(save(tmp_path / "b.npz", train, test)).fingerprint()
    other_pixel, other_label, other_test = train["x"].copy(), train["y"].copy(), test["y"][::-1]
    other_pixel[7, 1, 1] = 1
    other_label[7] = 0
    prints = {
        first,
        npz(save(tmp_path / "c.npz", {**train, "x": other_pixel}, test)).fingerprint(),
        npz(save(tmp_path / "d.npz", {**train, "y": other_label}, test)).fingerprint(),
        npz(save(tmp_path / "e.npz", train, {**test, "y": other_test})).fingerprint(),
        npz(
            save(tmp_path / "f.npz", {**train, "x": train["x"] / 1}, {**test, "x": test["x"] / 1})
        ).fingerprint(),
        npz(tmp_path / "a.npz", seed=1).fingerprint(),
    }
    assert len(prints) == 6


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


X, Y = np.zeros((8, 4, 4, 1), np.uint8), np.array([0, 1] * 4)
HOLED = np.zeros((8, 4, 4, 1), np.float32)
HOLED[0, 0, :3] = [[np.nan], [np.inf], [-np.inf]]
NPZ_REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "no labels": ({"x": X}, None, "must hold y_train, found x_train"),
    "no test labels": ({"x": X, "y": Y}, {"x": X}, "must hold y_test, found x_train, y_train, x_test"),
    "no test images": ({"x": X, "y": Y}, {"y": Y}, "must hold x_test, found x_train, y_train, y_test"),
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
    "objects": ({"x": X.astype(object), "y": Y}, None, "x_train must be a whole array of plain numbers"),
    "object labels": (
        {"x": X, "y": Y.astype(object)},
        None,
        "y_train must be a whole array of plain numbers",
    ),
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


@pytest.mark.parametrize("case", NPZ_REFUSALS)
def test_npz_refuses(tmp_path: Path, case: str) -> None:
    train, test, finding = NPZ_REFUSALS[case]
    refused(save(tmp_path / "bad.npz", train, test), finding)


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


CONFIG_REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"name": "imagenet"},
        "data.name must be one of digits, mnist, fashion_mnist, cifar10, cifar100, npz, folder",
    ),
    ({"name": "npz"}, "data.path must name the file or folder for data.name = 'npz', got None"),
    ({"name": "folder", "path": "", "image_size": 8}, "data.path must name the file or folder"),
    ({"name": "mnist", "path": "x"}, "data.path must be left out for data.name = 'mnist', got 'x'"),
    (
        {"name": "folder", "path": "x"},
        "data.image_size must be 1 to 512 pixels, or [height, width], got None",
    ),
    ({"name": "folder", "path": "x", "image_size": 0}, "got 0"),
    ({"name": "folder", "path": "x", "image_size": 513}, "got 513"),
    ({"name": "folder", "path": "x", "image_size": (8, 513)}, "got (8, 513)"),
    ({"name": "folder", "path": "x", "image_size": (8, 8, 3)}, "got (8, 8, 3)"),
    ({"name": "folder", "path": "x", "image_size": 8.0}, "got 8.0"),
    ({"name": "digits", "image_size": 8}, "data.image_size must be left out for data.name = 'digits', got 8"),
    ({"name": "digits", "limit": 1}, "data.limit must be a whole number of at least 2, got 1"),
    ({"name": "digits", "limit": "9"}, "data.limit must be a whole number of at least 2, got '9'"),
    ({"name": "digits", "val_fraction": 3}, "data.val_fraction must be above 0 and at most 0.9, got 3"),
    ({"name": "digits", "val_fraction": 0}, "data.val_fraction must be above 0 and at most 0.9, got 0"),
    (
        {"name": "digits", "test_fraction": 0.91},
        "data.test_fraction must be above 0 and at most 0.9, got 0.91",
    ),
    ({"name": "digits", "test_fraction": float("nan")}, "got nan"),
    ({"name": "digits", "val_fraction": True}, "got True"),
    ({"name": "digits", "seed": -1}, "data.seed must be a whole number of at least 0, got -1"),
]


@pytest.mark.parametrize(("settings", "message"), CONFIG_REFUSALS)
def test_config_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refusal:
        DataConfig(**settings)
    assert message in str(refusal.value)


def test_config_takes_a_size_as_a_list() -> None:
    size: Any = [32, 48]
    assert DataConfig(name="folder", path="x", image_size=size).image_size == (32, 48)


def test_import_needs_no_torch_and_nothing_warns() -> None:
    code = (
        "import sys; from search.datasets import DataConfig, load; import search.downloads\n"
        "assert 'torch' not in sys.modules\n"
        "load(DataConfig(name='digits', limit=100))\n"
        "assert 'torch' not in sys.modules\n"
        "import torchvision.datasets"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
