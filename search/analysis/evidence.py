"""The evidence of a search about its arms, as one value; `python -m search.report --json` prints it.

Accuracies are in %, differences in points, depths in convs. All of it is exploratory: a search chooses and
prunes its trials.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from search.analysis.accounts import (
    Account,
    Budget,
    Failures,
    Noise,
    account_of,
    budget_of,
    classes_of,
    failures_of,
    noise_of,
    unequal_columns,
)
from search.analysis.bands import bands_of, first_depth, halves_of, in_band
from search.analysis.duels import Duel, best_percent, duels_of
from search.analysis.trials import arms_of, best_of, described, of_arm
from search.analysis.winners import Winner, winners_of
from search.storage.trial_record import TrialRecord, finished

DOWN = 5.0
"""Points of median training accuracy below the best depth that count as turned down."""
ENOUGH = 3
"""Runs to the end that make a median worth comparing."""


@dataclass(frozen=True)
class Middle:
    """A median with its 95 % interval by order statistics (no distribution assumed), from six runs on."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Level:
    """One arm in one band of depths."""

    arm: str
    band: str
    trials: int
    to_the_end: int
    best: float | None
    val: Middle | None
    train: Middle | None
    """Training accuracy of the runs to the end, %."""
    causes: dict[str, int]
    """Numbers of trials by the cause of their end, pruned ones included."""


@dataclass(frozen=True)
class Leader:
    """The best trial of an arm: a lucky one, as the best of many is."""

    arm: str
    trial: int
    val: float
    """Validation accuracy, %."""
    depth: int


@dataclass(frozen=True)
class Evidence:
    exploratory: bool
    finished: int
    to_the_end: int
    baseline: str
    """The arm that the others are held against."""
    arms: tuple[str, ...]
    grouped: bool
    """Whether trials belong to draws, of which there is one of each arm. Those of a free design do not."""
    baseline_turns_down_at: int | None
    """Convs from which on the baseline trains worse: see `turns_down`."""
    halves: tuple[str, str]
    """Names of the lower and of the upper depths, as they stand in the duels."""
    duels: tuple[Duel, ...]
    winners: tuple[Winner, ...]
    """Architectures that beat their twins."""
    levels: tuple[Level, ...]
    leaders: tuple[Leader, ...]
    failures: tuple[Failures, ...]
    budgets: tuple[Budget, ...]
    noise: Noise | None
    """None without replicates."""
    ledger: tuple[Account, ...]
    unequal: tuple[str, ...]
    """Columns of the ledger in which arms differ by more than 5 %."""


def gather(trials: Sequence[TrialRecord], baseline: str) -> Evidence:
    """The evidence in the trials of a search, in whatever state they are."""
    known = described(trials)
    arms = arms_of(known)
    by_arm = {arm: of_arm(known, arm) for arm in arms}
    levels = _levels(by_arm)
    ledger = tuple(account_of(arm, members) for arm, members in by_arm.items())
    classes, halves = classes_of(known), halves_of(known)
    return Evidence(
        exploratory=True,
        finished=finished(trials),
        to_the_end=sum(trial.ran_to_the_end for trial in known),
        baseline=baseline,
        arms=tuple(arms),
        grouped=any(trial.group is not None for trial in known),
        baseline_turns_down_at=turns_down(levels, baseline),
        halves=(halves[0].name, halves[1].name),
        duels=duels_of(known, baseline),
        winners=winners_of(known, baseline),
        levels=levels,
        leaders=tuple(_leaders(by_arm)),
        failures=tuple(failures_of(arm, by_arm, baseline, classes) for arm in arms),
        budgets=tuple(
            budget for arm in arms if (budget := budget_of(arm, by_arm[arm], 1 / classes)) is not None
        ),
        noise=noise_of(known),
        ledger=ledger,
        unequal=unequal_columns(ledger),
    )


def turns_down(levels: Sequence[Level], arm: str) -> int | None:
    """First depth of the band from which on the arm trains worse than at its best depth, for good.

    By median training accuracy of runs to the end, in bands with three or more: this band and all deeper ones
    are more than 5 points below the best. Training accuracy, since degradation is not overfitting (He 2015).
    None: it does not, or too few deep runs ended to say.
    """
    medians = [
        (first_depth(level.band), level.train.median)
        for level in levels
        if level.arm == arm and level.train is not None and level.to_the_end >= ENOUGH
    ]
    top = max((median for _, median in medians), default=0.0)
    found = None
    for depth, median in reversed(medians):
        if median >= top - DOWN:
            break
        found = depth
    return found


def middle(values: Sequence[float]) -> Middle | None:
    """The median and its interval; None where there are no values."""
    if not values:
        return None
    ordered, n = sorted(values), len(values)
    tail, rank = 0.0, 0  # the interval from the rank-th smallest to the rank-th largest misses 2 tails
    while (tail := tail + math.comb(n, rank) * 0.5**n) <= 0.025:
        rank += 1
    bounds = (ordered[rank - 1], ordered[n - rank]) if rank else (None, None)
    return Middle(statistics.median(ordered), *bounds)


def _levels(by_arm: Mapping[str, Sequence[TrialRecord]]) -> tuple[Level, ...]:
    levels = []
    for arm, members in by_arm.items():
        for band in bands_of(members):
            here = in_band(members, band)
            ends = [trial for trial in here if trial.ran_to_the_end]
            train = [trial.train_accuracy for trial in ends]
            levels.append(
                Level(
                    arm=arm,
                    band=band,
                    trials=len(here),
                    to_the_end=len(ends),
                    best=best_percent(ends),
                    val=middle([100 * trial.score for trial in ends]),
                    train=middle([100 * value for value in train if value is not None]),
                    causes=dict(Counter(trial.cause for trial in here)),
                )
            )
    return tuple(levels)


def _leaders(by_arm: Mapping[str, Sequence[TrialRecord]]) -> Iterator[Leader]:
    for arm, members in by_arm.items():
        if best := best_of(members):
            yield Leader(arm, best.number, 100 * best.score, best.depth)
