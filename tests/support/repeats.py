"""Trials that are trained again, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from search.data.datasets import load
from search.design.variations import Change, changed
from search.spec.study import StudySpec
from search.storage.internals import transaction
from search.storage.studies import beside
from search.storage.trial_record import TrialRecord
from search.trials.listeners import Listener
from search.trials.repetition import Repetition, keep, recipe_of, repeat
from tests.support.bench import Bench


class Repeats(Bench):
    """A search of a few trials, and their repeats."""

    def __init__(self, folder: Path, spec: StudySpec, trials: int = 3) -> None:
        super().__init__(folder, spec)
        self.spec, self.trials = spec, [self.run() for _ in range(trials)]

    def again(
        self, origin: FrozenTrial, listeners: Sequence[Listener] = (), **change: Any
    ) -> tuple[Repetition, dict[str, Any]]:
        """The repetition, and what was changed."""
        recipe, changes = changed(
            recipe_of(TrialRecord(origin), self.spec), self.spec.space, Change(**change)
        )
        return repeat(recipe, self.spec, load(self.spec.data), "cpu", listeners), changes

    def kept(self, origin: FrozenTrial, of: str = "s", **change: Any) -> FrozenTrial:
        """The repeat of a trial of the study `of`, as it is stored."""
        repetition, changes = self.again(origin, **change)
        record = keep(self.url, of, TrialRecord(origin), self.spec, self.fingerprint, repetition, changes)
        return record.trial

    def stored(self, name: str = "s-repeat") -> list[FrozenTrial]:
        return beside(self.study, name).get_trials()

    def rewrite(self, *statements: str) -> None:
        """Changes the database as if something else had been stored."""
        with transaction(self.claims.direct) as session:
            for statement in statements:
                session.connection().exec_driver_sql(statement)
