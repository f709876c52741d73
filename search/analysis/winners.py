"""Architectures that beat their twins: the baseline's runs of the same draws, other in the block alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.analysis.accounts import classes_of
from search.analysis.bands import halves_of
from search.analysis.duels import TIED, final_difference
from search.analysis.trials import described, draws_of
from search.storage.trial_record import TrialRecord

MOST = 10
"""Winners that are named: the first ones."""


@dataclass(frozen=True)
class Winner:
    """A run to the end that is ahead of its twin. Accuracies are in %, of validation images."""

    arm: str
    trial: int
    depth: int
    architecture: str
    """The architecture in words, its stages and widths."""
    val: float
    twin: int
    """Number of the baseline's trial."""
    twin_val: float
    difference: float
    """Points."""


def winners_of(trials: Sequence[TrialRecord], baseline: str) -> tuple[Winner, ...]:
    """Those ahead by more than a tie, the deep ones first and of these the most accurate ones. A run that did
    not learn wins nothing: its training accuracy is below twice chance."""
    known, learned = described(trials), 2 / classes_of(trials)
    _, upper = halves_of(known)
    found: list[tuple[bool, Winner]] = []
    for draw in draws_of(known):
        twin = draw.get(baseline)
        if twin is None:
            continue
        for trial in draw.values():
            difference = final_difference(trial, twin)
            if trial.train_accuracy is not None and trial.train_accuracy < learned:
                continue
            if difference is not None and difference >= TIED:
                found.append((not upper.has(trial), _winner(trial, twin, difference)))
    found.sort(key=lambda item: (item[0], -item[1].val, item[1].trial))
    return tuple(winner for _, winner in found[:MOST])


def _winner(trial: TrialRecord, twin: TrialRecord, difference: float) -> Winner:
    return Winner(
        arm=trial.arm,
        trial=trial.number,
        depth=trial.depth,
        architecture=trial.architecture_words,
        val=100 * trial.score,
        twin=twin.number,
        twin_val=100 * twin.score,
        difference=difference,
    )
