"""Rivals against the baseline at equal depth: pairs within groups, those that ended and those that were cut
short.

Scores of trials are shares in [0, 1]; everything here is in % or percentage points.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from search.analysis.bands import DEEP, DEEPER, band_of, bands_of, first_depth, in_band
from search.analysis.trials import arms_of, described, draws_of, of_arm
from search.stats.paired import Comparison, compare_family
from search.storage.trial_record import TrialRecord

TIED = 1.0
"""Points below which a pair is a tie: seeds alone move a trained digits net by 0.75."""
Pair = tuple[TrialRecord, TrialRecord]
"""A rival's trial and the baseline's of the same draw."""


@dataclass(frozen=True)
class Score:
    """The ends of pairs, counted."""

    pairs: int
    wins: int
    ties: int
    losses: int
    mean: float | None
    """Mean of the differences, points; positive speaks for the rival."""
    median: float | None


@dataclass(frozen=True)
class Duel:
    """One rival against the baseline in one band of depths. Exploratory: a search chose and pruned the
    trials."""

    arm: str
    band: str
    final: Score
    """Pairs of which both were trained to the end; all that follows but `cut_short` is about these."""
    low: float | None
    high: float | None
    """95 % interval of the mean, points; none below two pairs."""
    holm_p: float | None
    """p of the sign flips, corrected over the bands of this arm."""
    word: str
    """beats, loses, equal, undecided; "no pair" where none ended."""
    more_pairs: int | None
    """Estimate of what an undecided one lacks."""
    cut_short: Score
    """Pairs with a pruned one, at the last epoch that both have; never part of a verdict."""
    best: float | None
    """The rival's best in this band, %."""
    best_baseline: float | None
    ahead_of_best_baseline: float | None
    """Points by which the rival's best in this band is ahead of the baseline's best in it."""
    ahead_of_any_baseline: float | None
    """The same against the baseline's best of any depth."""


def final_difference(ours: TrialRecord, theirs: TrialRecord) -> float | None:
    """The difference of scores in points; None unless both were trained to the end."""
    if not (ours.ran_to_the_end and theirs.ran_to_the_end):
        return None
    return round(100 * (ours.score - theirs.score), 9)


def at_common_epoch(ours: TrialRecord, theirs: TrialRecord) -> tuple[float, float] | None:
    """Both scores after the last epoch that both finished; None where neither was pruned, or none is
    common."""
    pair = (ours, theirs)
    cut = any(trial.is_pruned for trial in pair)
    if not cut or not all(trial.is_pruned or trial.ran_to_the_end for trial in pair):
        return None
    curves = [{e: v for e, v in trial.reported.items() if math.isfinite(v)} for trial in pair]
    common = curves[0].keys() & curves[1].keys()
    return (curves[0][max(common)], curves[1][max(common)]) if common else None


def _cut_difference(ours: TrialRecord, theirs: TrialRecord) -> float | None:
    values = at_common_epoch(ours, theirs)
    return None if values is None else round(100 * (values[0] - values[1]), 9)


def _score(differences: Sequence[float]) -> Score:
    wins, losses = sum(d >= TIED for d in differences), sum(d <= -TIED for d in differences)
    return Score(
        pairs=len(differences),
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        mean=statistics.fmean(differences) if differences else None,
        median=statistics.median(differences) if differences else None,
    )


def best_percent(trials: Sequence[TrialRecord]) -> float | None:
    """The best score of runs to the end, %; None where there is none."""
    return max((100 * trial.score for trial in trials if trial.ran_to_the_end), default=None)


def _ahead(best: float | None, other: float | None) -> float | None:
    return None if best is None or other is None else best - other


def duels_of(trials: Sequence[TrialRecord], baseline: str) -> tuple[Duel, ...]:
    """Every rival in every band that it shares with the baseline, and in all deep ones together if there are
    two."""
    known = described(trials)
    draws = [draw for draw in draws_of(known) if baseline in draw]
    duels: list[Duel] = []
    for arm in arms_of(known):
        pairs = [(draw[arm], draw[baseline]) for draw in draws if arm in draw and arm != baseline]
        bands = bands_of([theirs for _, theirs in pairs])
        if sum(first_depth(band) >= DEEP for band in bands) > 1:
            bands.append(DEEPER)
        duels += _duels(arm, bands, pairs, of_arm(known, arm), of_arm(known, baseline))
    return tuple(duels)


def _duels(
    arm: str,
    bands: Sequence[str],
    pairs: Sequence[Pair],
    rivals: Sequence[TrialRecord],
    baselines: Sequence[TrialRecord],
) -> list[Duel]:
    final, cut = _by_band(pairs, bands)
    compared = compare_family({band: final[band] for band in bands if final[band]})
    best_of_any = best_percent(baselines)
    duels = []
    for band in bands:
        comparison = compared.get(band)
        low, high = _bounds(comparison)
        best, best_baseline = best_percent(in_band(rivals, band)), best_percent(in_band(baselines, band))
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
                best_baseline=best_baseline,
                ahead_of_best_baseline=_ahead(best, best_baseline),
                ahead_of_any_baseline=_ahead(best, best_of_any),
            )
        )
    return duels


def _by_band(
    pairs: Sequence[Pair], bands: Sequence[str]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Differences of pairs that ended, and of those cut short, by the baseline's band; deep ones twice."""
    final: dict[str, list[float]] = defaultdict(list)
    cut: dict[str, list[float]] = defaultdict(list)
    for ours, theirs in pairs:
        own = [band_of(theirs)]
        if DEEPER in bands and theirs.depth >= DEEP:
            own.append(DEEPER)
        for found, value in ((final, final_difference(ours, theirs)), (cut, _cut_difference(ours, theirs))):
            for band in own if value is not None else ():
                found[band].append(value)  # type: ignore[arg-type]
    return final, cut


def _bounds(comparison: Comparison | None) -> tuple[float | None, float | None]:
    if comparison is None or not math.isfinite(comparison.interval.low):  # of one pair it is infinite
        return None, None
    return max(comparison.interval.low, -100.0), min(comparison.interval.high, 100.0)
