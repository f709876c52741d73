"""Worker processes for tests: forked from one that has imported everything, so that a hundred may be killed.

They run the real loop, heart and storage, and train nothing.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.design.places import Places
from search.design.pruners import make_pruner
from search.spec.study import StudySpec
from search.storage.connections import join_study
from search.storage.internals import study_id_of, trial_id_of
from search.storage.leases import worker_name
from search.storage.patience import PatientStorage
from search.storage.trial_record import TrialRecord
from search.trials.reporter import Reporter
from search.workers.heartbeat import Heart
from search.workers.stop import Stop
from search.workers.trial_loop import run_trials
from search.workers.watchdog import Watchdog

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.support.crew", "search.workers.worker", "alembic.command", "sklearn.datasets"]
)


def stub(trial: optuna.Trial, interrupted: Callable[[], bool], claims: PatientStorage, seconds: float) -> str:
    """Three epochs of nothing, reported and finished as a training is."""
    x = trial.suggest_float("x", 0, 1)
    reporter, state = Reporter(trial, 3), TrialState.COMPLETE
    try:
        for epoch in (1, 2, 3):
            end = time.monotonic() + seconds / 3
            while time.monotonic() < end:
                if interrupted():
                    return "interrupted"
                time.sleep(min(0.05, seconds / 10))
            if reporter.report(epoch, x * epoch, epoch == 3):
                state = TrialState.PRUNED
                break
        if not reporter.flush(interrupted):
            return "interrupted"
    finally:
        reporter.close()
    ended = TrialRecord.attributes(outcome=state.name.lower(), epochs=epoch)
    claims.finish(trial_id_of(trial), state, x, ended)
    return state.name.lower()


def work(
    url: str,
    budget: int,
    seconds: float,
    before: Callable[[PatientStorage], None] | None = None,
    stratified: StudySpec | None = None,
) -> None:
    """One worker of the study "s" until it is done. `before` may change the storage; `stratified`: a spec
    whose design gives the trials their places, and whose leads decide."""
    os.environ.setdefault("ARCHSEARCH_HEARTBEAT", "0.5")
    os.environ.setdefault("ARCHSEARCH_GRACE", "3")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    study, claims = join_study(url, "s", worker_name(), budget, stop.is_set)
    study.sampler, study.pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
    if stratified:
        claims.direct.next_place, study.pruner = Places(stratified), make_pruner(stratified)
    if before:
        before(claims)
    heart = Heart(claims, study_id_of(study))
    heart.start()
    claims.reap(study_id_of(study), math.inf)
    run_trials(study, claims, lambda t, i: stub(t, i, claims, seconds), heart, Watchdog(), stop)
    heart.end.set()


class Crew:
    """`size` workers, replaced when they are killed."""

    def __init__(self, size: int, *job: Any) -> None:
        self.job = job
        self.workers = [self._start() for _ in range(size)]

    def _start(self) -> Any:
        process = CONTEXT.Process(target=work, args=self.job)
        process.start()
        return process

    def kill(self, index: int) -> None:
        self.workers[index].kill()
        self.workers[index].join()
        self.workers[index] = self._start()

    def finish(self) -> list[int]:
        for worker in self.workers:
            worker.join()
        return [worker.exitcode for worker in self.workers]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.join()


def accounted_for(trials: list[FrozenTrial], budget: int) -> None:
    """Every trial has ended, once, with all that it reported; numbers have no gaps."""
    assert [trial.number for trial in trials] == list(range(budget))
    for trial in trials:
        record = TrialRecord(trial)
        if record.ran_to_the_end:
            expected = {epoch: trial.params["x"] * epoch for epoch in (1, 2, 3)}
            assert (trial.value, record.reported) == (trial.params["x"], expected), trial.number
        else:
            assert (trial.state, record.outcome, record.attempt) == (TrialState.FAIL, "lost", 3)
        lost = record.attempt - record.ran_to_the_end
        assert len(record.lost_workers) == lost, "each loss has its attempt"
