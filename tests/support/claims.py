"""Workers that have joined a study "s", and what happens to them, within one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.orm import Session

from search.storage.claim_storage import ClaimStorage
from search.storage.connections import join_study
from search.storage.engines import engine_settings
from search.storage.internals import cached, models, transaction
from search.storage.patience import PatientStorage

optuna.logging.set_verbosity(optuna.logging.ERROR)
FIRST, SECOND = "elsewhere:1:aa", "elsewhere:2:bb"
"""Workers of another machine: whether their processes live cannot be seen from here."""


def emptied(url: str) -> str:
    """A database whose tables are there, and empty by now: ten times faster than another one."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        for table in reversed(models.BaseModel.metadata.sorted_tables):
            if table.name != "version_info":
                connection.execute(table.delete())
    engine.dispose()
    return url


def a_study(url: str, name: str = "s") -> Study:
    """A new study in a database that has tables; no command has made it, so it has no spec."""
    direct = ClaimStorage(url, engine_settings(url, "maker"), skip_table_creation=True)
    return optuna.create_study(storage=cached(direct), study_name=name, direction="maximize")


def joined(url: str, worker: str = FIRST, budget: int = 5, name: str = "s") -> tuple[Study, PatientStorage]:
    study, claims = join_study(url, name, worker, budget)
    study.sampler = optuna.samplers.RandomSampler()
    return study, claims


def two_workers(url: str, budget: int = 5) -> tuple[Study, PatientStorage, PatientStorage]:
    """The study of the first worker, and the storages of both."""
    study, first = joined(url, FIRST, budget)
    return study, first, joined(url, SECOND, budget)[1]


def age(claims: PatientStorage, seconds: float) -> None:
    """Moves all signs of life into the past."""
    with transaction(claims) as session:
        for beat in session.query(models.TrialHeartbeatModel):
            beat.heartbeat -= timedelta(seconds=seconds)


def queued(*values: float, **user_attrs: Any) -> list[FrozenTrial]:
    """Trials that wait, a parameter x of each given."""
    distribution = FloatDistribution(0, 1000)
    return [
        create_trial(
            state=TrialState.WAITING, params={"x": value}, distributions={"x": distribution},
            user_attrs=user_attrs,
        )
        for value in values
    ]  # fmt: skip


@contextmanager
def holding_study(claims: PatientStorage, study_id: int) -> Iterator[Session]:
    """A transaction that has the study's row locked."""
    with transaction(claims) as session:
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        yield session


@contextmanager
def holding_trial(claims: PatientStorage, trial_id: int) -> Iterator[Session]:
    """A transaction that has a trial's row locked."""
    with transaction(claims) as session:
        models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
        yield session


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A call that has begun, and what it answers or raises."""
    said: list[Any] = []

    def run() -> None:
        try:
            said.append(call())
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, said


def waits(thread: threading.Thread) -> bool:
    """Whether the thread has not come back after a moment in which it had nothing else to wait for."""
    thread.join(0.5)
    return thread.is_alive()


def numbers(trials: Sequence[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]
