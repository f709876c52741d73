"""Trials of a stratified design by their ranks: what a sampler learns from, so that shallow nets are not
better merely because they are shallow."""

from __future__ import annotations

import copy
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.storage.trial_record import TrialRecord


def ranked(trials: Sequence[FrozenTrial], arm: str) -> list[FrozenTrial]:
    """Copies of an arm's finished trials, complete all of them, their values the share of the arm's trials of
    their stratum that they are better than, equal ones as half. Those that broke off for an error, and those
    that have no place in the design, are left out."""
    by_stratum: dict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        place = TrialRecord(trial).place
        if place and place["arm"] == arm and trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            by_stratum[place["stratum"]].append(trial)
    everything = [trial for members in by_stratum.values() for trial in members]
    found = []
    for members in by_stratum.values():
        scores = _expected(members, everything)
        ordered = np.sort(scores)
        less, not_more = np.searchsorted(ordered, scores), np.searchsorted(ordered, scores, side="right")
        for trial, rank in zip(members, (less + not_more) / 2 / len(members), strict=True):
            shown = copy.copy(trial)
            shown.state, shown.value = TrialState.COMPLETE, float(rank)
            found.append(shown)
    return sorted(found, key=lambda trial: trial.number)


def _expected(members: Sequence[FrozenTrial], everything: Sequence[FrozenTrial]) -> list[float]:
    """What each would have ended with: its value; of a stopped one, its last report and what others gained
    from that epoch on, those of its stratum if there are two."""
    gains: dict[int, float] = {}

    def gain(epoch: int) -> float:
        for peers in (members, everything):
            gained = [
                end.value - end.intermediate_values[epoch]
                for end in peers
                if end.state == TrialState.COMPLETE
                and end.value is not None
                and epoch in end.intermediate_values
            ]
            if len(gained) > 1:
                return statistics.median(gained)
        return 0.0

    expected = []
    for trial in members:
        if trial.state == TrialState.COMPLETE:
            expected.append(trial.value if trial.value is not None else -math.inf)
        elif not trial.intermediate_values:  # there was no memory for it, or it had too many parameters
            expected.append(-math.inf)
        else:
            last = max(trial.intermediate_values)
            if last not in gains:
                gains[last] = gain(last)
            reported = trial.intermediate_values[last]
            expected.append(-math.inf if math.isnan(reported) else reported + gains[last])
    return expected
