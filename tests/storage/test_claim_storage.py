"""Budget, claims and the takeover of dead workers' trials, with real processes on real databases."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search.spec.study import StudySpec
from search.storage.claim_storage import BudgetSpent, ClaimStorage
from search.storage.connections import claims_of, join_study
from search.storage.leases import MAX_ATTEMPTS, ClaimLost, worker_name
from search.storage.studies import open_study

spawn = multiprocessing.get_context("spawn")


def run_processes(target: object, arguments: list[tuple[object, ...]]) -> list[int | None]:
    processes = [spawn.Process(target=target, args=args) for args in arguments]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def stub_worker(url: str, budget: int, log: str | None = None) -> None:
    """Takes trials until the budget is spent; each takes a moment."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, claims = join_study(url, "s", worker_name(), budget)
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
        claims.finish(trial._trial_id, TrialState.COMPLETE, x, {"outcome": "complete"})


def open_and_work(url: str, spec: StudySpec, budget: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    open_study(url, "s", spec, "data", budget)
    stub_worker(url, budget)


def opened(url: str, spec: StudySpec, trials: int = 0) -> optuna.Study:
    return open_study(url, "s", spec, "data", trials)


def test_the_budget_is_exact_over_processes_and_restarts(url: str, tiny: StudySpec) -> None:
    """6 processes on an empty database: 40 leaves 40, then 50 leaves 50, then nothing more happens."""
    for budget in (40, 50, 50):
        assert run_processes(open_and_work, [(url, tiny, budget)] * 6) == [0] * 6
        trials = opened(url, tiny).get_trials()
        assert [trial.number for trial in trials] == list(range(budget))
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert [trial.system_attrs[SLOT] for trial in trials] == list(range(budget))


def test_8_processes_start_on_an_empty_database(url: str, tiny: StudySpec) -> None:
    assert run_processes(open_and_work, [(url, tiny, 8)] * 8) == [0] * 8
    assert len(opened(url, tiny).trials) == 8


def test_no_queued_trial_runs_twice(url: str, tiny: StudySpec, tmp_path: Path) -> None:
    """60 queued trials, 8 processes. Stock Optuna runs 12 to 16 of them twice on SQLite."""
    study = opened(url, tiny)
    for i in range(60):
        study.enqueue_trial({"x": i / 60})
    log = tmp_path / "log"
    assert run_processes(stub_worker, [(url, 60, str(log))] * 8) == [0] * 8
    ran = Counter(int(line) for line in log.read_text().split())
    assert ran == Counter(range(60))
    assert all(trial.state == TrialState.COMPLETE for trial in opened(url, tiny).trials)


def test_the_hook_that_counts_is_called_by_optuna(url: str, tiny: StudySpec) -> None:
    """Our budget rests on a private method of Optuna's: without it, the third trial would be made."""
    opened(url, tiny)
    study, _ = join_study(url, "s", "me", 2)
    assert [study.ask().number, study.ask().number] == [0, 1]
    with pytest.raises(BudgetSpent):
        study.ask()
    assert len(study.trials) == 2


def test_queued_trials_count_and_need_no_slot(url: str, tiny: StudySpec) -> None:
    study, _ = opened(url, tiny), None
    study.enqueue_trial({"x": 0.5})
    mine, _ = join_study(url, "s", "me", 3)
    numbers = [mine.ask().number for _ in range(3)]
    assert numbers == [0, 1, 2]
    with pytest.raises(BudgetSpent):
        mine.ask()
    assert [trial.system_attrs.get(SLOT) for trial in mine.trials] == [None, 0, 1]


def two_workers(url: str, spec: StudySpec) -> tuple[optuna.Study, ClaimStorage, ClaimStorage]:
    opened(url, spec)
    study, first = join_study(url, "s", "elsewhere:1:aa", 5)
    _, second = join_study(url, "s", "elsewhere:2:bb", 5)
    return study, first, second


def age(claims: ClaimStorage, seconds: int) -> None:
    """Moves all heartbeats into the past."""
    from search.storage.internals import models

    with claims._transaction() as session:
        for beat in session.query(models.TrialHeartbeatModel):
            beat.heartbeat = beat.heartbeat.fromtimestamp(beat.heartbeat.timestamp() - seconds)


def test_a_claim_carries_worker_attempt_and_heartbeat_at_once(url: str, tiny: StudySpec) -> None:
    study, first, second = two_workers(url, tiny)
    trial = study.ask()
    assert study.trials[0].user_attrs == {"worker": "elsewhere:1:aa", "attempt": 1}
    assert second.reap(study._study_id, grace=30) == [], "a trial just claimed is no dead worker's"
    age(first, 60)
    first.beat(trial._trial_id)
    assert second.reap(study._study_id, grace=30) == []


def test_a_silent_workers_trial_is_queued_again_with_a_clean_slate(url: str, tiny: StudySpec) -> None:
    study, first, second = two_workers(url, tiny)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    study._storage.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
    age(first, 60)
    assert second.reap(study._study_id, grace=30) == [0]
    queued = study.trials[0]
    assert queued.state == TrialState.WAITING
    assert (queued.params, queued.intermediate_values) == ({"x": x}, {})
    assert "completed_rung_0" not in queued.system_attrs
    assert second.reap(study._study_id, grace=30) == []

    again, _ = join_study(url, "s", "elsewhere:3:cc", 5)
    successor = again.ask()
    assert (successor.number, successor.suggest_float("x", 0, 1)) == (0, x)
    assert successor.user_attrs["attempt"] == 2


def test_a_worker_taken_for_dead_writes_nothing_over_its_successor(url: str, tiny: StudySpec) -> None:
    study, first, second = two_workers(url, tiny)
    trial_id = study.ask()._trial_id
    age(first, 60)
    second.reap(study._study_id, grace=30)
    assert second.set_trial_state_values(trial_id, TrialState.RUNNING)
    for late in (
        lambda: first.beat(trial_id),
        lambda: first.annotate(trial_id, {"depth": 1}),
        lambda: first.release(trial_id),
        lambda: first.set_trial_intermediate_value(trial_id, 1, 0.1),
        lambda: first.finish(trial_id, TrialState.COMPLETE, 0.1, {"outcome": "complete"}),
    ):
        with pytest.raises(ClaimLost):
            late()
    second.finish(trial_id, TrialState.COMPLETE, 0.9, {"outcome": "complete"})
    assert study.trials[0].value == 0.9
    assert study.trials[0].user_attrs["worker"] == "elsewhere:2:bb"


def test_a_trial_that_loses_every_worker_fails_as_lost(url: str, tiny: StudySpec) -> None:
    study, first, second = two_workers(url, tiny)
    trial_id = study.ask()._trial_id
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert study.trials[0].user_attrs["attempt"] == attempt
        age(first, 60)
        assert second.reap(study._study_id, grace=30) == [0]
        if attempt < MAX_ATTEMPTS:
            assert first.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["outcome"] == "lost"
    assert second.unfinished(study._study_id) == 0


def test_giving_a_trial_back_spends_no_attempt(url: str, tiny: StudySpec) -> None:
    study, first, second = two_workers(url, tiny)
    trial_id = study.ask()._trial_id
    for _ in range(2 * MAX_ATTEMPTS):
        first.release(trial_id)
        assert first.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert study.trials[0].user_attrs["attempt"] == 1
    assert second.unfinished(study._study_id) == 1


def test_finishing_is_all_or_nothing(url: str, tiny: StudySpec) -> None:
    study, first, _ = two_workers(url, tiny)
    trial_id = study.ask()._trial_id
    with pytest.raises(TypeError):
        first.finish(trial_id, TrialState.COMPLETE, 0.5, {"outcome": "complete", "bad": object()})
    assert study.trials[0].state == TrialState.RUNNING
    assert "outcome" not in study.trials[0].user_attrs


KILLED = """
import sys, time
from search.leases import worker_name
from search.storage import join_study
study, claims = join_study(sys.argv[1], "s", worker_name(), 5)
study.ask()
print("asked", flush=True)
time.sleep(60)
"""


def test_a_killed_process_of_this_host_is_noticed_without_waiting(url: str, tiny: StudySpec) -> None:
    study = opened(url, tiny)
    process = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    claims = claims_of(study)
    assert claims.reap(study._study_id, grace=1000) == [], "it lives"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert claims.reap(study._study_id, grace=1000) == [0]
    assert study.trials[0].state == TrialState.WAITING


def test_a_trial_that_breaks_every_gpu_is_not_tried_for_ever(url: str, tiny: StudySpec) -> None:
    opened(url, tiny, 1)
    study, claims = join_study(url, "s", "here:1:aa", 1)
    study.sampler = optuna.samplers.RandomSampler()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        trial = study.ask()
        claims.release(trial._trial_id, spent="the GPU fell off the bus")
        [frozen] = study.get_trials()
        assert frozen.user_attrs["attempt"] == attempt
    assert frozen.state == TrialState.FAIL
    assert (frozen.user_attrs["outcome"], frozen.user_attrs["error"]) == ("lost", "the GPU fell off the bus")


def test_what_a_worker_has_written_is_what_it_reads(url: str, tiny: StudySpec) -> None:
    """Parameters wait for the next write, and a pruner reads from memory: nobody must see a difference."""
    opened(url, tiny, 3)
    study, claims = join_study(url, "s", worker_name(), 3)
    study.sampler = optuna.samplers.RandomSampler()
    for _ in range(3):
        trial = study.ask()
        x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a", "b"])
        trial.report(0.5, 1)
        claims.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
        trial.report(0.6, 2)
        mine, stored = claims.get_trial(trial._trial_id), opened(url, tiny).get_trials()[trial.number]
        for read in (mine, stored):
            assert read.params == {"x": x, "kind": kind}
            assert read.intermediate_values == {1: 0.5, 2: 0.6}
            assert read.system_attrs["completed_rung_0"] == 0.5
        claims.annotate(trial._trial_id, {"arm": "plain"})
        assert claims.get_trial(trial._trial_id).user_attrs["arm"] == "plain"
        claims.finish(trial._trial_id, TrialState.COMPLETE, x, {})
        assert claims.get_trial(trial._trial_id).state == TrialState.COMPLETE


def test_nothing_of_a_lost_attempt_is_remembered(url: str, tiny: StudySpec) -> None:
    """Its trial may come back to the worker that lost it."""
    opened(url, tiny, 1)
    study, claims = join_study(url, "s", worker_name(), 1)
    study.sampler = optuna.samplers.RandomSampler()
    trial = study.ask()
    trial.report(0.5, 1)
    claims.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
    assert claims.get_trial(trial._trial_id).intermediate_values == {1: 0.5}
    LeaseStorage.release(claims, trial._trial_id)  # as another worker does that takes this one for dead
    again = study.ask()
    assert again._trial_id == trial._trial_id
    read = claims.get_trial(trial._trial_id)
    assert read.intermediate_values == {}
    assert "completed_rung_0" not in read.system_attrs


def test_an_empty_queue_is_not_read_trial_by_trial(url: str, tiny: StudySpec) -> None:
    """A hook of Optuna's, private: this fails when another release asks in another way."""
    study = opened(url, tiny, 3)
    study.enqueue_trial({"x": 0.25})
    worker, claims = join_study(url, "s", "here", 3)
    worker.sampler = optuna.samplers.RandomSampler()
    assert claims.is_waiting(study._study_id)
    assert worker.ask().suggest_float("x", 0, 1) == 0.25
    assert not claims.is_waiting(study._study_id)
    reads: list[object] = []
    claims._get_trials = lambda *args: reads.append(args) or []  # type: ignore[method-assign, func-returns-value]
    assert worker.ask().number == 1
    assert not reads


def test_what_is_agreed_first_holds(url: str, tiny: StudySpec) -> None:
    study = opened(url, tiny, 1)
    _, claims = join_study(url, "s", "here", 1)
    assert claims.agree(study._study_id, "sizes", "a", 5) == 5
    assert claims.agree(study._study_id, "sizes", "a", 1) == 5
    assert claims.agree(study._study_id, "sizes", "b", 2) == 2
    assert claims.agree(study._study_id, "sizes", "a", 1, anew=True) == 1
    assert study.user_attrs["sizes"] == {"a": 1, "b": 2}


def test_a_worker_gives_back_all_it_has(url: str, tiny: StudySpec) -> None:
    study = opened(url, tiny, 3)
    worker, claims = join_study(url, "s", worker_name(), 3)
    trials = [worker.ask() for _ in range(3)]
    claims.finish(trials[0]._trial_id, TrialState.COMPLETE, 0.5, {})
    claims.give_back()
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.WAITING, TrialState.WAITING]
    assert [t.user_attrs["attempt"] for t in study.get_trials()] == [1, 0, 0], "no attempt is spent"
    assert not claims.running


def test_a_claim_whose_answer_was_lost_is_known_and_an_end_is_not(url: str, tiny: StudySpec) -> None:
    """What is `running` gets signs of life, and no more than that."""
    study = opened(url, tiny, 1)
    study.enqueue_trial({"x": 0.5})
    _, claims = join_study(url, "s", worker_name(), 1)
    [trial] = study.get_trials()
    for _ in range(2):
        claims.running.clear()  # as if the first answer had never come
        assert claims.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        assert claims.running == {trial._trial_id}
    claims.finish(trial._trial_id, TrialState.COMPLETE, 0.5, {})
    claims.running.add(trial._trial_id)
    claims.finish(trial._trial_id, TrialState.COMPLETE, 0.5, {})
    assert not claims.running
    claims.running.add(trial._trial_id)
    with pytest.raises(ClaimLost):
        claims.release(trial._trial_id)
    assert not claims.running
