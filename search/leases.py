"""Who runs which trial, and what becomes of the trials of the dead.

A worker owns a running trial as long as it gives signs of life. Stock Optuna never reaps a trial whose worker
died before the first of them, and takes live ones for dead after the database was away.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from search.rows import RowStorage, models

MAX_ATTEMPTS = 3


class ClaimLost(Exception):
    """The trial went to another worker, since this one was taken for dead."""


def worker_name() -> str:
    """host:pid:token. The token tells apart two processes that had the same pid."""
    return f"{_host()}:{os.getpid()}:{secrets.token_hex(2)}"


@cache
def _host() -> str:
    """Where a pid means the same process: containers may share a host name, and so may machines that were
    cloned, but not their pids."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}{namespace}"


TABLES = tuple(
    model.__table__
    for model in (models.TrialModel, models.TrialUserAttributeModel, models.TrialHeartbeatModel)
)


class LeaseStorage(RowStorage):
    """`worker` owns what it claims; None only looks on."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any], worker: str | None, **options: Any) -> None:
        super().__init__(url, engine_kwargs, **options)
        self.worker = worker
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

    def _transaction(self, or_there: bool = False) -> AbstractContextManager[Session]:
        """`or_there`: a row that is there already is as good as written."""
        return _create_scoped_session(self.scoped_session, ignore_integrity_error=or_there)

    def _claim(self, session: Session, trial_id: int) -> None:
        attempt = self._attrs(session, trial_id).get("attempt", 0) + 1
        self._write(session, trial_id, {"worker": self.worker, "attempt": attempt})
        session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial_id).delete()
        session.add(models.TrialHeartbeatModel(trial_id=trial_id, heartbeat=self._now(session)))

    def _now(self, session: Session) -> datetime:
        """The database's clock in UTC, whatever time zone this session or that of another worker has."""
        clock = {
            "postgresql": sqlalchemy.func.timezone("UTC", sqlalchemy.func.clock_timestamp()),
            "mysql": sqlalchemy.func.utc_timestamp(6),
        }.get(self.engine.dialect.name, sqlalchemy.func.now())  # SQLite's is UTC
        now = session.execute(sqlalchemy.select(clock)).scalar_one()
        return datetime.fromisoformat(now) if isinstance(now, str) else now.replace(tzinfo=None)

    def _attrs(self, session: Session, trial_id: int) -> dict[str, Any]:
        rows = models.TrialUserAttributeModel.where_trial_id(trial_id, session)
        return {row.key: json.loads(row.value_json) for row in rows}

    def _write(self, session: Session, trial_id: int, attrs: dict[str, Any]) -> None:
        """User attributes of a trial whose row is locked. Optuna takes three statements for each."""
        table = TABLES[1]
        present = set(session.scalars(sqlalchemy.select(table.c.key).where(table.c.trial_id == trial_id)))
        rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(v)} for key, v in attrs.items()]
        if new := [row for row in rows if row["key"] not in present]:
            session.execute(table.insert(), new)
        for row in rows:
            if row["key"] in present:
                here = (table.c.trial_id == trial_id) & (table.c.key == row["key"])
                session.execute(table.update().where(here).values(value_json=row["value_json"]))

    def _own(self, session: Session, trial_id: int) -> Any:
        """The row of a trial that this worker runs, locked. Raises ClaimLost."""
        trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
        table = TABLES[1]
        owner = sqlalchemy.select(table.c.value_json).where(
            table.c.trial_id == trial_id, table.c.key == "worker"
        )
        if trial.state != TrialState.RUNNING or session.scalar(owner) != json.dumps(self.worker):
            raise ClaimLost
        return trial

    def _running(self, session: Session, study_id: int, *where: Any) -> list[Any]:
        """Running trials: trial_id, datetime_start, worker (as JSON), heartbeat. `where`: of TABLES."""
        trial, owner, beat = TABLES
        query = (
            sqlalchemy.select(
                trial.c.trial_id, trial.c.datetime_start, owner.c.value_json.label("worker"), beat.c.heartbeat
            )
            .outerjoin(owner, (owner.c.trial_id == trial.c.trial_id) & (owner.c.key == "worker"))
            .outerjoin(beat, beat.c.trial_id == trial.c.trial_id)
            .where(trial.c.study_id == study_id, trial.c.state == TrialState.RUNNING, *where)
        )
        return list(session.execute(query))

    def release(self, trial_id: int, spent: str | None = None) -> None:
        """Puts a trial that this worker runs back into the queue. The attempt counts only with a cause: what
        it was `spent` on. Raises ClaimLost."""
        with self._transaction() as session:
            trial = self._own(session, trial_id)
            attempt = self._attrs(session, trial_id)["attempt"]
            if spent is None:
                self._write(session, trial_id, {"attempt": attempt - 1})
            self._again(session, trial, attempt if spent else 0, spent)

    def _again(self, session: Session, trial: models.TrialModel, spent: int, cause: str | None) -> None:
        """Queued again; failed after MAX_ATTEMPTS, which might end every worker in turn."""
        if spent < MAX_ATTEMPTS:
            self._requeue(session, trial)
            return
        self._write(session, trial.trial_id, {"outcome": "lost"} | ({"error": cause} if cause else {}))
        trial.state = TrialState.FAIL
        trial.datetime_complete = datetime.now()

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
                {"heartbeat": self._now(session)}
            )

    def elsewhere(self, study_id: int, seconds: float) -> str | None:
        """Another machine whose worker gave a sign of life less than `seconds` ago, if there is one."""
        here = _host().partition("/")[0]
        with self._transaction() as session:
            now = self._now(session)
            for row in self._running(session, study_id):
                host = json.loads(row.worker or '""').partition(":")[0].partition("/")[0]
                alive = row.heartbeat is not None and (now - row.heartbeat).total_seconds() < seconds
                if alive and host and host != here:
                    return str(host)
        return None

    def reap(self, study_id: int, grace: float) -> list[int]:
        """Numbers of the trials taken from dead workers: queued again, or failed after MAX_ATTEMPTS.

        Dead: silent for `grace` seconds by the database's clock, or a process gone from this host. Silence
        means something only to who had contact all that time: with an infinite grace it is not looked at.
        """
        _, owner, beat = TABLES
        suspect = owner.c.value_json.like(f'"{_host()}:%')
        with self._transaction() as session:
            now = self._now(session)
            if math.isfinite(grace):
                since = now - timedelta(seconds=grace)
                suspect |= beat.c.heartbeat.is_(None) | (beat.c.heartbeat < since)
            rows = self._running(session, study_id, suspect)
        dead = [row.trial_id for row in rows if self._is_dead(row, now, grace)]
        return [number for trial_id in dead if (number := self._take(study_id, trial_id, grace)) is not None]

    def _is_dead(self, row: Any, now: datetime, grace: float) -> bool:
        since = row.heartbeat or row.datetime_start
        silent = since is None or (now - since).total_seconds() > grace
        return silent or self._is_gone(json.loads(row.worker or '""'))

    def _take(self, study_id: int, trial_id: int, grace: float) -> int | None:
        """Looks again with the trial locked: it may have given a sign of life, or be another's by now."""
        with self._transaction() as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            rows = self._running(session, study_id, TABLES[0].c.trial_id == trial_id)
            if not rows or not self._is_dead(rows[0], self._now(session), grace):
                return None
            attrs = self._attrs(session, trial_id)
            lost = [*attrs.get("lost_workers", []), attrs.get("worker")]
            self._write(session, trial_id, {"lost_workers": lost})
            self._again(session, trial, attrs.get("attempt", 0), None)
            return int(trial.number)

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
