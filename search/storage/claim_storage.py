"""Optuna's SQL storage with an exact budget and one owner for every running trial.

Stock Optuna counts trials per call and worker, lets two workers pop one queued trial on SQLite, and forgets
the trials of dead workers. Here a trial is created, counted, claimed and finished in one transaction each.
tests/storage/test_internals.py pins the private names of Optuna's that are overridden here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from search.storage import rows
from search.storage.engines import serialize_sqlite
from search.storage.internals import models, transaction, trial_id_of
from search.storage.leases import ClaimLost, Leases
from search.storage.row_storage import RowStorage
from search.storage.rows import BudgetSpent, NextPlace, given_to_next
from search.storage.trial_record import TrialRecord


class ClaimStorage(RowStorage):
    """A storage to run trials with. `worker`: the owner of what it claims, None to claim nothing; `budget`:
    trials that a study may hold."""

    def __init__(
        self,
        url: str,
        engine_kwargs: dict[str, Any],
        worker: str | None = None,
        budget: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(url, engine_kwargs, **options)
        self.worker, self.budget = worker, budget
        self.leases = Leases(worker, self.engine.dialect.name)
        self.running: set[int] = set()
        """Ids of the trials that this worker has, as far as it knows."""
        self.next_place: NextPlace | None = None
        """What gives new trials their places; None: they are counted, and that is all."""
        self._drafts: dict[int, list[dict[str, Any]]] = {}
        """Parameters of running trials that the next write takes along."""
        self._mirror: FrozenTrial | None = None
        """The running trial that was read last, as this worker has changed it since."""
        if self.engine.dialect.name == "sqlite":
            serialize_sqlite(self.engine)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        trial = super()._create_new_trial(study_id, template_trial)
        if template_trial is None:
            self.running.add(trial_id_of(trial))
        return trial

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> Any:
        """Optuna calls this with the study's row locked: whatever is counted here is exact."""
        if template_trial is not None:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        mine = self.leases.running_of_mine(session, study_id)
        lost = [trial_id for trial_id in mine if trial_id not in self.running]
        if lost:  # made before, but the answer never came
            return models.TrialModel.find_or_raise_by_id(lost[0], session)
        trial: Any = super()._get_prepared_new_trial(study_id, None, session)
        if trial.number >= self.budget:
            raise BudgetSpent
        marks = models.TrialSystemAttributeModel
        given = given_to_next(session, study_id, self.next_place, self.budget - trial.number)
        self._set_trial_attr_without_commit(session, marks, trial.trial_id, *given)
        self.leases.claim(session, trial.trial_id)
        return trial

    def fill(self, study_id: int, templates: Sequence[FrozenTrial]) -> None:
        """Adds the templates that the study lacks, all or none of them: its nth trial is the nth template.
        Whoever else fills the study waits meanwhile, and then adds nothing."""
        with transaction(self) as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            present = session.query(models.TrialModel).filter_by(study_id=study_id).count()
            for template in templates[present:]:
                self._get_prepared_new_trial(study_id, template, session)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Sets the state. Taking a queued trial is a claim: False when another worker was first."""
        if state != TrialState.RUNNING:
            if trial_id in self._drafts:
                self.annotate(trial_id, {})
            self._forget(trial_id)
            return super().set_trial_state_values(trial_id, state, values)
        with transaction(self) as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            self.check_trial_is_updatable(trial_id, trial.state)
            ours = trial.state != TrialState.WAITING  # if the first answer was lost
            if ours and not self.leases.owns(session, trial_id):
                return False
            if not ours:
                trial.state = TrialState.RUNNING
                trial.datetime_start = datetime.now()
                self.leases.claim(session, trial_id)
        if not ours:
            self._forget(trial_id)  # an attempt that was lost may have been this worker's own
        self.running.add(trial_id)
        return True

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial; from memory where this worker runs it, since a pruner asks for it at every report."""
        if trial_id in self._drafts:
            self.annotate(trial_id, {})
        mirror = self._mirror
        if mirror is None or trial_id_of(mirror) != trial_id:
            mirror = super().get_trial(trial_id)
            if mirror.state == TrialState.RUNNING and TrialRecord(mirror).worker == self.worker:
                self._mirror = mirror
        return copy.deepcopy(mirror)

    def annotate(self, trial_id: int, values: Mapping[str, Any]) -> None:
        """Writes user attributes in one transaction: Optuna takes one for each. Raises ClaimLost."""
        with self._owned(trial_id) as session:
            rows.write_trial_attributes(session, trial_id, dict(values))
        self._mirror = None

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """Writes a parameter, or leaves it to the next write; one that is there was written before its answer
        was lost. Raises ClaimLost, as do the next three: a worker taken for dead writes nothing into its
        successor's attempt."""
        self._mirror = None
        if previous_distribution is None:  # the first of its name that this worker sees
            with transaction(self, or_there=True) as session:
                self.leases.lock(session, trial_id)
                self._set_trial_param_without_commit(
                    session, trial_id, param_name, param_value_internal, distribution, None
                )
            return
        check_distribution_compatibility(previous_distribution, distribution)
        row = {"param_name": param_name, "param_value": param_value_internal}
        row["distribution_json"] = distribution_to_json(distribution)
        self._drafts.setdefault(trial_id, []).append({"trial_id": trial_id, **row})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attr(models.TrialUserAttributeModel, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attr(models.TrialSystemAttributeModel, trial_id, key, value)

    def _set_attr(self, model: Any, trial_id: int, key: str, value: Any) -> None:
        with self._owned(trial_id) as session:
            self._set_trial_attr_without_commit(session, model, trial_id, key, value)
        mirror, self._mirror = self._mirror, None
        if mirror and trial_id_of(mirror) == trial_id and model is models.TrialSystemAttributeModel:
            mirror.system_attrs[key] = value
            self._mirror = mirror

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        reports = models.TrialIntermediateValueModel
        with self._owned(trial_id) as session:
            table = reports.__table__
            value, kind = reports.intermediate_value_to_stored_repr(intermediate_value)
            row = {"intermediate_value": value, "intermediate_value_type": kind}
            here = (table.c.trial_id == trial_id) & (table.c.step == step)
            updated: Any = session.execute(table.update().where(here).values(row))
            if not updated.rowcount:
                session.execute(table.insert(), [{"trial_id": trial_id, "step": step, **row}])
        mirror = self._mirror  # another trial's reporter may change it meanwhile
        if mirror and trial_id_of(mirror) == trial_id:
            mirror.intermediate_values[step] = intermediate_value

    @contextmanager
    def _owned(self, trial_id: int) -> Iterator[Session]:
        """A transaction on a trial that this worker runs. Raises ClaimLost."""
        with transaction(self) as session:
            self.leases.lock(session, trial_id)
            self._write_drafts(session, trial_id)
            yield session
        self._drafts.pop(trial_id, None)

    def _write_drafts(self, session: Session, trial_id: int) -> None:
        """Writes all in one statement; those that are there were written before an answer was lost."""
        if drafts := self._drafts.get(trial_id):
            table = models.TrialParamModel.__table__
            names = sqlalchemy.select(table.c.param_name).where(table.c.trial_id == trial_id)
            present = set(session.scalars(names))
            if missing := [row for row in drafts if row["param_name"] not in present]:
                session.execute(table.insert(), missing)

    def finish(
        self, trial_id: int, state: TrialState, value: float | None, values: Mapping[str, Any]
    ) -> None:
        """The end of a trial: user attributes, value and state, all or nothing. Raises ClaimLost."""
        with transaction(self) as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            answer_was_lost = trial.state == state and self.leases.owns(session, trial_id)
            if not answer_was_lost:
                trial = self.leases.lock(session, trial_id)
                self._write_drafts(session, trial_id)
                rows.write_trial_attributes(session, trial_id, dict(values))
                if value is not None:
                    self._set_trial_value_without_commit(session, trial, 0, value)
                trial.state = state
                trial.datetime_complete = datetime.now()
        self._forget(trial_id)

    def release(self, trial_id: int, spent: str | None = None) -> None:
        """Puts a trial of this worker back into the queue: see Leases.release. Raises ClaimLost."""
        try:
            with transaction(self) as session:
                self.leases.release(session, trial_id, spent)
        except ClaimLost:
            self._forget(trial_id)
            raise
        self._forget(trial_id)

    def give_back(self) -> None:
        """Puts all that this worker has back into the queue; what it has lost is another's."""
        for trial_id in tuple(self.running):
            with suppress(ClaimLost):
                self.release(trial_id)

    def _forget(self, trial_id: int) -> None:
        self.running.discard(trial_id)
        self._drafts.pop(trial_id, None)
        self._mirror = None

    def beat(self, trial_id: int) -> None:
        """Tells the others that this worker lives. Raises ClaimLost."""
        with transaction(self) as session:
            self.leases.beat(session, trial_id)

    def elsewhere(self, study_id: int, seconds: float) -> str | None:
        """Another machine whose worker gave a sign of life less than `seconds` ago, if there is one."""
        with transaction(self) as session:
            return self.leases.elsewhere(session, study_id, seconds)

    def reap(self, study_id: int, grace: float) -> list[int]:
        """Takes the trials of dead workers, see Leases.dead; returns their numbers. Silence means something
        only to a worker that had contact all that time."""
        with transaction(self) as session:
            dead = self.leases.dead(session, study_id, grace)
        return [number for trial_id in dead if (number := self._take(study_id, trial_id, grace)) is not None]

    def _take(self, study_id: int, trial_id: int, grace: float) -> int | None:
        with transaction(self) as session:
            return self.leases.take(session, study_id, trial_id, grace)
