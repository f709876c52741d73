"""Each figure against brute force or a hand-worked case."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from search.stats.runs import FailureTable, compare_failures, expected_best, noise_floor


def test_failures_are_below_twice_chance() -> None:
    """Fisher by hand: 3 of 3 against 0 of 3 is the rarest of 20 tables, on either side."""
    table = compare_failures([0.1, 0.19, 0.11], [0.2, 0.9, 1.0], classes=10)
    assert table == FailureTable(failed_a=3, runs_a=3, failed_b=0, runs_b=3, p=table.p)
    assert table.p == pytest.approx(0.1)
    assert compare_failures([0.9], [0.9, 0.8], classes=10).p == 1.0


def test_the_table_keeps_the_arms_apart() -> None:
    """p of 4 of 5 against 1 of 7, from the hypergeometric law: 12 runs, 5 failures, 5 runs of one arm."""
    table = compare_failures([0.1] * 4 + [0.9], [0.15] + [0.8] * 6, classes=10)
    assert (table.failed_a, table.runs_a, table.failed_b, table.runs_b) == (4, 5, 1, 7)
    ways = [math.comb(5, k) * math.comb(7, 5 - k) for k in range(6)]
    assert table.p == pytest.approx(sum(way for way in ways if way <= ways[4]) / math.comb(12, 5))


@pytest.mark.parametrize(("classes", "limit"), [(2, 0.75), (3, 2 / 3), (4, 0.5), (10, 0.2), (100, 0.02)])
def test_the_limit_is_twice_chance_but_never_beyond_halfway_to_one(classes: int, limit: float) -> None:
    table = compare_failures([limit - 1e-6], [limit + 1e-6], classes)
    assert (table.failed_a, table.failed_b) == (1, 0)


def test_of_two_classes_a_run_fails_below_three_quarters() -> None:
    """Twice chance would be an accuracy of 1, so that nearly every run failed."""
    table = compare_failures([0.5, 0.74], [0.76, 0.99], classes=2)
    assert (table.failed_a, table.failed_b) == (2, 0)
    with pytest.raises(ValueError, match="from two classes on, not for 1"):
        compare_failures([1.0], [1.0], classes=1)


def test_expected_best_is_the_mean_over_all_sets() -> None:
    scores = [0.3, 0.9, 0.5, 0.5, 0.7]
    budgets = range(1, 6)
    by_sets = [np.mean([max(chosen) for chosen in itertools.combinations(scores, k)]) for k in budgets]
    curve = expected_best(scores, budgets)
    assert curve.budgets == tuple(budgets)
    assert curve.expected == pytest.approx(by_sets)
    band = zip(curve.low, curve.expected, curve.high, strict=True)
    assert all(low <= mean <= high for low, mean, high in band)
    assert max(curve.high) == pytest.approx(0.9)


def test_expected_best_of_many_runs_stays_finite() -> None:
    """C(2000, 1000) is beyond a float."""
    scores = np.linspace(0, 1, 2000)
    (best,) = expected_best(scores, [1000], resamples=10).expected
    assert best == pytest.approx(1000 / 1001 * 2001 / 1999 - 1 / 1999)


def test_the_band_holds_95_percent_of_resampled_runs() -> None:
    """The expected best of one run is the mean, whose band is 1.96 standard errors wide on either side."""
    scores = np.linspace(0, 1, 100)
    curve = expected_best(scores, [1, 100])
    reach = 1.96 * scores.std() / 10
    assert (curve.low[0], curve.high[0]) == pytest.approx((0.5 - reach, 0.5 + reach), abs=0.1 * reach)
    assert curve.expected == pytest.approx((0.5, 1.0))
    assert curve == expected_best(scores[::-1], [1, 100]), "the order of the runs does not count"


@pytest.mark.parametrize("budget", [0, 4])
def test_budgets_beyond_the_runs_are_refused(budget: int) -> None:
    with pytest.raises(ValueError, match="from 1 to the 3 runs there are"):
        expected_best([0.1, 0.2, 0.3], [budget])


def test_noise_is_pooled_by_degrees_of_freedom() -> None:
    """Squares 2 and 8 over 1 + 2 degrees of freedom; a single run and the level of a group add nothing."""
    noise = noise_floor([[1.0, 3.0], [102.0, 100.0, 104.0], [50.0]])
    assert noise.sd == pytest.approx(math.sqrt(10 / 3))
    assert noise.degrees_of_freedom == 3
    with pytest.raises(ValueError, match="under two seeds"):
        noise_floor([[1.0], [2.0]])
