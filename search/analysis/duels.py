"""Rivals against the baseline at equal depth: pairs within groups, those that ended and those that were cut
short.

Scores of trials are shares in [0, 1]; everything here is in % or percentage points.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.analysis.bands import band_of, bands_of, halves_of, in_band
from search.analysis.trials import arms_of, described, draws_of, of_arm
from search.stats.trimmed import Shift, compare_shifts
from search.storage.trial_record import TrialRecord

TIED = 1.0
"""Points below which a pair is a tie: seeds alone move a trained digits net by 0.75."""
MIN_BAND = 8
"""Pairs from which on a band has a word of its own."""
LEADS = 4
"""Pairs that are to be won, and none lost, by an arm that leads."""
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
    """One rival against the baseline in one band of depths, or in half of them. Exploratory: a search chose
    and pruned the trials."""

    arm: str
    band: str
    half: bool
    """Whether these are the lower or the upper depths together."""
    final: Score
    """Pairs of which both were trained to the end; all that follows but `cut_short` is about these."""
    gain: float | None
    """The location of the differences, points: see search.stats.trimmed."""
    low: float | None
    high: float | None
    """Its 95 % interval; none below seven pairs, or where few are told apart."""
    holm_p: float | None
    """p of the sign flips, corrected; None where there is no word to earn."""
    word: str
    """beats, loses, equal, undecided; leads or trails where undecided, but at least four pairs were won and
    none lost, or the other way round; "too few" below four pairs, in a band below eight; "no pair" where none
    ended."""
    more_pairs: int | None
    """Estimate of what is lacking where nothing is decided."""
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
    """Every rival in the lower and in the upper half of depths, each followed by its bands if it has several.
    A half has a word of its own, corrected over the two; a band has one from MIN_BAND pairs on and where its
    half is decided, corrected over such bands of the half: what is said of bands adds no error to what is
    said of halves."""
    known = described(trials)
    halves = halves_of(known)
    draws = [draw for draw in draws_of(known) if baseline in draw]
    everywhere = best_percent(of_arm(known, baseline))
    duels: list[Duel] = []
    for arm in arms_of(known):
        pairs = [(draw[arm], draw[baseline]) for draw in draws if arm in draw and arm != baseline]
        by_half = [(half, [pair for pair in pairs if half.has(pair[1])]) for half in halves]
        told = _compared({half.name: finals(members) for half, members in by_half})
        for half, members in by_half:
            if not members:
                continue
            own = [trial for trial in known if half.has(trial)]
            duels.append(_duel(arm, half.name, True, members, told.get(half.name), own, baseline, everywhere))
            bands = bands_of([theirs for _, theirs in members])
            by_band = {band: [pair for pair in members if band_of(pair[1]) == band] for band in bands}
            samples = {band: finals(inside) for band, inside in by_band.items()}
            decided = half.name in told and told[half.name].word != "undecided"
            words = _compared(
                {b: found for b, found in samples.items() if decided and len(found) >= MIN_BAND}
            )
            for band, pairs_there in by_band.items() if len(bands) > 1 else ():
                there = in_band(known, band)
                duels.append(
                    _duel(arm, band, False, pairs_there, words.get(band), there, baseline, everywhere)
                )
    return tuple(duels)


def finals(pairs: Sequence[Pair]) -> list[float]:
    """The differences of the pairs of which both were trained to the end."""
    return [value for pair in pairs if (value := final_difference(*pair)) is not None]


def _compared(samples: Mapping[str, Sequence[float]]) -> dict[str, Shift]:
    return compare_shifts({name: sample for name, sample in samples.items() if sample})


def _duel(
    arm: str,
    band: str,
    half: bool,
    pairs: Sequence[Pair],
    comparison: Shift | None,
    there: Sequence[TrialRecord],
    baseline: str,
    everywhere: float | None,
) -> Duel:
    """`comparison`: what earns a word, None where nothing does; `there`: all trials of these depths;
    `everywhere`: the baseline's best at any depth."""
    final = _score(finals(pairs))
    shown = comparison or _compared({band: finals(pairs)}).get(band)
    low, high = _bounds(shown)
    best, best_baseline = best_percent(of_arm(there, arm)), best_percent(of_arm(there, baseline))
    return Duel(
        arm=arm,
        band=band,
        half=half,
        final=final,
        gain=shown.location if shown else None,
        low=low,
        high=high,
        holm_p=comparison.holm_p if comparison else None,
        word=_word(comparison, final, LEADS if half else MIN_BAND),
        more_pairs=comparison.more_pairs if comparison else None,
        cut_short=_score([value for pair in pairs if (value := _cut_difference(*pair)) is not None]),
        best=best,
        best_baseline=best_baseline,
        ahead_of_best_baseline=_ahead(best, best_baseline),
        ahead_of_any_baseline=_ahead(best, everywhere),
    )


def _word(comparison: Shift | None, final: Score, least: int) -> str:
    """`least`: pairs from which on an arm may lead."""
    if not final.pairs:
        return "no pair"
    if comparison and comparison.word != "undecided":
        return comparison.word
    if final.pairs < least:
        return "too few"
    if final.wins >= LEADS and not final.losses:
        return "leads"
    if final.losses >= LEADS and not final.wins:
        return "trails"
    return "undecided"


def _bounds(comparison: Shift | None) -> tuple[float | None, float | None]:
    if comparison is None or not math.isfinite(comparison.interval.low):  # of few pairs it is infinite
        return None, None
    return max(comparison.interval.low, -100.0), min(comparison.interval.high, 100.0)
