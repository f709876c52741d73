from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from search.patience__GONE import CALLS, PatientStorage

from search import patience as module
from search.spec.study import StudySpec
from search.storage.claim_storage import ClaimStorage
from search.storage.connections import join_study
from search.storage.leases import ClaimLost
from search.storage.patience import Patience, is_transient
from search.storage.studies import open_study
from search.trials.reporter import AttemptOver, Reporter
from search.workers.heartbeat import Contact, Heart
from search.workers.watchdog import Watchdog


def internal(cause: BaseException) -> StorageInternalError:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


def database_error(kind: type[sqlalchemy.exc.DBAPIError], text: str, invalidated: bool = False) -> Exception:
    return internal(kind("SELECT 1", {}, Exception(text), connection_invalidated=invalidated))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (database_error(sqlalchemy.exc.OperationalError, "server closed the connection unexpectedly"), True),
        (database_error(sqlalchemy.exc.OperationalError, "the database system is starting up"), True),
        (database_error(sqlalchemy.exc.OperationalError, "sorry, too many clients already"), True),
        (database_error(sqlalchemy.exc.OperationalError, "database is locked"), True),
        (database_error(sqlalchemy.exc.OperationalError, "deadlock detected"), True),
        (database_error(sqlalchemy.exc.InternalError, "gone", invalidated=True), True),
        (internal(sqlalchemy.exc.TimeoutError("QueuePool limit")), True),
        (database_error(sqlalchemy.exc.OperationalError, "password authentication failed for user"), False),
        (database_error(sqlalchemy.exc.OperationalError, 'database "x" does not exist'), False),
        (database_error(sqlalchemy.exc.OperationalError, "no such table: trials"), False),
        (database_error(sqlalchemy.exc.OperationalError, "database or disk is full"), False),
        (database_error(sqlalchemy.exc.ProgrammingError, "syntax error"), False),
        (internal(ValueError("x")), False),
        (StorageInternalError("no cause"), False),
    ],
)
def test_what_is_worth_another_try(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.01)
    monkeypatch.setattr(module, "LONGEST", 0.02)


AWAY = database_error(sqlalchemy.exc.OperationalError, "connection refused")


def failing(times: int, error: Exception = AWAY) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "answer"

    return call, calls


def test_it_tries_until_there_is_an_answer_and_tells_twice(quick: None) -> None:
    told: list[str] = []
    call, calls = failing(5)
    assert Patience(60, told.append).call(call) == "answer"
    assert len(calls) == 6
    assert [line.split(":")[0] for line in told] == [
        "the database is out of reach, training goes on meanwhile", "the database is back after 0 s",
    ]  # fmt: skip


def test_it_gives_up_after_its_time_and_at_once_where_waiting_mends_nothing(quick: None) -> None:
    call, calls = failing(10**6)
    with pytest.raises(StorageInternalError):
        Patience(0.2, print).call(call)
    assert len(calls) > 2
    call, calls = failing(1, database_error(sqlalchemy.exc.OperationalError, "permission denied"))
    with pytest.raises(StorageInternalError):
        Patience(60, print).call(call)
    assert len(calls) == 1


def test_it_gives_up_soon_when_the_process_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HURRY", 0.1)
    hurry, (call, _) = threading.Event(), failing(10**6)
    threading.Timer(0.3, hurry.set).start()
    with pytest.raises(StorageInternalError):
        Patience(3600, print, hurry.is_set).call(call)


def test_every_call_that_goes_to_the_database_is_patient() -> None:
    """So that none is forgotten when Optuna's storage gets another one."""
    public = {
        name for name in dir(optuna.storages.BaseStorage)
        if not name.startswith("_") and callable(getattr(optuna.storages.BaseStorage, name))
    }  # fmt: skip
    left_out = {
        "delete_study",  # done by nobody here
        "create_new_trial", "set_trial_param", "get_all_trials",  # by way of the private ones below
        "get_best_trial", "get_trial_number_from_id", "get_trial_param", "get_trial_params",
        "get_trial_system_attrs", "get_trial_user_attrs",  # by way of get_trial and get_all_trials
        "check_trial_is_updatable", "remove_session",
    }  # fmt: skip
    assert public - left_out <= set(CALLS)
    assert {"_create_new_trial", "_set_trial_param", "_get_trials"} <= set(CALLS)
    own = {"annotate", "finish", "release", "fill", "count_up", "unfinished"}
    assert own <= set(CALLS)
    for name in CALLS:
        assert getattr(PatientStorage, name) is not getattr(ClaimStorage, name)


