"""How far a study has come: what the heading of a page says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from search.storage.study_record import StudyRecord
from search.storage.trial_record import TrialRecord, finished


@dataclass(frozen=True)
class Course:
    """A study's data, its counts of trials, and its times by the clocks of its workers."""

    data: str
    """Name of the data set; empty where the study does not tell."""
    budget: int
    """Trials that it may hold."""
    finished: int
    running: int
    began: datetime | None
    ended: datetime | None
    """When the last trial ended."""

    @property
    def state(self) -> str:
        """One of running, done, stopped and empty."""
        if self.running:
            return "running"
        if not self.finished:
            return "empty"
        return "done" if self.finished >= self.budget else "stopped"

    @property
    def counted(self) -> str:
        """Its trials in words: 63 of 100 trials, 2 running."""
        of = f" of {self.budget:,}" * (self.budget >= self.finished)
        noun = "trial" if max(self.budget, self.finished) == 1 else "trials"
        return f"{self.finished:,}{of} {noun}" + f", {self.running:,} running" * bool(self.running)


def course_of(stored: StudyRecord, trials: Sequence[TrialRecord]) -> Course:
    """How far the study of these trials has come."""
    began = [trial.started_at for trial in trials if trial.started_at]
    ended = [trial.ended_at for trial in trials if trial.ended_at]
    return Course(
        data=(stored.spec or {}).get("data", {}).get("name", ""),
        budget=stored.budget,
        finished=finished(trials),
        running=sum(trial.is_running for trial in trials),
        began=min(began, default=None),
        ended=max(ended, default=None),
    )
