"""A database that is away for a moment: what is tried again, for how long, and that it counts once."""

from __future__ import annotations

import copy
import inspect
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import sqlalchemy
import sqlalchemy.exc
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.storage import patience as module
from search.storage.claim_storage import ClaimStorage
from search.storage.internals import cached, study_id_of, trial_id_of
from search.storage.leases import ClaimLost
from search.storage.patience import HURRY, LONGEST, PATIENCE, Patience, PatientStorage, is_transient
from search.storage.rows import BudgetSpent
from tests.support.claims import FIRST, joined, queued


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
        (database_error(sqlalchemy.exc.InterfaceError, "connection already closed"), True),
        (database_error(sqlalchemy.exc.InternalError, "gone", invalidated=True), True),
        (database_error(sqlalchemy.exc.InternalError, "gone"), False),
        (internal(sqlalchemy.exc.TimeoutError("QueuePool limit")), True),
        (sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("connection refused")), True),
        (database_error(sqlalchemy.exc.OperationalError, "password authentication failed for user"), False),
        (database_error(sqlalchemy.exc.OperationalError, 'database "x" does not exist'), False),
        (database_error(sqlalchemy.exc.OperationalError, "no such table: trials"), False),
        (database_error(sqlalchemy.exc.OperationalError, "database or disk is full"), False),
        (database_error(sqlalchemy.exc.OperationalError, "ACCESS DENIED for user"), False),
        (database_error(sqlalchemy.exc.OperationalError, "does not exist", invalidated=True), False),
        (database_error(sqlalchemy.exc.ProgrammingError, "syntax error"), False),
        (internal(ValueError("x")), False),
        (StorageInternalError("no cause"), False),
        (ClaimLost(), False),
    ],
)
def test_what_is_worth_another_try(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.01)
    monkeypatch.setattr(module, "LONGEST", 0.02)


AWAY = database_error(sqlalchemy.exc.OperationalError, "connection refused\nand more")


class Failing:
    """Answers after some failures."""

    def __init__(self, times: int, error: Exception = AWAY) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "answer"


def test_it_tries_until_there_is_an_answer_and_tells_twice(quick: None) -> None:
    told: list[str] = []
    call = Failing(5)
    patience = Patience(60, told.append)
    assert patience.call(call) == "answer"
    assert call.calls == 6
    assert told == [
        "the database is out of reach, training goes on meanwhile: connection refused",
        "the database is back after 0 s",
    ]
    assert patience.call(Failing(0)) == "answer"
    assert len(told) == 2, "an answer at once is no news"
    patience.call(Failing(1))
    assert len(told) == 4, "the next time it is told again"


def test_what_two_threads_meet_is_told_once() -> None:
    told: list[str] = []
    patience = Patience(60, told.append)
    patience.note_failure(AWAY)
    patience.note_failure(AWAY)
    assert len(told) == 1
    patience.note_success()
    patience.note_success()
    assert [line.rpartition(" after")[0] for line in told[1:]] == ["the database is back"]


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_it_waits_longer_from_try_to_try_and_half_of_it_is_chance(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Patience, "_wait", lambda _, seconds: waited.append(seconds))
    for luck, factor in ((0.0, 0.5), (1.0, 1.0)):
        monkeypatch.setattr(random, "uniform", lambda low, high, at=luck: low + at * (high - low))
        waited.clear()
        Patience(1e9, print).call(Failing(8))  # threads of other tests may move the clock as well
        assert waited == pytest.approx([factor * d for d in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)])
    assert LONGEST == 5


def test_it_waits_as_long_as_it_means_to(clock: Clock) -> None:
    Patience(60, print)._wait(3.21)
    assert clock.now == pytest.approx(3.21)
    assert max(clock.slept) <= 0.05, "it looks meanwhile whether there is a hurry"


def test_it_gives_up_after_its_time(clock: Clock) -> None:
    call = Failing(10**6)
    with pytest.raises(StorageInternalError):
        Patience(100, print).call(call)
    assert 100 < clock.now <= 100 + LONGEST
    assert call.calls > 20
    assert Patience().seconds == PATIENCE == 1800


