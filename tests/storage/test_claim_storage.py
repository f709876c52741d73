"""An exact budget and one owner for every running trial, on every database. The processes here are real."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from search.spec.study import StudySpec
from search.storage.internals import models, study_id_of, transaction, trial_id_of
from search.storage.leases import MAX_ATTEMPTS, ClaimLost, worker_name
from search.storage.patience import PatientStorage
from search.storage.rows import BudgetSpent
from search.storage.studies import open_study
from search.storage.trial_record import TURN
from tests.support.claims import (
    FIRST,
    SECOND,
    a_study,
    age,
    holding_study,
    holding_trial,
    in_thread,
    joined,
    numbers,
    queued,
    two_workers,
    waits,
)
from tests.support.crew import CONTEXT
from tests.support.paths import REPOSITORY


def run_processes(target: Callable[..., None], *arguments: Any, times: int) -> None:
    processes = [CONTEXT.Process(target=target, args=arguments) for _ in range(times)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * times


def stub_worker(url: str, budget: int, log: str | None = None) -> None:
    """Takes trials until the budget is spent; each takes a moment."""
    study, claims = joined(url, worker_name(), budget)
    while True:
        try:
            trial = study.ask()
        except BudgetSpent:
            return
        x = trial.suggest_float("x", 0, 1)
        if log:
            with Path(log).open("a") as file:
                file.write(f"{trial.number}\n")
        time.sleep(0.01)
        claims.finish(trial_id_of(trial), TrialState.COMPLETE, x, {"outcome": "complete"})


def open_and_work(url: str, spec: StudySpec, budget: int) -> None:
    open_study(url, "s", spec, "data", budget)
    stub_worker(url, budget)


@pytest.mark.slow
def test_the_budget_is_exact_over_processes_and_restarts(url: str, tiny: StudySpec) -> None:
    """6 processes on an empty database: 40 leaves 40, then 50 leaves 50, then nothing more happens."""
    for budget in (40, 50, 50):
        run_processes(open_and_work, url, tiny, budget, times=6)
        trials = open_study(url, "s", tiny, "data", 0).get_trials()
        assert numbers(trials) == list(range(budget))
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert [trial.system_attrs[TURN] for trial in trials] == list(range(budget))


@pytest.mark.slow
def test_no_queued_trial_runs_twice(url: str, tiny: StudySpec, tmp_path: Path) -> None:
    """60 queued trials, 8 processes. Stock Optuna runs 12 to 16 of them twice on SQLite."""
    study = open_study(url, "s", tiny, "data", 0)
    for i in range(60):
        study.enqueue_trial({"x": i / 60})
    log = tmp_path / "log"
    run_processes(stub_worker, url, 60, str(log), times=8)
    ran = Counter(int(line) for line in log.read_text().split())
    assert ran == Counter(range(60))
    assert all(trial.state == TrialState.COMPLETE for trial in open_study(url, "s", tiny, "data", 0).trials)


# the budget


def test_no_trial_is_made_above_the_budget(study_url: str) -> None:
    study, _ = joined(study_url, budget=2)
    assert [study.ask().number, study.ask().number] == [0, 1]
    with pytest.raises(BudgetSpent):
        study.ask()
    assert len(study.trials) == 2


def test_a_budget_that_is_spent_makes_nothing_while_others_look_on(study_url: str) -> None:
    joined(study_url, FIRST, 1)[0].ask()
    study, claims = joined(study_url, SECOND, 1)
    for _ in range(2):
        with pytest.raises(BudgetSpent):
            study.ask()
    assert not claims.running
    assert numbers(study.trials) == [0]


def test_queued_trials_count_and_need_no_turn(study_url: str) -> None:
    study, _ = joined(study_url, budget=3)
    study.enqueue_trial({"x": 0.5})
    assert [study.ask().number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BudgetSpent):
        study.ask()
    assert [trial.system_attrs.get(TURN) for trial in study.trials] == [None, 0, 1]


def test_studies_in_one_database_share_neither_turns_nor_budgets(study_url: str) -> None:
    a_study(study_url, "t")
    for name in ("s", "t"):
        study, _ = joined(study_url, budget=2, name=name)
        assert [study.ask().number, study.ask().number] == [0, 1]
        with pytest.raises(BudgetSpent):
            study.ask()
        assert [trial.system_attrs[TURN] for trial in study.trials] == [0, 1]


def test_what_is_queued_is_nobodys(study_url: str) -> None:
    study, claims = joined(study_url)
    study.enqueue_trial({"x": 0.5})
    study.add_trials(queued(1.0))
    assert not claims.running
    assert [trial.user_attrs for trial in study.trials] == [{}, {}]


# the queue of a confirmation


def test_filling_adds_what_is_missing_and_nothing_else(study_url: str) -> None:
    """Templates are told by their place."""
    study, claims = joined(study_url)
    claims.fill(study_id_of(study), queued(0, 1))
    study.ask()
    for _ in range(2):
        claims.fill(study_id_of(study), queued(0, 1, 2, 3))
    assert numbers(study.trials) == [0, 1, 2, 3]
    assert [trial.params["x"] for trial in study.trials] == [0, 1, 2, 3]
    assert [t.state.name for t in study.trials] == ["RUNNING", "WAITING", "WAITING", "WAITING"]


def test_other_studies_count_for_nothing_when_one_is_filled(study_url: str) -> None:
    joined(study_url)[0].enqueue_trial({"x": 0.5})
    a_study(study_url, "t")
    study, claims = joined(study_url, name="t")
    claims.fill(study_id_of(study), queued(0, 1))
    assert numbers(study.trials) == [0, 1]


def test_filling_is_all_or_nothing(study_url: str) -> None:
    study, claims = joined(study_url)
    bad = queued(0, 1)
    bad[1].user_attrs["bad"] = object()
    with pytest.raises(TypeError):
        claims.fill(study_id_of(study), bad)
    assert study.trials == []


def test_who_fills_a_study_meanwhile_is_waited_for(study_url: str) -> None:
    """Two commands that start together: the second finds all that the first has added."""
    study, first, second = two_workers(study_url)
    study_id = study_id_of(study)
    with holding_study(first, study_id) as session:
        thread, said = in_thread(lambda: second.fill(study_id, queued(0, 1, 2)))
        assert waits(thread)
        for template in queued(0, 1, 2):
            first.direct._get_prepared_new_trial(study_id, template, session)
    thread.join()
    assert said == [None]
    assert numbers(study.trials) == [0, 1, 2]


# claims


def test_a_claim_carries_worker_attempt_and_sign_of_life_at_once(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial = study.ask()
    assert study.trials[0].user_attrs == {"worker": FIRST, "attempt": 1}
    assert second.reap(study_id_of(study), grace=30) == [], "a trial just claimed is no dead worker's"
    age(first, 60)
    first.beat(trial_id_of(trial))
    assert second.reap(study_id_of(study), grace=30) == []


def test_a_queued_trial_is_claimed_by_who_takes_it(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    study.enqueue_trial({"x": 0.5}, user_attrs={"note": "kept"})
    trial_id = trial_id_of(study.trials[0])
    assert second.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert not first.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert (first.running, second.running) == (set(), {trial_id})
    [trial] = study.trials
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs == {"note": "kept", "worker": SECOND, "attempt": 1}
    assert trial.datetime_start is not None
    assert abs(trial.datetime_start - datetime.now()) < timedelta(minutes=1)
    age(first, 60)
    assert first.reap(study_id_of(study), grace=30) == [0], "it had a sign of life to be missed"


def test_who_claims_a_trial_meanwhile_has_it(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    study.add_trials(queued(1.0))
    trial_id = trial_id_of(study.trials[0])
    with holding_trial(first, trial_id) as session:
        thread, said = in_thread(lambda: second.set_trial_state_values(trial_id, TrialState.RUNNING))
        assert waits(thread)
        models.TrialModel.find_or_raise_by_id(trial_id, session).state = TrialState.RUNNING
        first.leases.claim(session, trial_id)
    thread.join()
    assert said == [False]
    assert (study.trials[0].user_attrs["worker"], second.running) == (FIRST, set())


@pytest.mark.parametrize("name", ["beat", "annotate", "report", "finish", "release"])
def test_who_loses_its_trial_meanwhile_writes_nothing(study_url: str, name: str) -> None:
    study, first, second = two_workers(study_url)
    trial = study.ask()
    trial_id = trial_id_of(trial)
    with holding_trial(second, trial_id) as session:
        thread, said = in_thread(lambda: LATE[name](first, trial))
        assert waits(thread)
        assert second.leases.take(session, study_id_of(study), trial_id, -1) == 0
        models.TrialModel.find_or_raise_by_id(trial_id, session).state = TrialState.RUNNING
        second.leases.claim(session, trial_id)
    thread.join()
    assert [type(error) for error in said] == [ClaimLost]
    [stored] = study.trials
    assert (stored.state, stored.value, stored.intermediate_values) == (TrialState.RUNNING, None, {})
    assert stored.user_attrs == {"worker": SECOND, "attempt": 2, "lost_workers": [FIRST]}


def test_who_gives_a_sign_of_life_meanwhile_keeps_its_trial(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id, study_id = trial_id_of(study.ask()), study_id_of(study)
    age(first, 60)
    with holding_trial(first, trial_id) as session:
        thread, said = in_thread(lambda: second.direct._take(study_id, trial_id, 30))
        assert waits(thread)
        first.leases.beat(session, trial_id)
    thread.join()
    assert said == [None]
    assert study.trials[0].user_attrs == {"worker": FIRST, "attempt": 1}


def test_a_finished_trial_is_claimed_by_nobody(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    first.finish(trial_id, TrialState.COMPLETE, 0.5, {})
    for claims in (first, second):
        with pytest.raises(UpdateFinishedTrialError):
            claims.set_trial_state_values(trial_id, TrialState.RUNNING)
        assert not claims.running


def test_a_silent_workers_trial_is_queued_again_with_a_clean_slate(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    first.set_trial_system_attr(trial_id_of(trial), "completed_rung_0", 0.5)
    age(first, 60)
    assert second.reap(study_id_of(study), grace=30) == [0]
    waiting = study.trials[0]
    assert waiting.state == TrialState.WAITING
    assert (waiting.params, waiting.intermediate_values) == ({"x": x}, {})
    assert "completed_rung_0" not in waiting.system_attrs
    assert second.reap(study_id_of(study), grace=30) == []

    successor = joined(study_url, "elsewhere:3:cc")[0].ask()
    assert (successor.number, successor.suggest_float("x", 0, 1)) == (0, x)
    assert successor.user_attrs["attempt"] == 2


Late = Callable[[PatientStorage, optuna.Trial], object]
LATE: dict[str, Late] = {
    "beat": lambda claims, trial: claims.beat(trial_id_of(trial)),
    "annotate": lambda claims, trial: claims.annotate(trial_id_of(trial), {"depth": 1}),
    "release": lambda claims, trial: claims.release(trial_id_of(trial)),
    "spent": lambda claims, trial: claims.release(trial_id_of(trial), spent="a sick GPU"),
    "report": lambda claims, trial: claims.set_trial_intermediate_value(trial_id_of(trial), 1, 0.1),
    "user attribute": lambda claims, trial: claims.set_trial_user_attr(trial_id_of(trial), "note", 1),
    "system attribute": lambda claims, trial: claims.set_trial_system_attr(trial_id_of(trial), "note", 1),
    "first parameter": lambda _, trial: trial.suggest_float("new", 0, 1),
    "finish": lambda claims, trial: claims.finish(trial_id_of(trial), TrialState.COMPLETE, 0.1, {"a": 1}),
    "fail": lambda claims, trial: claims.finish(trial_id_of(trial), TrialState.FAIL, None, {"a": 1}),
}


def test_a_worker_taken_for_dead_writes_nothing_over_its_successor(study_url: str) -> None:
    """It writes nothing while its successor runs the trial, nor when that has finished it."""
    study, first, second = two_workers(study_url)
    trial = study.ask()
    trial_id = trial_id_of(trial)
    age(first, 60)
    second.reap(study_id_of(study), grace=30)
    assert second.set_trial_state_values(trial_id, TrialState.RUNNING)
    for _ in range(2):
        [before] = study.get_trials()
        for name, late in LATE.items():
            with pytest.raises(ClaimLost):
                late(first, trial)
            assert study.get_trials() == [before], name
        second.finish(trial_id, TrialState.COMPLETE, 0.9, {"outcome": "complete"})
    assert before.user_attrs["worker"] == SECOND


def test_parameters_that_wait_are_not_written_into_a_successors_attempt(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    study.ask().suggest_float("x", 0, 1)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)  # known from the first trial, so it waits for the next write
    age(first, 60)
    second.reap(study_id_of(study), grace=30)
    assert second.set_trial_state_values(trial_id_of(trial), TrialState.RUNNING)
    with pytest.raises(ClaimLost):
        first.annotate(trial_id_of(trial), {"depth": 1})
    assert study.trials[1].params == {}


def test_a_trial_that_loses_every_worker_fails_as_lost(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert study.trials[0].user_attrs["attempt"] == attempt
        age(first, 60)
        assert second.reap(study_id_of(study), grace=30) == [0]
        if attempt < MAX_ATTEMPTS:
            assert study.trials[0].state == TrialState.WAITING
            assert first.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["outcome"] == "lost"
    assert study.trials[0].user_attrs["lost_workers"] == [FIRST] * MAX_ATTEMPTS
    assert study.trials[0].datetime_complete is not None
    assert second.unfinished(study_id_of(study)) == 0


def test_an_owner_that_gives_a_sign_of_life_between_look_and_lock_keeps_its_trial(
    study_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    age(first, 60)
    take = second.direct._take

    def late(*asked: Any) -> int | None:
        first.beat(trial_id)
        return take(*asked)

    monkeypatch.setattr(second.direct, "_take", late)
    before = study.get_trials()
    assert second.reap(study_id_of(study), grace=30) == []
    assert study.get_trials() == before
    first.annotate(trial_id, {"depth": 3})  # it is still its owner's


def test_a_trial_that_ends_or_changes_hands_between_look_and_lock_is_left_alone(
    study_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, first, second = two_workers(study_url)
    _, third = joined(study_url, "elsewhere:3:cc")
    ended, taken = trial_id_of(study.ask()), trial_id_of(study.ask())
    age(first, 60)
    take = second.direct._take

    def late(study_id: int, trial_id: int, grace: float) -> int | None:
        if trial_id == ended:
            first.finish(ended, TrialState.COMPLETE, 0.5, {})
        else:
            third.reap(study_id, grace)
            third.set_trial_state_values(taken, TrialState.RUNNING)
        return take(study_id, trial_id, grace)

    monkeypatch.setattr(second.direct, "_take", late)
    assert second.reap(study_id_of(study), grace=30) == []
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert [trial.user_attrs.get("lost_workers") for trial in study.trials] == [None, [FIRST]]


def test_reaping_takes_every_trial_of_the_dead_and_none_of_the_living(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    lost = [trial_id_of(study.ask()) for _ in range(2)]
    age(first, 60)
    alive = joined(study_url, "elsewhere:3:cc")[0].ask()
    assert second.reap(study_id_of(study), grace=30) == [0, 1]
    assert [trial.state.name for trial in study.trials] == ["WAITING", "WAITING", "RUNNING"]
    assert study.trials[2].number == alive.number
    assert len(lost) == 2


KILLED = """
import sys, time
from search.storage.leases import worker_name
from tests.support.claims import joined
joined(sys.argv[1], worker_name())[0].ask()
print("asked", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_process_of_this_host_is_noticed_without_waiting(study_url: str) -> None:
    study, claims = joined(study_url)
    words = [sys.executable, "-c", KILLED, study_url]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    for grace in (1000, math.inf):
        assert claims.reap(study_id_of(study), grace) == [], "it lives"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert claims.reap(study_id_of(study), grace=1000) == [0]
    assert study.trials[0].state == TrialState.WAITING


# giving back


def test_giving_a_trial_back_spends_no_attempt(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    for _ in range(2 * MAX_ATTEMPTS):
        first.release(trial_id)
        assert not first.running
        assert first.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert study.trials[0].user_attrs["attempt"] == 1
    assert second.unfinished(study_id_of(study)) == 1


def test_a_trial_that_breaks_every_gpu_is_not_tried_for_ever(study_url: str) -> None:
    study, claims = joined(study_url, budget=1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claims.release(trial_id_of(study.ask()), spent="the GPU fell off the bus")
        [frozen] = study.get_trials()
        assert frozen.user_attrs["attempt"] == attempt
        assert frozen.state == (TrialState.FAIL if attempt == MAX_ATTEMPTS else TrialState.WAITING)
    assert (frozen.user_attrs["outcome"], frozen.user_attrs["error"]) == ("lost", "the GPU fell off the bus")


def test_a_worker_gives_back_all_it_has(study_url: str) -> None:
    study, claims = joined(study_url, budget=3)
    trials = [study.ask() for _ in range(3)]
    claims.finish(trial_id_of(trials[0]), TrialState.COMPLETE, 0.5, {})
    claims.give_back()
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "WAITING", "WAITING"]
    assert [t.user_attrs["attempt"] for t in study.get_trials()] == [1, 0, 0], "no attempt is spent"
    assert not claims.running


def test_giving_back_leaves_what_is_anothers_by_now(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    lost, kept = trial_id_of(study.ask()), trial_id_of(study.ask())
    age(first, 60)
    first.beat(kept)
    second.reap(study_id_of(study), grace=30)
    assert second.set_trial_state_values(lost, TrialState.RUNNING)
    first.give_back()
    assert not first.running
    assert [t.state.name for t in study.trials] == ["RUNNING", "WAITING"]


def test_nothing_of_a_lost_attempt_is_remembered(study_url: str) -> None:
    """Its trial may come back to the worker that lost it."""
    study, claims = joined(study_url, budget=2)
    study.ask().suggest_float("x", 0, 1)
    trial = study.ask()
    trial_id = trial_id_of(trial)
    trial.report(0.5, 1)
    claims.set_trial_system_attr(trial_id, "completed_rung_0", 0.5)
    assert claims.get_trial(trial_id).intermediate_values == {1: 0.5}
    trial.suggest_float("x", 0, 1)  # waits to be written
    with transaction(claims) as session:  # as another worker does that takes this one for dead
        claims.leases.release(session, trial_id)
    assert trial_id_of(study.ask()) == trial_id
    read = claims.get_trial(trial_id)
    assert (read.intermediate_values, read.params) == ({}, {})
    assert "completed_rung_0" not in read.system_attrs


# what is written and read


def test_what_a_worker_has_written_is_what_it_reads(study_url: str) -> None:
    """Parameters wait for the next write, and a pruner reads from memory: nobody must see a difference."""
    study, claims = joined(study_url, worker_name(), 3)
    for _ in range(3):
        trial = study.ask()
        trial_id = trial_id_of(trial)
        x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a", "b"])
        trial.report(0.5, 1)
        claims.set_trial_system_attr(trial_id, "completed_rung_0", 0.5)
        trial.report(0.6, 2)
        claims.set_trial_intermediate_value(trial_id, 1, 0.7)  # once more
        mine, stored = claims.get_trial(trial_id), study.get_trials()[trial.number]
        for read in (mine, stored):
            assert read.params == {"x": x, "kind": kind}
            assert read.intermediate_values == {1: 0.7, 2: 0.6}
            assert read.system_attrs["completed_rung_0"] == 0.5
        claims.set_trial_system_attr(trial_id, "completed_rung_1", 0.25)
        claims.set_trial_system_attr(trial_id, "completed_rung_0", 0.75)
        attributes = claims.get_trial(trial_id).system_attrs
        assert (attributes["completed_rung_1"], attributes["completed_rung_0"]) == (0.25, 0.75)
        claims.annotate(trial_id, {"arm": "plain"})
        assert claims.get_trial(trial_id).user_attrs["arm"] == "plain"
        claims.set_trial_user_attr(trial_id, "arm", "other")
        assert claims.get_trial(trial_id).user_attrs["arm"] == "other"
        claims.finish(trial_id, TrialState.COMPLETE, x, {})
        assert claims.get_trial(trial_id).state == TrialState.COMPLETE


def test_parameters_that_wait_are_written_by_whatever_comes_next(study_url: str) -> None:
    writes: list[Late] = [
        lambda claims, trial: claims.get_trial(trial_id_of(trial)),
        lambda claims, trial: claims.annotate(trial_id_of(trial), {}),
        lambda claims, trial: claims.set_trial_user_attr(trial_id_of(trial), "a", 1),
        lambda claims, trial: claims.set_trial_system_attr(trial_id_of(trial), "a", 1),
        lambda claims, trial: claims.set_trial_intermediate_value(trial_id_of(trial), 1, 0.5),
        lambda claims, trial: claims.finish(trial_id_of(trial), TrialState.COMPLETE, 0.5, {}),
        lambda claims, trial: claims.set_trial_state_values(trial_id_of(trial), TrialState.COMPLETE, [0.5]),
    ]
    study, claims = joined(study_url, budget=100)
    study.ask().suggest_float("x", 0, 1)
    for write in writes:
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        assert study.trials[trial.number].params == {}
        write(claims, trial)
        assert study.trials[trial.number].params == {"x": x}


def test_parameters_that_waited_are_written_once(study_file: str) -> None:
    study, claims = joined(study_file)
    study.ask().suggest_float("x", 0, 1)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    statements: list[str] = []
    sqlalchemy.event.listen(
        claims.engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    for waited in (True, False):
        statements.clear()
        claims.annotate(trial_id_of(trial), {"depth": 1})
        assert any("trial_params" in statement for statement in statements) == waited


def test_a_parameter_of_another_kind_is_refused_before_it_is_written(study_url: str) -> None:
    study, _ = joined(study_url)
    study.ask().suggest_float("x", 0, 1)
    with pytest.raises(ValueError, match="Cannot set different distribution kind"):
        study.ask().suggest_categorical("x", ["a", "b"])
    assert study.trials[1].params == {}


def test_each_trial_has_what_was_written_for_it_alone(study_url: str) -> None:
    study, claims = joined(study_url)
    ids = [trial_id_of(study.ask()) for _ in range(2)]
    for factor, trial_id in enumerate(ids, start=1):
        claims.annotate(trial_id, {"arm": f"arm {factor}"})
        for name in ("first", "second"):  # the second time it is there already
            claims.annotate(trial_id, {"arm": f"{name} {factor}", "depth": 9 * factor})
            claims.set_trial_system_attr(trial_id, "note", factor)
            claims.set_trial_intermediate_value(trial_id, 3, factor / 10)
    claims.set_trial_intermediate_value(ids[0], 4, math.inf)
    claims.set_trial_intermediate_value(ids[0], 4, -math.inf)
    for factor, trial in enumerate(study.trials, start=1):
        assert trial.user_attrs["arm"] == f"second {factor}"
        assert trial.user_attrs["depth"] == 9 * factor
        assert trial.system_attrs["note"] == factor
        assert trial.intermediate_values == {3: factor / 10} | ({4: -math.inf} if factor == 1 else {})


def test_what_is_read_is_a_copy(study_url: str) -> None:
    study, claims = joined(study_url)
    trial = study.ask()
    trial.report(0.5, 1)
    read = claims.get_trial(trial_id_of(trial))
    read.intermediate_values[1] = 0.0
    read.user_attrs["worker"] = "nobody"
    again = claims.get_trial(trial_id_of(trial))
    assert (again.intermediate_values, again.user_attrs["worker"]) == ({1: 0.5}, FIRST)


def test_what_is_remembered_is_of_the_trial_that_is_asked_for(study_url: str) -> None:
    study, claims = joined(study_url)
    ids = [trial_id_of(study.ask()) for _ in range(2)]
    for factor, trial_id in enumerate(ids, start=1):
        for write in (
            partial(claims.set_trial_system_attr, trial_id, "note", factor),
            partial(claims.set_trial_intermediate_value, trial_id, 1, factor / 10),
        ):
            claims.get_trial(ids[0])  # is remembered, and must not change with the other
            write()
            assert "note" in claims.get_trial(ids[0]).system_attrs
            assert claims.get_trial(ids[0]).intermediate_values in ({}, {1: 0.1})
    for factor, trial_id in enumerate(ids, start=1):
        read = claims.get_trial(trial_id)
        assert trial_id_of(read) == trial_id
        assert (read.intermediate_values, read.system_attrs["note"]) == ({1: factor / 10}, factor)


def test_a_trial_that_is_not_its_own_is_read_anew_each_time(study_url: str) -> None:
    """Such a trial is another worker's, or one that it has given back."""
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    for epoch in (1, 2):
        first.set_trial_intermediate_value(trial_id, epoch, 0.5)
        assert second.get_trial(trial_id).intermediate_values == dict.fromkeys(range(1, epoch + 1), 0.5)
    first.release(trial_id)
    assert first.get_trial(trial_id).state == TrialState.WAITING
    assert second.set_trial_state_values(trial_id, TrialState.RUNNING)
    second.set_trial_intermediate_value(trial_id, 1, 0.25)
    assert first.get_trial(trial_id).state == TrialState.RUNNING
    assert first.get_trial(trial_id).intermediate_values == {1: 0.25}


# the end of a trial


def test_finishing_writes_state_value_attributes_and_time(study_url: str) -> None:
    study, claims = joined(study_url)
    for state, value in (
        (TrialState.COMPLETE, 0.25), (TrialState.PRUNED, 0.75), (TrialState.FAIL, None),
        (TrialState.COMPLETE, 0.0),
    ):  # fmt: skip
        trial = study.ask()
        claims.finish(trial_id_of(trial), state, value, {"outcome": state.name, "epochs": 0})
        stored = study.trials[trial.number]
        assert (stored.state, stored.value) == (state, value)
        assert (stored.user_attrs["outcome"], stored.user_attrs["epochs"]) == (state.name, 0)
        assert stored.datetime_complete is not None
        assert abs(stored.datetime_complete - datetime.now()) < timedelta(minutes=1)
        assert trial_id_of(trial) not in claims.running


def test_finishing_is_all_or_nothing(study_url: str) -> None:
    study, first, _ = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    with pytest.raises(TypeError):
        first.finish(trial_id, TrialState.COMPLETE, 0.5, {"outcome": "complete", "bad": object()})
    assert study.trials[0].state == TrialState.RUNNING
    assert "outcome" not in study.trials[0].user_attrs
    assert first.running == {trial_id}, "it gets signs of life"


def test_a_claim_whose_answer_was_lost_is_known_and_an_end_is_not(study_url: str) -> None:
    """What is `running` gets signs of life, and no more than that."""
    study, claims = joined(study_url)
    study.enqueue_trial({"x": 0.5})
    [trial] = study.get_trials()
    for _ in range(2):
        claims.running.clear()  # as if the first answer had never come
        assert claims.set_trial_state_values(trial_id_of(trial), TrialState.RUNNING)
        assert claims.running == {trial_id_of(trial)}
    claims.finish(trial_id_of(trial), TrialState.COMPLETE, 0.5, {})
    claims.running.add(trial_id_of(trial))
    claims.finish(trial_id_of(trial), TrialState.COMPLETE, 0.5, {})
    assert not claims.running
    claims.running.add(trial_id_of(trial))
    with pytest.raises(ClaimLost):
        claims.release(trial_id_of(trial))
    assert not claims.running


def test_a_second_end_does_not_replace_the_first(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    first.finish(trial_id, TrialState.COMPLETE, 0.5, {"outcome": "complete"})
    first.finish(trial_id, TrialState.COMPLETE, 0.1, {"outcome": "diverged"})  # taken for the lost answer's
    for claims, state in ((first, TrialState.FAIL), (second, TrialState.COMPLETE)):
        with pytest.raises(ClaimLost):
            claims.finish(trial_id, state, None, {"outcome": "error"})
    assert (study.trials[0].value, study.trials[0].user_attrs["outcome"]) == (0.5, "complete")


def test_a_made_trial_whose_answer_was_lost_is_given_out_again(study_url: str) -> None:
    """It goes only to the worker that made it, in the study that it is of."""
    study, first, second = two_workers(study_url)
    a_study(study_url, "t")
    trial = study.ask()
    first.running.clear()  # as if the answer had never come
    other, _ = joined(study_url, FIRST, name="t")
    assert other.ask().number == 0
    assert numbers(other.trials) == [0]
    assert joined(study_url, SECOND)[0].ask().number == 1
    assert study.ask().number == trial.number
    assert first.running == {trial_id_of(trial)}
    assert study.ask().number == 2
    assert second.unfinished(study_id_of(study)) == 3


def test_an_empty_queue_is_not_read_trial_by_trial(study_url: str) -> None:
    study, claims = joined(study_url, budget=3)
    study.enqueue_trial({"x": 0.25})
    assert claims.is_waiting(study_id_of(study))
    assert study.ask().suggest_float("x", 0, 1) == 0.25
    assert not claims.is_waiting(study_id_of(study))
    reads: list[object] = []
    claims._get_trials = lambda *args: reads.append(args) or []  # type: ignore[method-assign, func-returns-value]
    assert study.ask().number == 1
    assert not reads


def test_signs_of_life_are_kept_once_for_each_trial(study_url: str) -> None:
    study, first, _ = two_workers(study_url)
    trial_id = trial_id_of(study.ask())
    for _ in range(3):
        first.beat(trial_id)
        first.release(trial_id)
        assert first.set_trial_state_values(trial_id, TrialState.RUNNING)
    with transaction(first) as session:
        assert session.query(models.TrialHeartbeatModel).count() == 1
