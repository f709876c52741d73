"""Bands of depth, in which trials are compared, by the number of convolutions on the main path: the strata
of the search, or where it had none, bands that are the same for all. The lower ones and the upper ones are
also compared together, as two halves: there are pairs enough for a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from search.storage.trial_record import TrialRecord

BANDS = (8, 14, 20, 32, 44, 56, 110)
"""Upper ends of the bands of trials that have no stratum, in convs."""
DEEP = 21
"""Convs from which these are in the upper half."""


class Half(NamedTuple):
    """The lower or the upper depths; both ends are included."""

    name: str
    low: int
    high: int | None

    def has(self, trial: TrialRecord) -> bool:
        """Whether a trial is of these depths."""
        return self.low <= trial.depth and (self.high is None or trial.depth <= self.high)


UNSTRATIFIED = Half(f"1-{DEEP - 1}", 1, DEEP - 1), Half(f"{DEEP}+", DEEP, None)
"""The halves of trials that have no stratum."""


def halves_of(trials: Sequence[TrialRecord]) -> tuple[Half, Half]:
    """The lower half of depths and the upper one. A search comes through all strata in its first groups, so
    its trials tell which there are; of an odd number, the middle one is an upper one."""
    strata = sorted({trial.stratum for trial in trials if trial.stratum}, key=first_depth)
    if len(strata) < 2:
        return UNSTRATIFIED
    below, above = strata[: len(strata) // 2], strata[len(strata) // 2 :]
    lower = Half(_from_to(below), 1, first_depth(above[0]) - 1)
    return lower, Half(_from_to(above), first_depth(above[0]), None)


def _from_to(bands: Sequence[str]) -> str:
    low, high = first_depth(bands[0]), last_depth(bands[-1])
    return f"{low}-{high}" if low < high else str(low)


def depth_band(depth: int) -> str:
    """The band of a depth, as "9-14"."""
    low = 1
    for high in BANDS:
        if depth <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"{low}+"


def band_of(trial: TrialRecord) -> str:
    """The stratum of a trial, or else the band of its depth."""
    return trial.stratum or depth_band(trial.depth)


def bands_of(trials: Sequence[TrialRecord]) -> list[str]:
    """The bands in which there are trials, shallow first."""
    return sorted({band_of(trial) for trial in trials}, key=first_depth)


def first_depth(band: str) -> int:
    """The least depth of a band."""
    return int(band.rstrip("+").partition("-")[0])


def last_depth(band: str) -> int:
    """The greatest depth of a band that has an end."""
    return int(band.partition("-")[2] or band)


def in_band(trials: Sequence[TrialRecord], band: str) -> list[TrialRecord]:
    """The trials of a band."""
    return [trial for trial in trials if band_of(trial) == band]