class Line:
    """A connection that loses answers: the database does what it is told, and the caller hears nothing."""

    def __init__(self, claims: PatientStorage) -> None:
        self.lose = False
        self.lost = 0

        @sqlalchemy.event.listens_for(claims.engine, "commit")
        def commit(connection: sqlalchemy.Connection) -> None:
            if self.lose:
                self.lose = False
                self.lost += 1
                connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
                raise sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("connection lost"))


@pytest.fixture
def line(url: str, tiny: StudySpec, quick: None) -> tuple[optuna.Study, PatientStorage, Line]:
    open_study(url, "s", tiny, "data", 5)
    study, claims = join_study(url, "s", "elsewhere:1:aa", 5)
    study.sampler = optuna.samplers.RandomSampler()
    return study, claims, Line(claims)


def test_an_answer_that_is_lost_counts_once(line: tuple[optuna.Study, PatientStorage, Line]) -> None:
    study, claims, lossy = line

    def losing(call: Callable[[], Any]) -> Any:
        lossy.lose, before = True, lossy.lost
        result = call()
        assert lossy.lost == before + 1
        return result

    trial = losing(study.ask)
    assert trial.number == 0
    trial_id = trial._trial_id
    losing(lambda: trial.suggest_float("x", 0, 1))
    losing(lambda: trial.report(0.5, 1))
    losing(lambda: claims.annotate(trial_id, {"depth": 9}))
    losing(lambda: claims.finish(trial_id, TrialState.COMPLETE, 0.5, {"outcome": "complete"}))
    study.enqueue_trial({"x": 0.5})
    again = losing(study.ask)
    assert again.number == 1
    with pytest.raises(ClaimLost):  # which is what the loop takes for done
        losing(lambda: claims.release(again._trial_id))
    third = study.ask()
    assert third.number == 1, "the released one"
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert (trials[0].value, trials[0].intermediate_values, trials[0].user_attrs["depth"]) == (
        0.5,
        {1: 0.5},
        9,
    )
    assert [trial.user_attrs["attempt"] for trial in trials] == [1, 1]


class Slow:
    """A trial whose database takes its time, or fails."""

    def __init__(self, prune_at: int = 0) -> None:
        self.go = threading.Event()
        self.reported: list[tuple[int, float]] = []
        self.asked: list[int] = []
        self.prune_at = prune_at
        self.error: Exception | None = None

    def report(self, value: float, step: int) -> None:
        assert self.go.wait(30)
        if self.error:
            raise self.error
        self.reported.append((step, value))

    def should_prune(self) -> bool:
        self.asked.append(self.reported[-1][0])
        return self.reported[-1][0] == self.prune_at


def test_training_goes_on_without_an_answer_and_all_is_written_in_order() -> None:
    slow = Slow()
    reporter = Reporter(slow, wait=0.05)  # type: ignore[arg-type]
    assert [reporter.report(epoch, epoch / 10, last=epoch == 4) for epoch in (1, 2, 3, 4)] == [False] * 4
    assert not slow.reported
    slow.go.set()
    assert reporter.flush(lambda: False)
    assert slow.reported == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert slow.asked == [1, 2, 3], "after the last epoch there is nothing to decide"
    reporter.close()


def test_a_late_word_to_stop_is_heeded_at_the_next_epoch() -> None:
    slow = Slow(prune_at=1)
    reporter = Reporter(slow, wait=0.05)  # type: ignore[arg-type]
    assert not reporter.report(1, 0.1, last=False)
    slow.go.set()
    reporter.wait = 30
    assert reporter.report(2, 0.2, last=False)
    reporter.close()


