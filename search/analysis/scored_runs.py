"""Runs of a confirmation that ended with a test accuracy, and their scores: shares from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from search.design.plan import Plan, PlannedRun
from search.storage.trial_record import TrialRecord

Scored: TypeAlias = Sequence[tuple[PlannedRun, TrialRecord]]


def scored_runs(plan: Plan, trials: Sequence[TrialRecord]) -> list[tuple[PlannedRun, TrialRecord]]:
    """The runs that ended with a test accuracy, in the order of the trials."""
    runs = list(plan.runs())
    ends = [t for t in trials if t.ran_to_the_end and t.number < len(runs)]
    return [(runs[t.number], t) for t in ends if t.test_accuracy is not None]


def test_score(trial: TrialRecord) -> float:
    """The test accuracy of a scored run."""
    assert trial.test_accuracy is not None, "of a scored run"
    return trial.test_accuracy


def train_score(trial: TrialRecord) -> float:
    """The training accuracy of a scored run; one that diverged is at chance, whatever it had learned."""
    value = trial.val_accuracy if trial.diverged else trial.train_accuracy
    assert value is not None, "of a scored run"
    return value


def own_runs(scored: Scored, arm: str, depth: int, of: str | None = None) -> dict[int, TrialRecord]:
    """The runs of an arm by replicate, under its own best recipe or under the best one `of` another arm."""
    return {
        run.replicate: trial
        for run, trial in scored
        if (run.arm, run.depth) == (arm, depth) and (of or arm) in run.best_of
    }
