"""The lead of one arm over another where single runs collapse: location, interval and word of searches.

Scores, points and samples are those of search.stats.paired. One pair in which a rival fell to chance, -41
among eleven of +20 to +90, leaves a mean undecided; so the most extreme tenth of the pairs is cut off at
either end, and collapses are told in a table of failures instead. Chosen by replay of 68 recorded draws as
searches of 100 trials, 2,000 to 5,000 each, before a real search was looked at: share of searches that say
"beats" of residual and of pre-activation at 23 and more convs / false "beats" of equal arms per search, %:

| | as recorded | one run in ten collapses | differences a tenth | both | false |
|---|---|---|---|---|---|
| mean, bootstrap | 95, 99 | 55, 61 | 73, 88 | 23, 28 | 2.2 |
| this | 96, 99 | 63, 68 | 68, 82 | 30, 39 | 1.7 |
| Hodges-Lehmann, signed ranks | 98, 98 | 67, 68 | 60, 75 | 22, 29 | 0.9 |

False ones with an arm that starts two epochs late: 2.2 %; where each run collapses with probability 0.1:
1.9 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special  # type: ignore[import-untyped]

from search.stats.paired import ALPHA, MARGIN, FamilyKey, Floats, Interval, Word, as_sample, holm, more_pairs
from search.stats.paired import verdict as word_of

ENUMERATED, DRAWN = 12, 4095
"""Pairs up to which all sign flips are enumerated, and how many are drawn above."""
FLIPPED_PAIRS = 60
"""Pairs up to which signs are flipped; above, the trimmed t of Tukey and McLaughlin 1963 is as good."""
PRECISION = 0.005
"""Points to which the ends of an interval are found."""


@dataclass(frozen=True)
class Shift:
    """One arm against another at some depths; positive points speak for the first."""

    word: Word
    more_pairs: int | None
    """Estimate of what an undecided one lacks."""
    pairs: int
    location: float
    """The trimmed mean of the differences."""
    interval: Interval
    """The 95 % interval of the location; infinite of few pairs."""
    holm_p: float


def trim_of(pairs: int) -> int:
    """Pairs that are cut off at each end: a tenth of them, and one at least from six on."""
    return max(pairs // 10, 1) if pairs >= 6 else 0


def trimmed_mean(differences: Sequence[float]) -> float:
    """The mean without the extreme ones."""
    sample = np.sort(as_sample(differences))
    cut = trim_of(len(sample))
    return float(sample[cut : len(sample) - cut].mean())


def trimmed_p(differences: Sequence[float], centre: float = 0.0) -> float:
    """Two-sided p that the differences are symmetric about `centre`, by flips of their signs: exact up to 12
    pairs, then sampled with the observed signs as one draw."""
    sample = np.round(as_sample(differences) - centre, 9)
    n, cut = len(sample), trim_of(len(sample))
    if n > FLIPPED_PAIRS:
        error, freedom = _standard_error(sample)
        t = abs(trimmed_mean(sample.tolist())) / error if error else math.inf
        return float(2 * special.stdtr(freedom, -t))
    kept = np.abs(_kept_sums(_flips(n) * sample, cut))
    observed = abs(float(_kept_sums(sample[np.newaxis], cut)[0]))
    return float(np.mean(kept >= observed - 1e-9 * max(1.0, float(np.abs(sample).sum()))))


def trimmed_interval(differences: Sequence[float]) -> Interval:
    """The 95 % interval of the location: all centres that `trimmed_p` does not reject. Infinite where so few
    pairs reject none, of zero width where six or more agree."""
    sample = as_sample(differences)
    middle, spread = trimmed_mean(differences), float(np.ptp(sample))
    if len(sample) > FLIPPED_PAIRS:
        error, freedom = _standard_error(sample)
        half = float(special.stdtrit(freedom, 1 - ALPHA / 2)) * error
        return Interval(middle - half, middle + half)
    ends = []
    for sign in (-1, 1):
        outside = float(sample.max() if sign > 0 else sample.min()) + sign * (spread + PRECISION)
        if trimmed_p(differences, outside) >= ALPHA:
            ends.append(sign * math.inf)
            continue
        ends.append(_bisected(differences, middle, outside) if spread else middle)
    return Interval(*ends)


def _bisected(differences: Sequence[float], inside: float, outside: float) -> float:
    """The centre nearest to `inside` that is rejected, as is `outside`."""
    while abs(outside - inside) > PRECISION:
        centre = (inside + outside) / 2
        inside, outside = (inside, centre) if trimmed_p(differences, centre) < ALPHA else (centre, outside)
    return outside


def _kept_sums(rows: Floats, cut: int) -> Floats:
    """The sum of each row without its `cut` least and its `cut` greatest values."""
    n = rows.shape[1]
    sums: Floats = rows.sum(axis=1)
    if cut == 0:
        return sums
    parted = np.partition(rows, (cut - 1, n - cut), axis=1)
    kept: Floats = sums - parted[:, :cut].sum(axis=1) - parted[:, n - cut :].sum(axis=1)
    return kept


@lru_cache(maxsize=32)
def _flips(n: int) -> Floats:
    """Rows of signs: all of them, up to a common factor; or drawn ones below the observed."""
    if n <= ENUMERATED:
        bits = np.arange(2 ** (n - 1))[:, np.newaxis] >> np.arange(n) & 1
        signs: Floats = np.where(bits, -1.0, 1.0)
        return signs
    drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWN, n))
    return np.vstack([np.ones(n), drawn])


def _standard_error(sample: Floats) -> tuple[float, int]:
    """The standard error of a trimmed mean by the winsorized variance, and its degrees of freedom."""
    n, cut = len(sample), trim_of(len(sample))
    left, ordered = n - 2 * cut, np.sort(sample)
    winsorized = np.clip(sample, ordered[cut], ordered[n - 1 - cut])
    return float(winsorized.std(ddof=1) * math.sqrt((n - 1) / (left * (left - 1)))), left - 1


def compare_shifts(
    family: Mapping[FamilyKey, Sequence[float]], margin: float = MARGIN
) -> dict[FamilyKey, Shift]:
    """A comparison for each sample of paired differences; Holm corrects p over all that are passed."""
    found = {key: _shift(tuple(as_sample(differences).tolist())) for key, differences in family.items()}
    adjusted = holm([p for _, _, p in found.values()])
    compared: dict[FamilyKey, Shift] = {}
    for (key, (location, interval, _)), holm_p in zip(found.items(), adjusted, strict=True):
        sample = family[key]
        word = word_of(interval, holm_p, len(sample), margin)
        lacking = more_pairs(_winsorized(sample), margin, len(family)) if word == "undecided" else None
        compared[key] = Shift(word, lacking, len(sample), location, interval, holm_p)
    return compared


@lru_cache(maxsize=512)
def _shift(sample: tuple[float, ...]) -> tuple[float, Interval, float]:
    """Shift, interval and p. Kept: a page that is renewed asks again for what has not changed."""
    return trimmed_mean(sample), trimmed_interval(sample), trimmed_p(sample)


def _winsorized(differences: Sequence[float]) -> Floats:
    sample = as_sample(differences)
    ordered, cut = np.sort(sample), trim_of(len(sample))
    clipped: Floats = np.clip(sample, ordered[cut], ordered[len(sample) - 1 - cut])
    return clipped
