"""Bands of depth, in which trials are compared: by the number of convolutions on the main path."""

from __future__ import annotations

from collections.abc import Sequence

from search.storage.trial_record import TrialRecord

BANDS = (8, 14, 20, 32, 44, 56, 110)
"""Upper ends of the bands, in convs."""
DEEP = 21
"""Convs from which all depths are also compared together."""
DEEPER = f"{DEEP}+"
"""The band of all of them."""


def depth_band(depth: int) -> str:
    """The band of a depth, as "9-14"."""
    low = 1
    for high in BANDS:
        if depth <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"{low}+"


def band_of(trial: TrialRecord) -> str:
    """The band of a trial."""
    return depth_band(trial.depth)


def bands_of(trials: Sequence[TrialRecord]) -> list[str]:
    """The bands in which there are trials, shallow first."""
    return sorted({band_of(trial) for trial in trials}, key=first_depth)


def first_depth(band: str) -> int:
    """The least depth of a band."""
    return int(band.rstrip("+").partition("-")[0])


def in_band(trials: Sequence[TrialRecord], band: str) -> list[TrialRecord]:
    """The trials of a band."""
    if band == DEEPER:
        return [trial for trial in trials if trial.depth >= DEEP]
    return [trial for trial in trials if band_of(trial) == band]
