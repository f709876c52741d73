"""Trials by arm and by draw: what every table and figure begins with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from models.arms.arm import in_order
from search.storage.trial_record import TrialRecord


def described(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Finished trials that got as far as knowing their arm and depth."""
    return [trial for trial in trials if trial.is_described]


def arms_of(trials: Sequence[TrialRecord]) -> list[str]:
    """The arms of the trials, in the order in which they are shown."""
    return in_order(trial.arm for trial in trials if trial.arm)


def of_arm(trials: Sequence[TrialRecord], arm: str) -> list[TrialRecord]:
    """The trials of an arm."""
    return [trial for trial in trials if trial.arm == arm]


def best_of(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best of those that ran to the end; of equal ones, the first."""
    ends = [trial for trial in trials if trial.ran_to_the_end]
    return max(ends, key=lambda trial: (trial.score, -trial.number)) if ends else None


def draws_of(trials: Sequence[TrialRecord]) -> list[dict[str, TrialRecord]]:
    """The trials of each group by arm, in order of the groups."""
    groups: dict[int, dict[str, TrialRecord]] = defaultdict(dict)
    for trial in trials:
        if trial.group is not None:
            groups[trial.group][trial.arm] = trial
    return [groups[number] for number in sorted(groups)]


def outcomes_of(trials: Sequence[TrialRecord]) -> dict[str, int]:
    """Numbers of finished trials, by their ends."""
    return dict(Counter(trial.ended for trial in trials if trial.is_finished))
