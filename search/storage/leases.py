"""Who runs which trial, and what becomes of the trials of the dead.

A worker owns a running trial as long as it gives signs of life. Stock Optuna never reaps a trial whose worker
died before the first of them, and takes live ones for dead after the database was away.

Everything here happens within a transaction of the caller.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from search.storage.internals import OF_AN_ATTEMPT, models
from search.storage.rows import trial_attributes, write_trial_attributes
from search.storage.trial_record import TrialRecord

MAX_ATTEMPTS = 3
WORKER = TrialRecord.worker.name


class ClaimLost(Exception):
    """The trial went to another worker, since this one was taken for dead."""


def worker_name() -> str:
    """host:pid:token. The token tells apart two processes that had the same pid."""
    return f"{_host()}:{os.getpid()}:{secrets.token_hex(2)}"


@cache
def _host() -> str:
    """The place in which a pid means one process: containers may share a host name, and so may machines that
    were cloned, but not their pids."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}{namespace}"


def is_gone(worker: str, myself: str | None) -> bool:
    """Whether a worker of this machine is no process any more."""
    host, _, rest = worker.partition(":")
    pid, _, _ = rest.partition(":")
    if host != _host() or not pid.isdigit() or worker == myself:
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


class Leases:
    """The trials of a worker, and those of others; without a worker it only looks on."""

    def __init__(self, worker: str | None, dialect: str) -> None:
        """`dialect`: SQLAlchemy's name of the kind of database."""
        self.worker, self.dialect = worker, dialect

    def now(self, session: Session) -> datetime:
        """The database's clock in UTC, whatever time zone this session or that of another worker has."""
        clock = {
            "postgresql": sqlalchemy.func.timezone("UTC", sqlalchemy.func.clock_timestamp()),
            "mysql": sqlalchemy.func.utc_timestamp(6),
        }.get(self.dialect, sqlalchemy.func.now())  # SQLite's is UTC
        now = session.execute(sqlalchemy.select(clock)).scalar_one()
        return datetime.fromisoformat(now) if isinstance(now, str) else now.replace(tzinfo=None)

    def claim(self, session: Session, trial_id: int) -> None:
        """Makes a trial whose row is locked this worker's."""
        attempt = trial_attributes(session, trial_id).get(TrialRecord.attempt.name, 0) + 1
        values = TrialRecord.attributes(worker=self.worker, attempt=attempt)
        write_trial_attributes(session, trial_id, values)
        session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial_id).delete()
        session.add(models.TrialHeartbeatModel(trial_id=trial_id, heartbeat=self.now(session)))

    def owns(self, session: Session, trial_id: int) -> bool:
        """Whether the trial is this worker's, in whatever state."""
        return bool(trial_attributes(session, trial_id).get(WORKER) == self.worker)

    def lock(self, session: Session, trial_id: int) -> Any:
        """The row of a trial that this worker runs, locked. Raises ClaimLost."""
        trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
        table = models.TrialUserAttributeModel.__table__
        owner = sqlalchemy.select(table.c.value_json).where(
            table.c.trial_id == trial_id, table.c.key == WORKER
        )
        if trial.state != TrialState.RUNNING or session.scalar(owner) != json.dumps(self.worker):
            raise ClaimLost
        return trial

    def running_of_mine(self, session: Session, study_id: int) -> list[int]:
        """Ids of the trials that the database says this worker runs."""
        owner = models.TrialUserAttributeModel.__table__
        rows = self._running(session, study_id, owner.c.value_json == json.dumps(self.worker))
        return [row.trial_id for row in rows]

    def release(self, session: Session, trial_id: int, spent: str | None = None) -> None:
        """Puts a trial that this worker runs back into the queue. The attempt counts only with a cause: what
        it was `spent` on. Raises ClaimLost."""
        trial = self.lock(session, trial_id)
        attempt = trial_attributes(session, trial_id)[TrialRecord.attempt.name]
        if spent is None:
            write_trial_attributes(session, trial_id, TrialRecord.attributes(attempt=attempt - 1))
        self._again(session, trial, attempt if spent else 0, spent)

    def beat(self, session: Session, trial_id: int) -> None:
        """Tells the others that this worker lives. Raises ClaimLost."""
        self.lock(session, trial_id)
        session.query(models.TrialHeartbeatModel).filter_by(trial_id=trial_id).update(
            {"heartbeat": self.now(session)}
        )

    def elsewhere(self, session: Session, study_id: int, seconds: float) -> str | None:
        """Another machine whose worker gave a sign of life less than `seconds` ago, if there is one."""
        here, now = _host().partition("/")[0], self.now(session)
        for row in self._running(session, study_id):
            host = json.loads(row.worker or '""').partition(":")[0].partition("/")[0]
            alive = row.heartbeat is not None and (now - row.heartbeat).total_seconds() < seconds
            if alive and host and host != here:
                return str(host)
        return None

    def dead(self, session: Session, study_id: int, grace: float) -> list[int]:
        """Ids of the trials whose workers have been silent for more than `grace` seconds by the database's
        clock, or are processes gone from this host. With an infinite grace, silence is not looked at."""
        owner, beat = models.TrialUserAttributeModel.__table__, models.TrialHeartbeatModel.__table__
        suspect = owner.c.value_json.like(f'"{_host()}:%')
        now = self.now(session)
        if math.isfinite(grace):
            since = now - timedelta(seconds=grace)
            suspect |= beat.c.heartbeat.is_(None) | (beat.c.heartbeat < since)
        rows = self._running(session, study_id, suspect)
        return [row.trial_id for row in rows if self._is_dead(row, now, grace)]

    def take(self, session: Session, study_id: int, trial_id: int, grace: float) -> int | None:
        """Takes a trial from a dead worker, queues it again or fails it, and returns its number. Looks again
        with the trial locked: None where its worker has given a sign of life, or it is another's by now."""
        trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
        rows = self._running(session, study_id, models.TrialModel.__table__.c.trial_id == trial_id)
        if not rows or not self._is_dead(rows[0], self.now(session), grace):
            return None
        stored = trial_attributes(session, trial_id)
        lost = [*stored.get(TrialRecord.lost_workers.name, []), stored.get(WORKER)]
        write_trial_attributes(session, trial_id, TrialRecord.attributes(lost_workers=lost))
        self._again(session, trial, stored.get(TrialRecord.attempt.name, 0), None)
        return int(trial.number)

    def _running(self, session: Session, study_id: int, *where: Any) -> list[Any]:
        """Running trials: trial_id, datetime_start, worker (as JSON), heartbeat."""
        trial = models.TrialModel.__table__
        owner, beat = models.TrialUserAttributeModel.__table__, models.TrialHeartbeatModel.__table__
        query = (
            sqlalchemy.select(
                trial.c.trial_id, trial.c.datetime_start, owner.c.value_json.label("worker"), beat.c.heartbeat
            )
            .outerjoin(owner, (owner.c.trial_id == trial.c.trial_id) & (owner.c.key == WORKER))
            .outerjoin(beat, beat.c.trial_id == trial.c.trial_id)
            .where(trial.c.study_id == study_id, trial.c.state == TrialState.RUNNING, *where)
        )
        return list(session.execute(query))

    def _is_dead(self, row: Any, now: datetime, grace: float) -> bool:
        since = row.heartbeat or row.datetime_start
        silent = since is None or (now - since).total_seconds() > grace
        return silent or is_gone(json.loads(row.worker or '""'), self.worker)

    def _again(self, session: Session, trial: Any, spent: int, cause: str | None) -> None:
        """Queues it again; fails it after MAX_ATTEMPTS, since it might end every worker in turn."""
        if spent < MAX_ATTEMPTS:
            self._requeue(session, trial)
            return
        values = TrialRecord.attributes(outcome="lost", error=cause or None)
        write_trial_attributes(session, trial.trial_id, values)
        trial.state = TrialState.FAIL
        trial.datetime_complete = datetime.now()

    def _requeue(self, session: Session, trial: Any) -> None:
        """Queues it again: parameters and attributes stay; reports and the pruner's notes on them go."""
        trial.state = TrialState.WAITING
        session.query(models.TrialIntermediateValueModel).filter_by(trial_id=trial.trial_id).delete()
        notes = models.TrialSystemAttributeModel
        of_the_attempt = sqlalchemy.or_(*(notes.key.startswith(start) for start in OF_AN_ATTEMPT))
        session.query(notes).filter(notes.trial_id == trial.trial_id, of_the_attempt).delete(
            synchronize_session=False
        )
