"""A data set in its parts: they never overlap, and their fingerprint says what is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.data.config import DataConfig
from search.data.datasets import DataSet, load
from search.data.images import Images, Parts
from search.errors import DataError
from tests.support.images import UNEVEN, marked, npz, numbers, save


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


def made(count: int = 200, test: bool = False) -> DataSet:
    train = marked([0, 1] * (count // 2))
    images = Images(train["x"][..., None], train["y"])
    return DataSet(images, images if test else None, ("a", "b"))


def sizes(parts: Parts) -> list[int]:
    return [len(part.labels_N) for part in (parts.train, parts.val, parts.test)]


def test_every_setting_of_a_split_is_heeded() -> None:
    """The validation part is a share of what the test part and the limit leave."""
    config = DataConfig(name="digits", test_fraction=0.1, val_fraction=0.25)
    assert sizes(made().split(config)) == [136, 44, 20]
    assert sizes(made().split(replace(config, limit=100))) == [76, 24, 20]
    assert sizes(made(test=True).split(config)) == [150, 50, 200]
    assert sizes(made(test=True).split(replace(config, limit=40))) == [30, 10, 200]
    assert sizes(made(test=True).split(replace(config, limit=200))) == [150, 50, 200]
    parts = {seed: made().split(replace(config, seed=seed)) for seed in (0, 1)}
    assert numbers(parts[0].test) != numbers(parts[1].test)
    assert numbers(parts[0].val) != numbers(parts[1].val)
    assert parts[0].fingerprint() == made().split(config).fingerprint()


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
    assert sum(sizes(npz(path, limit=20))[:2]) == 20


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


def test_fingerprint_tells_apart_shapes_parts_types_and_names() -> None:
    """The bytes are the same, in the same order."""
    flat = np.arange(96, dtype=np.uint8)

    def of(shape: tuple[int, ...], counts: tuple[int, int, int] = (2, 2, 2), names: str = "ab") -> str:
        whole = Images(flat.reshape(6, *shape), np.array([0, 1] * 3))
        cut = np.cumsum((0, *counts))
        pieces = [whole.at(np.arange(*cut[i : i + 2])) for i in range(3)]
        return Parts(*pieces, class_names=tuple(names)).fingerprint()

    assert of((4, 4, 1)) == of((4, 4, 1))
    others = [
        of((2, 8, 1)),
        of((8, 2, 1)),
        of((2, 2, 4)),
        of((4, 4, 1), (3, 1, 2)),
        of((4, 4, 1), names="ba"),
    ]
    assert len({of((4, 4, 1)), *others}) == 6
    signed = [Images(np.zeros((1, 1, 1, 1), kind), np.zeros(1, np.int64)) for kind in (np.float32, np.int32)]
    assert len({Parts(part, part, part, ("a",)).fingerprint() for part in signed}) == 2


def test_a_fingerprint_is_of_what_is_there_and_not_of_how_it_lies_in_memory() -> None:
    images = made().train
    turned = Images(np.asfortranarray(images.pixels_NHWC), images.labels_N)
    prints = {Parts(part, part, part, ("a", "b")).fingerprint() for part in (images, turned)}
    assert len(prints) == 1


def test_shape_and_classes_of_the_parts() -> None:
    images = Images(np.zeros((5, 3, 7, 2), np.uint8), np.zeros(5, np.int64))
    parts = Parts(images, images, images, ("x", "y", "z"))
    assert (parts.image_shape, parts.classes) == ((2, 3, 7), 3), "channels, height, width"