def test_an_answer_in_time_stops_at_its_epoch() -> None:
    slow = Slow(prune_at=2)
    slow.go.set()
    reporter = Reporter(slow, wait=30)  # type: ignore[arg-type]
    assert [reporter.report(epoch, 0.1, last=False) for epoch in (1, 2)] == [False, True]
    reporter.close()


def test_what_was_replayed_is_written_and_decides_nothing() -> None:
    slow = Slow(prune_at=2)
    slow.go.set()
    reporter = Reporter(slow, wait=30)  # type: ignore[arg-type]
    reporter.replay([0.1, 0.2, 0.3])
    assert not reporter.report(4, 0.4, last=False)
    assert [step for step, _ in slow.reported] == slow.asked == [1, 2, 3, 4]
    reporter.close()


def test_what_fails_there_is_raised_here() -> None:
    slow = Slow()
    slow.error = ClaimLost()
    reporter = Reporter(slow, wait=30)  # type: ignore[arg-type]
    slow.go.set()
    with pytest.raises(ClaimLost):
        reporter.report(1, 0.1, last=False)
    with pytest.raises(ClaimLost):
        reporter.flush(lambda: False)


def test_an_attempt_that_is_over_writes_nothing_more() -> None:
    slow = Slow()
    reporter = Reporter(slow, wait=0.01)  # type: ignore[arg-type]
    reporter.report(1, 0.1, last=False)
    reporter.report(2, 0.2, last=False)
    assert not reporter.flush(lambda: True), "who stops a worker does not wait for its database"
    reporter.close()
    slow.go.set()
    reporter.thread.join(30)
    assert [step for step, _ in slow.reported] == [1]
    with pytest.raises(AttemptOver):
        reporter.report(3, 0.3, last=False)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_others_are_dead_only_after_a_grace_of_unbroken_contact() -> None:
    clock = Clock()
    contact = Contact(interval=10, clock=clock)
    for clock.now in (10, 20, 30, 40, 50):
        contact.heard()
        assert not contact.lasts(60)
    clock.now = 60
    contact.heard()
    assert contact.lasts(60)
    contact.lost()
    for clock.now in range(70, 120, 10):
        contact.heard()
        assert not contact.lasts(60)
    clock.now = 120
    contact.heard()
    assert contact.lasts(60)
    clock.now = 200  # a call that hung, a process that slept
    contact.heard()
    assert not contact.lasts(60)


def test_a_heart_survives_its_database(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHSEARCH_HEARTBEAT", "0.05")
    monkeypatch.setenv("ARCHSEARCH_GRACE", "0.2")
    url = f"sqlite:///{tmp_path}/x.db"
    open_study(url, "s", tiny, "data", 5)
    study, claims = join_study(url, "s", "elsewhere:1:aa", 5)
    study.ask()
    told: list[str] = []
    claims.patience.tell = told.append
    stock, away = ClaimStorage.beat, threading.Event()

    def beat(self: Any, trial_id: int) -> None:
        if away.is_set():
            raise AWAY
        stock(self, trial_id)

    monkeypatch.setattr("search.leases.LeaseStorage.beat", beat)
    heart = Heart(claims, study._study_id)
    away.set()
    heart.start()
    time.sleep(0.5)
    away.clear()
    ends = time.monotonic() + 30
    while len(told) < 2:
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert heart.is_alive()
    heart.end.set()
    heart.join()
    assert told[0].startswith("the database is out of reach")
    assert told[1].startswith("the database is back")
    assert study.trials[0].state == TrialState.RUNNING


def test_a_hung_step_ends_the_process_and_a_slow_one_does_not() -> None:
    ended = threading.Event()
    dog = Watchdog(end=ended.set, least=0.2)
    assert not dog.is_hung(), "no trial runs"
    for _ in range(5):
        dog.step()
        time.sleep(0.05)
    assert not dog.is_hung()
    dog.start()
    assert ended.wait(30)
    dog.rest()
    assert not dog.is_hung()
    for _ in range(3):
        dog.step()
        time.sleep(0.1)
    time.sleep(0.3)
    assert not dog.is_hung(), "ten times the usual step is a second"
