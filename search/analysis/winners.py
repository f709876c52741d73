"""Architectures that beat their twins: the baseline's runs of the same draws, other in the block alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from search.analysis.accounts import classes_of
from search.analysis.bands import band_of, first_depth
from search.analysis.duels import TIED, final_difference
from search.analysis.trials import described, draws_of
from search.storage.trial_record import WEIGHTS, TrialRecord

MOST = 2
"""Winners that are named of an arm in a band of depths: the most accurate ones."""


@dataclass(frozen=True)
class Winner:
    """A run to the end that is ahead of its twin. Accuracies are in %, of validation images."""

    arm: str
    trial: int
    depth: int
    band: str
    """The band of depths that it is in."""
    architecture: str
    """The architecture in words."""
    outline: str
    """Its stages, each as width × blocks, and its norm."""
    val: float
    twin: int
    """Number of the baseline's trial."""
    twin_val: float
    difference: float
    """Points."""
    params: int | None
    macs: int | None
    """Multiply-adds for one image."""
    weights: str | None
    """Key of the artifact that holds its weights; None where none were kept."""


def winners_of(trials: Sequence[TrialRecord], baseline: str) -> tuple[Winner, ...]:
    """The most accurate of each arm that are ahead by more than a tie in every band of depths, the deepest
    band first. A run that did not learn wins nothing: its training accuracy is below twice chance."""
    known, learned = described(trials), 2 / classes_of(trials)
    found: dict[str, list[Winner]] = defaultdict(list)
    for draw in draws_of(known):
        twin = draw.get(baseline)
        if twin is None:
            continue
        for trial in draw.values():
            difference = final_difference(trial, twin)
            if trial.train_accuracy is not None and trial.train_accuracy < learned:
                continue
            if difference is not None and difference >= TIED:
                found[band_of(trial)].append(_winner(trial, twin, difference))
    named: list[Winner] = []
    for band in sorted(found, key=first_depth, reverse=True):
        told = Counter[str]()
        for winner in sorted(found[band], key=lambda winner: (-winner.val, winner.trial)):
            told[winner.arm] += 1
            if told[winner.arm] <= MOST:
                named.append(winner)
    return tuple(named)


def _winner(trial: TrialRecord, twin: TrialRecord, difference: float) -> Winner:
    return Winner(
        arm=trial.arm,
        trial=trial.number,
        depth=trial.depth,
        band=band_of(trial),
        architecture=trial.architecture_words,
        outline=trial.outline,
        val=100 * trial.score,
        twin=twin.number,
        twin_val=100 * twin.score,
        difference=difference,
        params=trial.num_params,
        macs=trial.macs,
        weights=trial.artifacts.get(WEIGHTS),
    )
