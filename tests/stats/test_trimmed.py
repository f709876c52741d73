"""The trimmed mean, its sign flips and its interval, against formulas, enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from search.stats.trimmed import (
    ENUMERATED,
    FLIPPED_PAIRS,
    PRECISION,
    compare_shifts,
    trim_of,
    trimmed_interval,
    trimmed_mean,
    trimmed_p,
)

RNG = np.random.default_rng(5)
SKEWED = [3.1, 12.0, 7.4, 90.0, 1.2, 33.0, 5.5, -41.0, 20.5]


@pytest.mark.parametrize(
    ("pairs", "cut"), [(1, 0), (5, 0), (6, 1), (19, 1), (20, 2), (29, 2), (30, 3), (100, 10)]
)
def test_a_tenth_is_cut_off_at_either_end_and_of_few_pairs_one(pairs: int, cut: int) -> None:
    assert trim_of(pairs) == cut
    values = list(range(pairs))
    kept = values[cut : pairs - cut]
    assert trimmed_mean(values) == pytest.approx(sum(kept) / len(kept))


def test_it_is_the_trimmed_mean_of_textbooks() -> None:
    sample = RNG.normal(size=50)
    assert trimmed_mean(sample) == pytest.approx(stats.trim_mean(sample, 0.1))


def test_p_is_that_of_all_sign_flips() -> None:
    observed = abs(trimmed_mean(SKEWED))
    flipped = [
        abs(trimmed_mean([sign * value for sign, value in zip(signs, SKEWED, strict=True)]))
        for signs in itertools.product((-1, 1), repeat=len(SKEWED))
    ]
    expected = np.mean([value >= observed - 1e-12 for value in flipped])
    assert trimmed_p(SKEWED) == pytest.approx(expected)
    assert trimmed_p([-value for value in SKEWED]) == pytest.approx(expected)
    shifted = [value + 7 for value in SKEWED]
    assert trimmed_p(shifted, centre=7.0) == pytest.approx(expected)


def test_drawn_flips_are_near_all_of_them() -> None:
    sample = RNG.normal(0.5, 1, ENUMERATED + 2)
    observed = abs(trimmed_mean(sample))
    signs = np.array(list(itertools.product((-1, 1), repeat=len(sample))))
    ordered = np.sort(signs * sample, axis=1)[:, 1:-1]
    exact = float(np.mean(np.abs(ordered.mean(axis=1)) >= observed - 1e-12))
    assert trimmed_p(sample) == pytest.approx(exact, abs=0.02)
    assert trimmed_p(sample) == trimmed_p(sample), "the same draws each time"


def test_of_many_pairs_it_is_the_t_of_tukey_and_mclaughlin() -> None:
    """And it goes on where the flips end: both p of one sample are near."""
    sample = RNG.normal(0.25, 1, FLIPPED_PAIRS)
    flips = trimmed_p(sample)
    more = np.concatenate([sample, [float(np.median(sample))]])
    assert trimmed_p(more) == pytest.approx(flips, abs=0.02)
    n, cut = len(more), trim_of(len(more))
    error = stats.mstats.trimmed_stde(more, limits=(cut / n, cut / n))
    t = abs(stats.trim_mean(more, cut / n)) / float(error)
    assert trimmed_p(more) == pytest.approx(2 * stats.t.sf(t, n - 2 * cut - 1), rel=0.05)


def test_the_interval_holds_the_centres_that_are_not_rejected() -> None:
    sample = [value for value in SKEWED if value > 0] + [15.0, 2.2]
    low, high = trimmed_interval(sample)
    for inside, outside in ((low + 2 * PRECISION, low - PRECISION), (high - 2 * PRECISION, high + PRECISION)):
        assert trimmed_p(sample, inside) >= 0.05
        assert trimmed_p(sample, outside) < 0.05
    assert low < trimmed_mean(sample) < high


def test_it_covers_the_centre_as_often_as_it_says() -> None:
    """300 samples of 12 with heavy tails; by chance 0.95 of them, and no fewer than 0.91."""
    draws = np.random.default_rng(1).standard_t(2, (300, 12)) + 3
    held = [low <= 3 <= high for low, high in map(trimmed_interval, draws)]
    assert 0.91 <= np.mean(held) <= 0.99


def test_few_pairs_reject_no_centre_and_equal_ones_are_a_point() -> None:
    assert trimmed_interval([5.0, 6.0, 7.0]) == (-math.inf, math.inf)
    assert trimmed_interval([5.0] * 12) == (5.0, 5.0)
    assert trimmed_p([0.0] * 12) == 1.0


def test_one_collapse_changes_the_location_little_and_the_word_not() -> None:
    gains = [20.0, 31.0, 42.0, 25.0, 36.0, 47.0, 53.0, 28.0, 39.0, 60.0, 44.0]
    sound = compare_shifts({"deep": gains})["deep"]
    collapsed = compare_shifts({"deep": [*gains, -41.0]})["deep"]
    assert sound.word == collapsed.word == "beats"
    assert abs(sound.location - collapsed.location) < 3
    assert collapsed.interval.low > 20


@pytest.mark.parametrize(
    ("centre", "word"), [(9.0, "beats"), (-9.0, "loses"), (0.0, "equal"), (1.2, "undecided")]
)
def test_words_are_those_of_means(centre: float, word: str) -> None:
    sample = [centre + 0.1 * i - 0.55 for i in range(12)]
    found = compare_shifts({"one": sample})["one"]
    assert (found.word, found.pairs) == (word, 12)
    assert found.location == pytest.approx(centre)
    assert (found.more_pairs is not None) == (word == "undecided")


def test_holm_corrects_over_what_is_compared_together() -> None:
    sample = [1.5 + 0.3 * i for i in range(9)]
    alone = compare_shifts({"a": sample})["a"].holm_p
    both = compare_shifts({"a": sample, "b": [-1.0, 1.0, 2.0, -2.0, 0.5, -0.4]})
    assert both["a"].holm_p == 2 * alone
    assert both["b"].holm_p == trimmed_p([-1.0, 1.0, 2.0, -2.0, 0.5, -0.4])


@pytest.mark.parametrize("broken", [[], [math.nan], [[1.0]]])
def test_a_sample_is_finite_numbers(broken: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        compare_shifts({"one": broken})
