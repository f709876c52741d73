"""Who runs which trial: names, clocks, signs of life, and what becomes of the trials of the dead."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from optuna.study import Study
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from search.storage.internals import models, study_id_of, transaction, trial_id_of
from search.storage.leases import MAX_ATTEMPTS, ClaimLost, Leases, is_gone, worker_name
from search.storage.patience import PatientStorage
from search.storage.rows import trial_attributes, write_trial_attributes
from tests.support.claims import FIRST, SECOND, a_study, age, joined, numbers, queued, two_workers

HOST = worker_name().partition(":")[0]


# names


def test_a_worker_is_named_after_host_process_and_chance() -> None:
    names = [worker_name().split(":") for _ in range(2)]
    assert [name[:2] for name in names] == [[HOST, str(os.getpid())]] * 2
    assert names[0][2] != names[1][2]
    assert HOST.partition("/")[0] == socket.gethostname()


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_which_workers_are_seen_to_be_gone() -> None:
    dead, myself = ended_process(), f"{HOST}:{os.getpid()}:aa"
    assert is_gone(f"{HOST}:{dead}:aa", myself)
    assert is_gone(f"{HOST}:{dead}:aa", None)
    assert is_gone(f"{HOST}:{os.getpid()}:bb", myself), "an earlier process that had this pid"
    assert not is_gone(myself, myself)
    assert not is_gone(f"{HOST}:{os.getppid()}:aa", myself), "it lives"
    assert not is_gone(f"elsewhere:{dead}:aa", myself), "its processes cannot be seen from here"
    assert not is_gone(f"{HOST}x:{dead}:aa", myself)
    for odd in ("", HOST, f"{HOST}:", f"{HOST}:x:aa"):
        assert not is_gone(odd, myself), odd


def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        assert number == 0, "it is asked for, not ended"
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert not is_gone(f"{HOST}:{os.getppid()}:aa", None)


# the clock

EAST = {"postgresql": "SET TIME ZONE 'Asia/Tokyo'", "mysql": "SET time_zone = '+09:00'"}


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process lives nine hours ahead."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_clock_is_the_databases_in_utc_wherever_one_is(study_url: str, far_east: None) -> None:
    """It is so even if the session's time zone is another: otherwise two workers would take each other for
    dead."""
    _, claims = joined(study_url)
    with transaction(claims) as session:
        if statement := EAST.get(claims.leases.dialect):
            session.execute(sqlalchemy.text(statement))
        now = claims.leases.now(session)
        assert now.tzinfo is None
        assert abs(now - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)


def test_a_trial_without_a_sign_of_life_is_as_old_as_its_start(study_url: str, far_east: None) -> None:
    """Other versions of Optuna leave such trials."""
    study, first, second = two_workers(study_url)
    study.ask()
    with transaction(first) as session:
        session.query(models.TrialHeartbeatModel).delete()
    assert second.reap(study_id_of(study), grace=60) == []
    with transaction(first) as session:
        session.query(models.TrialModel).one().datetime_start -= timedelta(seconds=90)
    assert second.reap(study_id_of(study), grace=120) == []
    assert second.reap(study_id_of(study), grace=60) == [0]


def test_a_trial_of_which_nothing_is_known_is_dead(study_url: str) -> None:
    study, _, second = two_workers(study_url)
    trial = study.ask()
    with transaction(second) as session:
        session.query(models.TrialHeartbeatModel).delete()
        session.query(models.TrialUserAttributeModel).delete()
        models.TrialModel.find_or_raise_by_id(trial_id_of(trial), session).datetime_start = None
    assert second.reap(study_id_of(study), grace=1000) == [0]
    assert study.trials[0].user_attrs == {"lost_workers": [None]}


# what a worker has


def attributes(claims: PatientStorage, trial_id: int) -> dict[str, object]:
    with transaction(claims) as session:
        return trial_attributes(session, trial_id)


def test_a_claim_counts_the_attempt_and_names_the_worker(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id, other = (trial_id_of(study.ask()) for _ in range(2))
    with transaction(second) as session:
        write_trial_attributes(session, trial_id, {"attempt": 7})
        second.leases.claim(session, trial_id)
    assert attributes(first, trial_id) == {"worker": SECOND, "attempt": 8}
    assert attributes(first, other) == {"worker": FIRST, "attempt": 1}
    with transaction(first) as session:
        assert session.query(models.TrialHeartbeatModel).count() == 2, "one for each"


def test_whose_a_trial_is(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    joined(study_url, SECOND)[0].ask()
    trial_id = trial_id_of(study.ask())
    joined(study_url, SECOND)[0].ask()
    nobody = Leases(None, first.leases.dialect)
    with transaction(first) as session:
        owns = [leases.owns(session, trial_id) for leases in (first.leases, second.leases, nobody)]
        assert owns == [True, False, False]
        assert first.leases.lock(session, trial_id).trial_id == trial_id
        for leases in (second.leases, nobody):
            with pytest.raises(ClaimLost):
                leases.lock(session, trial_id)
    first.finish(trial_id, TrialState.COMPLETE, 0.5, {})
    with transaction(first) as session:
        assert first.leases.owns(session, trial_id), "in whatever state"
        with pytest.raises(ClaimLost):
            first.leases.lock(session, trial_id)


def test_what_a_worker_runs_is_told_study_by_study(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    ids = [trial_id_of(study.ask()) for _ in range(4)]
    first.finish(ids[0], TrialState.COMPLETE, 0.5, {})
    first.release(ids[1])
    joined(study_url, SECOND)[0].ask()  # the one that was given back
    other = a_study(study_url, "t")
    with transaction(first) as session:
        assert first.leases.running_of_mine(session, study_id_of(study)) == ids[2:]
        assert second.leases.running_of_mine(session, study_id_of(study)) == [ids[1]]
        assert first.leases.running_of_mine(session, study_id_of(other)) == []


# signs of life


def test_a_sign_of_life_is_of_one_trial(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    ids = [trial_id_of(study.ask()) for _ in range(2)]
    age(first, 60)
    first.beat(ids[1])
    assert second.reap(study_id_of(study), grace=30) == [0]


def test_silence_counts_above_the_grace(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    now = datetime(2026, 1, 1, 12)
    with transaction(first) as session:
        session.query(models.TrialHeartbeatModel).one().heartbeat = now

    def dead(seconds: float, grace: float) -> tuple[list[int], int | None]:
        """What is found, and what is taken when it is looked at again."""
        leases = Leases(SECOND, second.leases.dialect)
        leases.now = lambda session: now + timedelta(seconds=seconds)  # type: ignore[method-assign]
        with transaction(second) as session:
            found = leases.dead(session, study_id_of(study), grace)
            return found, leases.take(session, study_id_of(study), trial_id, grace)

    assert dead(60, 60) == ([], None)
    assert dead(61, 62) == ([], None)
    assert dead(10**6, math.inf) == ([], None), "silence is not looked at"
    assert dead(61, 60) == ([trial_id], 0)


def test_a_worker_of_this_host_is_dead_as_soon_as_its_process_is(study_url: str) -> None:
    a, b = f"{HOST}:{ended_process()}:aa", f"{HOST}:{os.getppid()}:aa"
    study, _ = joined(study_url, a)
    dead = trial_id_of(study.ask())
    joined(study_url, b)[0].ask()
    _, third = joined(study_url, FIRST)
    for grace in (1000, math.inf):
        with transaction(third) as session:
            assert third.leases.dead(session, study_id_of(study), grace) == [dead]
    assert third.reap(study_id_of(study), math.inf) == [0]


def test_only_running_trials_of_the_study_have_dead_workers(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    other = a_study(study_url, "t")
    joined(study_url, FIRST, name="t")[0].ask()
    trials = [study.ask() for _ in range(3)]
    first.finish(trial_id_of(trials[0]), TrialState.COMPLETE, 0.5, {})
    first.release(trial_id_of(trials[1]))
    age(first, 60)
    assert second.reap(study_id_of(study), grace=30) == [2]
    assert other.trials[0].state == TrialState.RUNNING


# taking over


def take(claims: PatientStorage, study: Study, trial_id: int, grace: float = 30) -> int | None:
    with transaction(claims) as session:
        return claims.leases.take(session, study_id_of(study), trial_id, grace)


def test_who_lost_a_trial_is_kept_in_order(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    study.ask()
    trial_id = trial_id_of(study.ask())
    for claims in (second, first):
        age(first, 60)
        assert take(claims, study, trial_id) == 1, "its number, not its id"
        assert claims.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert study.trials[1].user_attrs["lost_workers"] == [FIRST, SECOND]
    assert study.trials[1].user_attrs["attempt"] == 3
    assert "lost_workers" not in study.trials[0].user_attrs


def test_what_is_not_dead_is_not_taken(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    ids = [trial_id_of(study.ask()) for _ in range(3)]
    first.finish(ids[1], TrialState.COMPLETE, 0.5, {})
    first.release(ids[2])
    before = study.get_trials()
    assert [take(second, study, trial_id) for trial_id in ids] == [None] * 3
    assert study.get_trials() == before


Again = Callable[[Session, Leases, Study, int], None]


def releases(session: Session, leases: Leases, study: Study, trial_id: int) -> None:
    leases.release(session, trial_id)


def is_taken(session: Session, leases: Leases, study: Study, trial_id: int) -> None:
    leases.worker = None
    assert leases.take(session, study_id_of(study), trial_id, -1) is not None


@pytest.mark.parametrize("again", [releases, is_taken])
def test_what_stays_and_what_goes_when_a_trial_is_queued_again(study_url: str, again: Again) -> None:
    """The trial loses what is its own, and its neighbour loses nothing."""
    opened, claims = joined(study_url)
    opened.enqueue_trial({"x": 0.5}, user_attrs={"note": 1})
    trials = [opened.ask() for _ in range(2)]
    for trial in trials:
        trial.suggest_float("x", 0, 1)
        trial.report(0.5, 1)
        for name in ("completed_rung_0", "completed_rung_12", "artifacts:1", "kept", "my artifacts:1"):
            claims.set_trial_system_attr(trial_id_of(trial), name, 1)
    before = opened.get_trials()
    with transaction(claims) as session:
        again(session, Leases(FIRST, claims.leases.dialect), opened, trial_id_of(trials[0]))
    mine, neighbour = opened.get_trials()
    assert neighbour == before[1]
    assert mine.state == TrialState.WAITING
    assert mine.intermediate_values == {}
    assert mine.params == {"x": 0.5}
    assert mine.system_attrs.keys() == {"fixed_params", "kept", "my artifacts:1"}
    assert mine.user_attrs["note"] == 1
    assert mine.datetime_complete is None


def test_a_trial_given_back_without_a_cause_never_fails(study_url: str) -> None:
    """The attempt that ends so does not count, whichever it is."""
    study, first, _ = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    with transaction(first) as session:
        write_trial_attributes(session, trial_id, {"attempt": MAX_ATTEMPTS + 2})
    first.release(trial_id)
    assert study.trials[0].state == TrialState.WAITING
    assert study.trials[0].user_attrs["attempt"] == MAX_ATTEMPTS + 1


@pytest.mark.parametrize("attempt", range(1, MAX_ATTEMPTS + 1))
def test_the_last_attempt_that_counts_fails_the_trial(study_file: str, attempt: int) -> None:
    study, first, second = two_workers(study_file)
    spent, silent = trial_id_of(study.ask()), trial_id_of(study.ask())
    with transaction(first) as session:
        for trial_id in (spent, silent):
            write_trial_attributes(session, trial_id, {"attempt": attempt})
    first.release(spent, spent="a sick GPU")
    age(first, 60)
    assert second.reap(study_id_of(study), grace=30) == [1]
    state = TrialState.FAIL if attempt == MAX_ATTEMPTS else TrialState.WAITING
    assert [trial.state for trial in study.trials] == [state] * 2
    errors = [trial.user_attrs.get("error") for trial in study.trials]
    assert errors == (["a sick GPU", None] if attempt == MAX_ATTEMPTS else [None, None])
    assert [trial.user_attrs["attempt"] for trial in study.trials] == [attempt] * 2
    assert all((trial.datetime_complete is not None) == (state == TrialState.FAIL) for trial in study.trials)


# other machines


def test_a_worker_elsewhere_counts_while_it_gives_signs_of_life(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    study_id = study_id_of(study)
    assert second.elsewhere(study_id, 60) is None
    study.ask()
    assert second.elsewhere(study_id, 60) == "elsewhere"
    assert first.elsewhere(study_id, 60) == "elsewhere", "it is not this machine, though it is this worker"
    age(first, 100)
    assert second.elsewhere(study_id, 60) is None, "a dead worker forbids nothing"
    assert second.elsewhere(study_id, 300) == "elsewhere"
    assert second.elsewhere(study_id_of(a_study(study_url, "t")), 300) is None
    with transaction(first) as session:
        session.query(models.TrialHeartbeatModel).delete()
    assert second.elsewhere(study_id, 300) is None


def test_workers_of_this_machine_are_not_elsewhere(study_url: str) -> None:
    """Nor are those of another container or an earlier boot, which share its host name."""
    study, claims = joined(study_url, f"{socket.gethostname()}/0815:1:aa")
    study.ask()
    study.add_trials(queued(1.0))
    assert claims.elsewhere(study_id_of(study), 60) is None
    joined(study_url, "farm7/4026531836:1:aa")[0].ask()
    joined(study_url, "farm8/4026531836:1:aa")[0].ask()
    assert claims.elsewhere(study_id_of(study), 60) == "farm7"
    assert numbers(study.trials) == [0, 1, 2]


def test_a_worker_without_a_name_is_nowhere(study_url: str) -> None:
    study, claims = joined(study_url, "")
    study.ask()
    assert claims.elsewhere(study_id_of(study), 60) is None