@pytest.mark.parametrize(
    "error",
    [
        database_error(sqlalchemy.exc.OperationalError, "permission denied"),
        ClaimLost(), BudgetSpent(), KeyError("no such study"),
    ],
)  # fmt: skip
def test_it_gives_up_at_once_where_waiting_mends_nothing(clock: Clock, error: Exception) -> None:
    told: list[str] = []
    call = Failing(1, error)
    with pytest.raises(type(error)):
        Patience(60, told.append).call(call)
    assert (call.calls, clock.slept, told) == (1, [], [])


def test_it_gives_up_soon_when_the_process_is_to_end(clock: Clock) -> None:
    with pytest.raises(StorageInternalError):
        Patience(3600, print, lambda: clock.now > 7).call(Failing(10**6))
    assert 7 < clock.now < 8
    clock.now = 0.0
    with pytest.raises(StorageInternalError):
        Patience(3600, print, lambda: True).call(Failing(10**6))
    assert HURRY < clock.now < HURRY + 1, "a moment is given also then"
    assert Patience(3600, print, lambda: True).call(Failing(1)) == "answer"


# the storage before the storage


class Direct:
    """A storage of which every call fails twice."""

    budget, name = 7, "given"

    def __init__(self) -> None:
        self.running = {1, 2}
        self.calls: Counter[tuple[Any, ...]] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "calls":
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            asked = (name, args, tuple(kwargs.items()))
            self.calls[asked] += 1
            if self.calls[asked] < 3:
                raise AWAY
            return asked

        return call


def calls_of_the_cache() -> set[str]:
    source = inspect.getsource(type(cached(optuna.storages.RDBStorage.__new__(optuna.storages.RDBStorage))))
    return set(re.findall(r"self\._backend\.(\w+)", source))


def public_methods(kind: type) -> set[str]:
    return {name for name in dir(kind) if name[0] != "_" and inspect.isfunction(getattr(kind, name))}


def test_every_call_of_a_method_is_patient_and_direct_ones_are_not(quick: None) -> None:
    """Those of Optuna's cache, all that ClaimStorage has, and any that Optuna may add."""
    names = calls_of_the_cache() | public_methods(ClaimStorage) | {"_and_what_comes"}
    assert {"_create_new_trial", "_get_trials", "_set_trial_param", "_get_best_trial_id"} <= names
    assert {"annotate", "finish", "release", "reap", "fill", "count_up", "delete_study"} <= names
    direct, told = Direct(), list[str]()
    patient = PatientStorage(direct, Patience(60, told.append))  # type: ignore[arg-type]
    for name in sorted(names):
        told.clear()
        assert getattr(patient, name)(1, two=2) == (name, (1,), (("two", 2),))
        assert len(told) == 2, name
        with pytest.raises(StorageInternalError):
            getattr(patient.direct, name)("another")
        assert len(told) == 2, name


def test_plain_attributes_pass_through() -> None:
    direct = Direct()
    patient = PatientStorage(direct, Patience())  # type: ignore[arg-type]
    assert (patient.budget, patient.name) == (7, "given")  # type: ignore[attr-defined]
    assert patient.running is direct.running
    direct.running = {3}
    assert patient.running == {3}, "as it is at the moment"


def test_what_the_storage_does_not_have_is_missed(study_file: str) -> None:
    _, claims = joined(study_file)
    with pytest.raises(AttributeError, match="no_such_thing"):
        claims.no_such_thing  # type: ignore[attr-defined]  # noqa: B018
    assert claims.engine is claims.direct.engine
    assert (claims.worker, claims.budget) == (FIRST, 5)


def test_a_copy_in_the_making_does_not_recurse() -> None:
    made = PatientStorage.__new__(PatientStorage)
    for name in ("direct", "patience", "anything"):
        assert not hasattr(made, name)
    direct = Direct()
    patient = PatientStorage(direct, Patience())  # type: ignore[arg-type]
    assert copy.copy(patient).direct is patient.direct


