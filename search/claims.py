"""Optuna's SQL storage with an exact budget and one owner for every running trial.

Stock Optuna counts trials per call and worker, lets two workers pop one queued trial on SQLite, and forgets
the trials of dead workers. Here a trial is created, counted, claimed and finished in one transaction each.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from search.rows import RowStorage, models

MAX_ATTEMPTS = 3
SLOT = "archsearch:slot"
"""System attribute: how many trials the sampler had been asked for before this one; queued ones have none."""


class BudgetSpent(Exception):
    """The study holds all its trials."""


class ClaimLost(Exception):
    """The trial went to another worker, since this one was taken for dead."""


def worker_name() -> str:
    """host:pid:token. The token tells apart two processes that had the same pid."""
    return f"{_host()}:{os.getpid()}:{secrets.token_hex(2)}"


def _host() -> str:
    """Where a pid means the same process: containers may share a host name, but not their pids."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{namespace}"


class ClaimStorage(RowStorage):
    """`worker` owns what it claims; None only looks on. `budget`: trials that the study may hold."""

    def __init__(
        self, url: str, engine_kwargs: dict[str, Any], worker: str | None = None, budget: int = 0
    ) -> None:
        super().__init__(url, engine_kwargs)
        self.worker, self.budget = worker, budget
        weakref.finalize(self, self.engine.dispose)  # else connections are dropped without a goodbye
        if self.engine.dialect.name == "sqlite":
            self._serialize_sqlite()

    def _serialize_sqlite(self) -> None:
        """SQLite has no SELECT FOR UPDATE: read-then-write is safe only if BEGIN takes the write lock."""

        @sqlalchemy.event.listens_for(self.engine, "connect")
        def configure(connection: Any, _: object) -> None:
            connection.isolation_level = None  # else the driver begins transactions by itself, and later
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        @sqlalchemy.event.listens_for(self.engine, "begin")
        def begin(connection: sqlalchemy.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        self.engine.dispose()  # connections made before know nothing of this

    def _transaction(self) -> AbstractContextManager[Session]:
        return _create_scoped_session(self.scoped_session)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> Any:
        """Optuna calls this with the study's row locked: whatever is counted here is exact."""
        trial: Any = super()._get_prepared_new_trial(study_id, template_trial, session)
        if template_trial is None:
            if trial.number >= self.budget:
                raise BudgetSpent
            slots = session.query(models.TrialSystemAttributeModel).join(models.TrialModel)
            slot = slots.filter(
                models.TrialModel.study_id == study_id, models.TrialSystemAttributeModel.key == SLOT
            ).count()
            self._set_trial_attr_without_commit(
                session, models.TrialSystemAttributeModel, trial.trial_id, SLOT, slot
            )
            self._claim(session, trial.trial_id)
        return trial

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Taking a queued trial is a claim: False when another worker was first."""
        if state != TrialState.RUNNING:
            return super().set_trial_state_values(trial_id, state, values)
        with self._transaction() as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            self.check_trial_is_updatable(trial_id, trial.state)
            if trial.state != TrialState.WAITING:
                return False
            trial.state = TrialState.RUNNING
            trial.datetime_start = datetime.now()
            self._claim(session, trial_id)
        return True

    def _claim(self, session: Session, trial_id: int) -> None:
        attempt = self._attrs(session, trial_id).get("attempt", 0) + 1
        self._write(session, trial_id, {"worker": self.worker, "attempt": attempt})
        session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial_id).delete()
        session.add(models.TrialHeartbeatModel(trial_id=trial_id))

    def _attrs(self, session: Session, trial_id: int) -> dict[str, Any]:
        rows = models.TrialUserAttributeModel.where_trial_id(trial_id, session)
        return {row.key: json.loads(row.value_json) for row in rows}

    def _write(self, session: Session, trial_id: int, attrs: dict[str, Any]) -> None:
        for key, value in attrs.items():
            self._set_trial_attr_without_commit(session, models.TrialUserAttributeModel, trial_id, key, value)

    def _own(self, session: Session, trial_id: int) -> Any:
        """The row of a trial that this worker runs, locked. Raises ClaimLost."""
        trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
        owner = self._attrs(session, trial_id).get("worker")
        if trial.state != TrialState.RUNNING or owner != self.worker:
            raise ClaimLost
        return trial

    def annotate(self, trial_id: int, attrs: dict[str, Any]) -> None:
        """Writes user attributes in one transaction: Optuna takes one for each. Raises ClaimLost."""
        with self._transaction() as session:
            self._own(session, trial_id)
            self._write(session, trial_id, attrs)

    def finish(self, trial_id: int, state: TrialState, value: float | None, attrs: dict[str, Any]) -> None:
        """The end of a trial: attributes, value and state, all or nothing. Raises ClaimLost."""
        with self._transaction() as session:
            trial = self._own(session, trial_id)
            self._write(session, trial_id, attrs)
            if value is not None:
                self._set_trial_value_without_commit(session, trial, 0, value)
            trial.state = state
            trial.datetime_complete = datetime.now()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Raises ClaimLost: a worker taken for dead reports nothing into its successor's attempt."""
        with self._transaction() as session:
            self._own(session, trial_id)
            self._set_trial_intermediate_value_without_commit(session, trial_id, step, intermediate_value)

    def release(self, trial_id: int) -> None:
        """Puts a trial that this worker runs back into the queue; the attempt does not count."""
        with self._transaction() as session:
            trial = self._own(session, trial_id)
            attempt = self._attrs(session, trial_id)["attempt"] - 1
            self._write(session, trial_id, {"attempt": attempt})
            self._requeue(session, trial)

    def _requeue(self, session: Session, trial: models.TrialModel) -> None:
        """Parameters and attributes stay; what an attempt reported goes, and the pruner's notes on it."""
        trial.state = TrialState.WAITING
        session.query(models.TrialIntermediateValueModel).filter_by(trial_id=trial.trial_id).delete()
        attrs = models.TrialSystemAttributeModel
        of_the_attempt = attrs.key.startswith("completed_rung_") | attrs.key.startswith("artifacts:")
        session.query(attrs).filter(attrs.trial_id == trial.trial_id, of_the_attempt).delete(
            synchronize_session=False
        )

    def beat(self, trial_id: int) -> None:
        """Tells the others that this worker lives. Raises ClaimLost."""
        with self._transaction() as session:
            self._own(session, trial_id)
            session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial_id).update(
                {"heartbeat": sqlalchemy.func.now()}
            )

    def reap(self, study_id: int, grace: float) -> list[int]:
        """Numbers of the trials taken from dead workers: queued again, or failed after MAX_ATTEMPTS.

        Dead: no heartbeat for `grace` seconds by the database's clock, or a process gone from this host.
        """
        taken = []
        with self._transaction() as session:
            now = session.execute(sqlalchemy.func.now()).scalar_one().replace(tzinfo=None)
            running = session.query(models.TrialModel).filter_by(study_id=study_id, state=TrialState.RUNNING)
            for trial in running.with_for_update():
                attrs = self._attrs(session, trial.trial_id)
                beats = session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial.trial_id)
                beat = beats.one_or_none()
                silent = beat is None or (now - beat.heartbeat).total_seconds() > grace
                if not silent and not self._is_gone(attrs.get("worker") or ""):
                    continue
                taken.append(trial.number)
                if attrs.get("attempt", 0) < MAX_ATTEMPTS:
                    self._requeue(session, trial)
                else:
                    self._write(session, trial.trial_id, {"outcome": "lost"})
                    trial.state = TrialState.FAIL
                    trial.datetime_complete = datetime.now()
        return taken

    def _is_gone(self, worker: str) -> bool:
        host, _, rest = worker.partition(":")
        pid, _, _ = rest.partition(":")
        if host != _host() or not pid.isdigit() or worker == self.worker:
            return False
        if int(pid) == os.getpid():
            return True  # an earlier process with this process's pid, as after a container's restart
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def fill(self, study_id: int, templates: Sequence[FrozenTrial]) -> None:
        """Adds the templates that the study lacks, told by their place: all of them or none. Whoever else
        fills the study waits meanwhile, and then adds nothing.
        """
        with self._transaction() as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            present = session.query(models.TrialModel).filter_by(study_id=study_id).count()
            for template in templates[present:]:
                self._get_prepared_new_trial(study_id, template, session)

    def count_up(self, study_id: int, key: str) -> None:
        """Adds one to a number among the study's user attributes."""
        with self._transaction() as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            model = models.StudyUserAttributeModel
            row = session.query(model).filter_by(study_id=study_id, key=key).one_or_none()
            if row is None:
                session.add(model(study_id=study_id, key=key, value_json="1"))
            else:
                row.value_json = str(json.loads(row.value_json) + 1)

    def unfinished(self, study_id: int) -> int:
        """How many trials run or wait."""
        with self._transaction() as session:
            states = (TrialState.RUNNING, TrialState.WAITING)
            trials = session.query(models.TrialModel).filter_by(study_id=study_id)
            return int(trials.filter(models.TrialModel.state.in_(states)).count())
