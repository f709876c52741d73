"""Which images go where: always the same ones, and of every class its share."""

from __future__ import annotations

import numpy as np
import pytest

from search.data.splits import limited, split, steps_per_epoch
from search.errors import DataError
from tests.support.images import UNEVEN


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


def test_what_is_set_aside_is_the_rounded_share_and_leaves_what_must_be_kept() -> None:
    labels_N = np.array([0] * 10 + [1] * 10 + [2] * 3)

    def aside(fraction: float, keep: int) -> list[int]:
        return list(np.bincount(labels_N[split(labels_N, fraction, 0, keep)[1]]))

    assert aside(0.24, keep=1) == [2, 2, 1]
    assert aside(0.26, keep=1) == [3, 3, 1]
    assert aside(0.01, keep=1) == [1, 1, 1]
    assert aside(0.9, keep=1) == [9, 9, 2]
    assert aside(0.9, keep=2) == [8, 8, 1]


def test_split_follows_the_seed_alone() -> None:
    labels_N = np.array(UNEVEN)
    for one, other in zip(split(labels_N, 0.3, 1), split(labels_N, 0.3, 1), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(split(labels_N, 0.3, 1)[1], split(labels_N, 0.3, 2)[1])


@pytest.mark.parametrize("limit", [40, 57, 99])
def test_a_limit_is_exact_and_each_class_keeps_its_share_to_within_one_image(limit: int) -> None:
    labels_N = np.random.default_rng(3).permutation([0] * 50 + [1] * 7 + [2] * 6 + [3] * 40)
    kept = limited(labels_N, limit, 5, "abcd")
    assert len(set(kept)) == limit
    assert list(kept) == sorted(kept)
    assert np.all(np.abs(np.bincount(labels_N[kept]) - limit * np.bincount(labels_N) / 103) < 1)
    assert not np.array_equal(kept, limited(labels_N, limit, 6, "abcd"))


def test_a_limit_that_leaves_a_class_one_image_says_which_would_do() -> None:
    labels_N = np.array([0] * 90 + [1] * 10)
    with pytest.raises(DataError, match=r"data\.limit = 14 .* found 1 of 'dog'; a limit of 20 or more does"):
        limited(labels_N, 14, 0, ("cat", "dog"))
    assert list(np.bincount(labels_N[limited(labels_N, 20, 0, ("cat", "dog"))])) == [18, 2]


@pytest.mark.parametrize(("images", "steps"), [(1, 1), (63, 1), (64, 1), (127, 1), (128, 2), (1000, 15)])
def test_an_epoch_is_whole_batches_and_one_step_at_least(images: int, steps: int) -> None:
    assert steps_per_epoch(images, 64) == steps