def test_optunas_own_ways_work_on_a_study_behind_patience(study_url: str) -> None:
    study, claims = joined(study_url)
    study.enqueue_trial({"x": 0.25}, user_attrs={"note": 1})
    study.enqueue_trial({"x": 0.25}, skip_if_exists=True)
    study.set_user_attr("who", "ada")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    study.add_trial(
        optuna.trial.create_trial(value=0.5, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)})
    )
    asked = study.ask({"x": FloatDistribution(0, 1)})
    study.tell(asked, 0.1)
    study.tell(study.ask(), state=TrialState.FAIL)
    assert study.best_trial.number == 1
    assert (study.best_value, study.best_params) == (0.5, {"x": 0.5})
    assert [trial.value for trial in study.trials] == [0.25, 0.5, 0.1, None]
    assert study.trials[2].params == asked.params
    assert study.user_attrs == {"who": "ada"}
    assert study.trials[0].user_attrs == {"note": 1, "worker": FIRST, "attempt": 1}
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 3
    assert claims.get_n_trials(study_id_of(study), TrialState.FAIL) == 1
    assert not claims.running
    optuna.delete_study(study_name="s", storage=cached(claims))
    assert optuna.get_all_study_names(cached(claims)) == []


# what fails on the way


class Line:
    """A connection that fails once: before a statement or a commit reaches the database, or when its answer
    to a commit comes back."""

    def __init__(self, claims: PatientStorage) -> None:
        self.seen: Counter[str] = Counter()
        self.fails: tuple[str, int] | None = None
        sqlalchemy.event.listen(claims.engine, "before_cursor_execute", self.statement)
        sqlalchemy.event.listen(claims.engine, "commit", self.commit)

    def statement(self, *_: Any) -> None:
        self.passes("statement")

    def commit(self, connection: sqlalchemy.Connection) -> None:
        self.passes("commit")
        if self.fails == ("answer", self.seen["commit"]):
            connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
        self.seen["answer"] = self.seen["commit"] - 1
        self.passes("answer")

    def passes(self, kind: str) -> None:
        self.seen[kind] += 1
        if self.fails == (kind, self.seen[kind]):
            self.fails = None
            raise sqlalchemy.exc.OperationalError(kind, {}, Exception("connection lost"))


@pytest.fixture
def line(study_url: str, quick: None, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, PatientStorage, Line]:
    class AtOnce:
        random = staticmethod(lambda: 0.0)

    monkeypatch.setattr("optuna.storages._rdb.storage.random", AtOnce)  # it sleeps between its own tries
    study, claims = joined(study_url, budget=10**6)
    claims.patience.tell = lambda _: None
    return study, claims, Line(claims)


Step = Callable[[str, Callable[[], Any]], Any]


