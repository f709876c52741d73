"""Optuna's SQL storage with fast reads, and attributes of a study that several workers change.

tests/storage/test_internals.py pins the private names of Optuna's that are overridden here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from search.storage import rows
from search.storage.internals import models, transaction


class RowStorage(RDBStorage):
    """A storage that is enough to look on; claim_storage has what it takes to run trials."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any], **options: Any) -> None:
        try:
            super().__init__(url, engine_kwargs, **options)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        weakref.finalize(self, self.engine.dispose)  # else connections are dropped without a goodbye

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Optuna's storages and its cache read trials through this alone."""
        with transaction(self) as session:
            return rows.read_trials(session, study_id, states, included_trial_ids, trial_id_greater_than)

    def is_waiting(self, study_id: int) -> bool:
        """Whether the queue has a trial."""
        with transaction(self) as session:
            return rows.is_waiting(session, study_id)

    def unfinished(self, study_id: int) -> int:
        """Number of trials that run or wait."""
        with transaction(self) as session:
            states = (TrialState.RUNNING, TrialState.WAITING)
            trials = session.query(models.TrialModel).filter_by(study_id=study_id)
            return int(trials.filter(models.TrialModel.state.in_(states)).count())

    def count_up(self, study_id: int, name: str) -> None:
        """Adds one to a number among the study's user attributes."""
        with transaction(self) as session:
            rows.change_study_attribute(session, study_id, name, lambda number: (number or 0) + 1)

    def replace_system_attributes(
        self,
        study_id: int,
        values: Mapping[str, Any],
        gone: Iterable[str],
        unless: Callable[[dict[str, Any]], bool],
    ) -> None:
        """Replaces system attributes in one transaction: see rows.replace_system_attributes."""
        with transaction(self) as session:
            rows.replace_system_attributes(session, study_id, dict(values), gone, unless)
