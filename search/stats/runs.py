"""Figures that a score is read against before arms are compared: failures, budget, noise of the seed.

Scores and accuracies are shares in [0, 1]; what is measured on scores has their unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats  # type: ignore[import-untyped]

from search.stats.paired import as_sample


@dataclass(frozen=True)
class FailureTable:
    """Runs that did not learn, per arm, with the two-sided p of Fisher's exact test."""

    failed_a: int
    runs_a: int
    failed_b: int
    runs_b: int
    p: float


def compare_failures(train_accuracy_a: ArrayLike, train_accuracy_b: ArrayLike, classes: int) -> FailureTable:
    """Runs of two arms that failed: final training accuracy below twice chance; of two classes, below halfway
    from chance to 1."""
    if classes < 2:
        raise ValueError(f"accuracy has a chance level from two classes on, not for {classes}")
    limit = min(2 / classes, (1 + 1 / classes) / 2)
    a, b = as_sample(train_accuracy_a), as_sample(train_accuracy_b)
    failed_a, failed_b = int(np.sum(a < limit)), int(np.sum(b < limit))
    p = stats.fisher_exact([[failed_a, len(a) - failed_a], [failed_b, len(b) - failed_b]])[1]
    return FailureTable(failed_a, len(a), failed_b, len(b), float(p))


@dataclass(frozen=True)
class BestCurve:
    """Expected best score by budget, with a 95 % percentile band over resampled runs."""

    budgets: tuple[int, ...]
    expected: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def expected_best(
    scores: ArrayLike, budgets: Sequence[int], resamples: int = 2000, seed: int = 0
) -> BestCurve:
    """Expected best of k of one arm's runs (Dodge et al. 2019, "Show Your Work"), in the unit of the scores.

    Unbiased: the mean best over all sets of k runs, none twice (Tang et al. 2020), since drawing with
    replacement reads low. The runs must be independent, as in random search. Near their number the band is
    too narrow above: no resample tops the best run. Raises ValueError for a budget above their number.
    """
    ordered = np.sort(as_sample(scores))
    n = len(ordered)
    k = np.asarray(budgets, dtype=np.int64).reshape(-1, 1)
    if not ((k >= 1) & (k <= n)).all():
        raise ValueError(f"budgets run from 1 to the {n} runs there are, not {list(budgets)}")
    below = np.arange(n)  # runs worse than each; it is the best of C(below, k - 1) of the C(n, k) sets
    log_sets = special.gammaln(below + 1) - special.gammaln(k) - special.gammaln(np.maximum(below - k + 2, 1))
    log_all = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    weights = np.where(below >= k - 1, np.exp(log_sets - log_all), 0.0)
    again = np.sort(np.random.default_rng(seed).choice(ordered, size=(resamples, n)), axis=1)
    low, high = np.quantile(again @ weights.T, [0.025, 0.975], axis=0)
    rows = (weights @ ordered, low, high)
    return BestCurve(tuple(k[:, 0].tolist()), *(tuple(row.tolist()) for row in rows))


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviation of a score from seed to seed, in the unit of the scores."""

    sd: float
    degrees_of_freedom: int


def noise_floor(groups_of_scores: Sequence[ArrayLike]) -> NoiseFloor:
    """The noise pooled over groups, each one configuration under several seeds. Raises ValueError where none
    has two runs."""
    groups = [as_sample(group) for group in groups_of_scores]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        raise ValueError("noise needs at least one configuration that ran under two seeds")
    squares = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    return NoiseFloor(math.sqrt(squares / freedom), freedom)