def a_life(study: Study, claims: PatientStorage, step: Step, waits: bool) -> FrozenTrial:
    """A trial from its claim to its end; before each write, a parameter that is known waits to be written."""
    if waits:
        study.add_trials(queued(0.5))
    trial = step("ask", study.ask)
    trial_id = trial_id_of(trial)
    number: int = trial.number
    step("first parameter", lambda: trial.suggest_float(f"new {number}", 0, 1))
    writes: dict[str, Callable[[], Any]] = {
        "annotate": lambda: claims.annotate(trial_id, {"arm": f"arm {number}", "depth": 9}),
        "annotate again": lambda: claims.annotate(trial_id, {"depth": 11, "seed": number}),
        "report": lambda: trial.report(0.25, 1),
        "system attribute": lambda: claims.set_trial_system_attr(trial_id, "completed_rung_0", 0.25),
        "report again": lambda: trial.report(0.5, 2),
        "user attribute": lambda: claims.set_trial_user_attr(trial_id, "note", "ü"),
        "read": lambda: claims.get_trial(trial_id),
        "beat": lambda: claims.beat(trial_id),
        "finish": lambda: claims.finish(trial_id, TrialState.COMPLETE, 0.75, {"outcome": "complete"}),
    }
    for name, write in writes.items():
        trial.suggest_float(name, 0, 1)
        step(name, write)
    stored = claims.get_trial(trial_id)
    assert stored.state == TrialState.COMPLETE
    assert (stored.value, stored.intermediate_values) == (0.75, {1: 0.25, 2: 0.5})
    assert stored.params.keys() == {f"new {number}", *writes} | ({"x"} if waits else set())
    assert stored.params == {**stored.params, **trial.params}
    assert stored.system_attrs["completed_rung_0"] == 0.25
    assert stored.user_attrs == {
        "worker": FIRST, "attempt": 1, "arm": f"arm {number}", "depth": 11, "seed": number, "note": "ü",
        "outcome": "complete",
    }  # fmt: skip
    assert not claims.running
    return stored


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("lost", ["commit", "answer", pytest.param("statement", marks=pytest.mark.slow)])
def test_whatever_is_lost_on_the_way_and_wherever_counts_once(
    line: tuple[Study, PatientStorage, Line], lost: str, waits: bool
) -> None:
    """Each statement, each commit and each answer of a trial's life is lost once."""
    study, claims, lossy = line
    points: list[tuple[str, int]] = []

    def look(name: str, call: Callable[[], Any]) -> Any:
        lossy.seen.clear()
        answer = call()
        if name == "ask" or not waits:  # else it goes on as without
            points.extend((name, n + 1) for n in range(lossy.seen[lost]))
        return answer

    a_life(study, claims, lambda _, call: call(), waits)  # afterwards, all names of parameters are known
    a_life(study, claims, look, waits)
    assert len(points) > (1 if waits else 10)
    for count, (name, n) in enumerate(points, start=2):

        def losing(step: str, call: Callable[[], Any], name: str = name, n: int = n) -> Any:
            if step != name:
                return call()
            lossy.seen.clear()
            lossy.fails = (lost, n)
            answer = call()
            assert lossy.fails is None, "the point was not met"
            return answer

        what = f"{lost} {n} of {name}"
        assert a_life(study, claims, losing, waits).number == count, what
        assert claims.get_n_trials(study_id_of(study)) == count + 1, what


def test_a_release_whose_answer_is_lost_tells_that_the_trial_is_gone(
    line: tuple[Study, PatientStorage, Line],
) -> None:
    study, claims, lossy = line
    trial = study.ask()
    lossy.seen.clear()
    lossy.fails = ("answer", 1)
    with pytest.raises(ClaimLost):  # which is what the loop takes for done
        claims.release(trial_id_of(trial))
    assert not claims.running
    again = study.ask()
    assert again.number == trial.number
    assert again.user_attrs["attempt"] == 1
    for fails in (("statement", 1), ("statement", 4), ("commit", 1)):
        lossy.seen.clear()
        lossy.fails = fails
        claims.release(trial_id_of(again))
        assert lossy.fails is None
        assert study.trials[0].user_attrs["attempt"] == 0
        again = study.ask()


def test_a_queue_that_is_filled_over_a_bad_line_is_filled_once(
    line: tuple[Study, PatientStorage, Line],
) -> None:
    study, claims, lossy = line
    for count, fails in enumerate((("statement", 5), ("commit", 1), ("answer", 1)), start=1):
        lossy.seen.clear()
        lossy.fails = fails
        claims.fill(study_id_of(study), queued(*range(3 * count)))
        assert lossy.fails is None
        assert [trial.params["x"] for trial in study.trials] == list(range(3 * count))


def test_threads_wait_each_for_themselves(quick: None) -> None:
    """A call that waits holds up no other."""
    patience = Patience(60, print)
    away = threading.Event()
    away.set()

    def call() -> str:
        if away.is_set():
            raise AWAY
        return "late"

    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(patience.call(call)))
    thread.start()
    assert patience.call(Failing(2)) == "answer"
    assert not said
    away.clear()
    thread.join()
    assert said == ["late"]
