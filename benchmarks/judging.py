"""What a search was worth: what its pruner killed, how good its choice is after so many epochs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.replay import Tried


@dataclass(frozen=True)
class Kills:
    """Kills of one arm in one search; the end of every pruned trial is known."""

    trials: int
    pruned: int
    of_top_quarter: int
    """Pruned trials whose end is within the best quarter of the arm's trials, had all run to the end."""
    better_than_best: int
    """Pruned trials whose end is better than the best that the search has for this arm."""
    epochs_saved: float
    """Share of the epochs that the arm's trials would have taken, had all run to the end."""
    lost: float
    """Accuracy of the arm's best trial, had all run to the end, less that of the best that did."""


def kills(tried: Sequence[Tried], ends: Sequence[float], epochs: Sequence[int], chance: float) -> Kills:
    """`ends` and `epochs` of the trials, had none been pruned."""
    pruned = [end for trial, end in zip(tried, ends, strict=True) if trial.pruned]
    best = max((trial.value for trial in tried if not trial.pruned), default=chance)
    top = float(np.quantile(ends, 0.75))
    return Kills(
        trials=len(tried),
        pruned=len(pruned),
        of_top_quarter=sum(end > top for end in pruned),
        better_than_best=sum(end > best for end in pruned),
        epochs_saved=1 - sum(trial.epochs for trial in tried) / sum(epochs),
        lost=max(ends) - best,
    )


def rank_correlation(now: Sequence[float], ends: Sequence[float]) -> float:
    """Spearman's; 0 where one of them is the same for all."""
    if len(set(now)) == 1 or len(set(ends)) == 1:
        return 0.0
    return float(stats.spearmanr(now, ends).statistic)


def kept_by_half(now: Sequence[float], ends: Sequence[float]) -> float:
    """Share of those that end in the best quarter which are not below the median now: halving keeps them."""
    top, middle = np.quantile(ends, 0.75), np.median(now)
    kept = [early >= middle for early, end in zip(now, ends, strict=True) if end >= top]
    return sum(kept) / len(kept)


@dataclass(frozen=True)
class Step:
    """The arm's best trial from the moment when all arms together have spent `epochs`."""

    epochs: int
    best: Tried


def steps_of(tried: Sequence[Tried], arm: str) -> list[Step]:
    """How the arm's choice changed. Only trials that ran to the end can be chosen."""
    spent, steps = 0, list[Step]()
    for trial in tried:
        spent += trial.epochs
        chosen = trial.arm == arm and not trial.pruned
        if chosen and (not steps or trial.value > steps[-1].best.value):
            steps.append(Step(spent, trial))
    return steps


def best_at(steps: Sequence[Step], epochs: float) -> Tried | None:
    """The choice when so many epochs were spent."""
    known = [step.best for step in steps if step.epochs <= epochs]
    return known[-1] if known else None


def epochs_to(steps: Sequence[Step], target: float, quality: Callable[[Tried], float]) -> float:
    """Epochs spent when the choice was first as good as the target; infinite if it never was."""
    return next((step.epochs for step in steps if quality(step.best) >= target), math.inf)


def spread(values: Sequence[float], scale: float = 100) -> str:
    """Mean and standard deviation, in percent."""
    if not values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{scale * statistics.fmean(values):.1f} ± {scale * deviation:.1f}"
