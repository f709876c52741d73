"""Rivals against plain at equal depth: pairs within groups, those that ended and those that were cut short.

Scores of trials are shares in [0, 1]; everything here is in % or percentage points.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from search.scores import TIE, arms_of, depth_band, final_score, groups_of, ran_to_the_end
from search.statistics import Comparison, compare_family

DEEP = 21
"""Convs from which all depths are also compared together."""
DEEPER = f"{DEEP}+"


@dataclass(frozen=True)
class Score:
    """How pairs ended. A tie is closer than a point: seeds alone move a trained digits net by 0.75."""

    pairs: int
    wins: int
    ties: int
    losses: int
    mean: float | None
    """Of the differences, points; positive speaks for the rival."""
    median: float | None


@dataclass(frozen=True)
class Duel:
    """One rival against plain in one band of depths. Exploratory: a search chose and pruned the trials."""

    arm: str
    band: str
    final: Score
    """Pairs of which both were trained to the end; all that follows but `cut_short` is about these."""
    low: float | None
    high: float | None
    """95 % interval of the mean, points; none below two pairs."""
    holm_p: float | None
    """Corrected over the bands of this arm."""
    word: str
    """beats, loses, equal, undecided; "no pair" where none ended."""
    more_pairs: int | None
    """Estimate of what an undecided one lacks."""
    cut_short: Score
    """Pairs with a pruned one, at the last epoch that both have; never part of a verdict."""
    best: float | None
    """Of the rival in this band, %."""
    best_plain: float | None
    ahead_of_best_plain: float | None
    """Points by which the rival's best in this band is ahead of plain's best in it."""
    ahead_of_any_plain: float | None
    """The same against the best plain of any depth."""


def described(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Finished trials that got as far as knowing their arm and depth."""
    return [t for t in trials if t.state.is_finished() and {"arm", "depth"} <= t.user_attrs.keys()]


def band_of(trial: FrozenTrial) -> str:
    return depth_band(trial.user_attrs["depth"])


def bands_of(trials: Sequence[FrozenTrial]) -> list[str]:
    """Those present, shallow first."""
    return sorted({band_of(trial) for trial in trials}, key=first_depth)


def first_depth(band: str) -> int:
    return int(band.rstrip("+").partition("-")[0])


def in_band(trials: Sequence[FrozenTrial], band: str) -> list[FrozenTrial]:
    if band == DEEPER:
        return [trial for trial in trials if trial.user_attrs["depth"] >= DEEP]
    return [trial for trial in trials if band_of(trial) == band]


def final_difference(ours: FrozenTrial, plain: FrozenTrial) -> float | None:
    """Points; None unless both were trained to the end."""
    if not (ran_to_the_end(ours) and ran_to_the_end(plain)):
        return None
    return round(100 * (final_score(ours) - final_score(plain)), 9)


def at_common_epoch(ours: FrozenTrial, plain: FrozenTrial) -> tuple[float, float] | None:
    """Shares after the last epoch that both finished; None where neither was pruned or none is common."""
    states = {ours.state, plain.state}
    if TrialState.PRUNED not in states or not states <= {TrialState.PRUNED, TrialState.COMPLETE}:
        return None
    curves = [
        {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
        for trial in (ours, plain)
    ]
    common = curves[0].keys() & curves[1].keys()
    return (curves[0][max(common)], curves[1][max(common)]) if common else None


def _cut_difference(ours: FrozenTrial, plain: FrozenTrial) -> float | None:
    values = at_common_epoch(ours, plain)
    return None if values is None else round(100 * (values[0] - values[1]), 9)


def _score(differences: Sequence[float]) -> Score:
    margin = 100 * TIE
    wins, losses = sum(d >= margin for d in differences), sum(d <= -margin for d in differences)
    return Score(
        pairs=len(differences),
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        mean=statistics.fmean(differences) if differences else None,
        median=statistics.median(differences) if differences else None,
    )


def best_percent(trials: Sequence[FrozenTrial]) -> float | None:
    return max((100 * final_score(trial) for trial in trials if ran_to_the_end(trial)), default=None)


def _ahead(best: float | None, other: float | None) -> float | None:
    return None if best is None or other is None else best - other


def duels_of(trials: Sequence[FrozenTrial]) -> tuple[Duel, ...]:
    """Every rival in every band that it shares with plain, and in all deep ones together if there are two."""
    known = described(trials)
    groups = [group for group in groups_of(known) if "plain" in group]
    duels: list[Duel] = []
    for arm in arms_of(known):
        pairs = [(group[arm], group["plain"]) for group in groups if arm in group and arm != "plain"]
        bands = bands_of([plain for _, plain in pairs])
        if sum(first_depth(band) >= DEEP for band in bands) > 1:
            bands.append(DEEPER)
        duels += _duels(arm, bands, pairs, known)
    return tuple(duels)


def _duels(
    arm: str,
    bands: Sequence[str],
    pairs: Sequence[tuple[FrozenTrial, FrozenTrial]],
    trials: Sequence[FrozenTrial],
) -> list[Duel]:
    final: dict[str, list[float]] = defaultdict(list)
    cut: dict[str, list[float]] = defaultdict(list)
    for ours, plain in pairs:
        own = [band_of(plain)]
        if DEEPER in bands and plain.user_attrs["depth"] >= DEEP:
            own.append(DEEPER)
        for differences, value in (
            (final, final_difference(ours, plain)),
            (cut, _cut_difference(ours, plain)),
        ):
            if value is not None:
                for band in own:
                    differences[band].append(value)
    compared = compare_family({band: final[band] for band in bands if final[band]})
    rivals = [trial for trial in trials if trial.user_attrs["arm"] == arm]
    plains = [trial for trial in trials if trial.user_attrs["arm"] == "plain"]
    best_of_any = best_percent(plains)
    duels = []
    for band in bands:
        comparison = compared.get(band)
        low, high = _bounds(comparison)
        best, best_plain = best_percent(in_band(rivals, band)), best_percent(in_band(plains, band))
        duels.append(
            Duel(
                arm=arm,
                band=band,
                final=_score(final[band]),
                low=low,
                high=high,
                holm_p=comparison.holm_p if comparison else None,
                word=comparison.word if comparison else "no pair",
                more_pairs=comparison.more_pairs if comparison else None,
                cut_short=_score(cut[band]),
                best=best,
                best_plain=best_plain,
                ahead_of_best_plain=_ahead(best, best_plain),
                ahead_of_any_plain=_ahead(best, best_of_any),
            )
        )
    return duels


def _bounds(comparison: Comparison | None) -> tuple[float | None, float | None]:
    if comparison is None or not math.isfinite(comparison.interval.low):  # of one pair it is infinite
        return None, None
    return max(comparison.interval.low, -100.0), min(comparison.interval.high, 100.0)
