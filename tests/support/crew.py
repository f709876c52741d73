"""Worker processes for tests: forked from one that has imported everything, so that a hundred may be killed.

They run the real loop, heart and storage; what they train is given by a name in RUNS.
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

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "search.workers.trial_loop",
        "search.storage.connections",
        "search.trials.reporter",
        "search.workers.worker",
        "alembic.command",
        "sklearn.datasets",
    ]
)


def stub(trial: optuna.Trial, interrupted: Callable[[], bool], claims: Any, seconds: float) -> str:
    """Three epochs of nothing, reported and finished as a training is."""
    from search.trials.reporter import Reporter

    x = trial.suggest_float("x", 0, 1)
    reporter = Reporter(trial, 3)
    try:
        for epoch in (1, 2, 3):
            end = time.monotonic() + seconds / 3
            while time.monotonic() < end:
                if interrupted():
                    return "interrupted"
                time.sleep(min(0.05, seconds / 10))
            if reporter.report(epoch, x * epoch, epoch == 3):
                break
        if not reporter.flush(interrupted):
            return "interrupted"
    finally:
        reporter.close()
    claims.finish(trial._trial_id, TrialState.COMPLETE, x, {"outcome": "complete", "epochs": 3})
    return "complete"


def work(url: str, budget: int, seconds: float, before: Callable[[Any], None] | None = None) -> None:
    """One worker of the study "s" until it is done. `before` may change the storage."""
    from search.storage.connections import join_study
    from search.storage.leases import worker_name
    from search.workers.heartbeat import Heart
    from search.workers.stop import Stop
    from search.workers.trial_loop import run_trials
    from search.workers.watchdog import Watchdog

    os.environ.setdefault("ARCHSEARCH_HEARTBEAT", "0.5")
    os.environ.setdefault("ARCHSEARCH_GRACE", "3")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    study, claims = join_study(url, "s", worker_name(), budget, stop.is_set)
    study.sampler, study.pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
    if before:
        before(claims)
    heart = Heart(claims, study._study_id)
    heart.start()
    claims.reap(study._study_id, math.inf)
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
        attempt = trial.user_attrs["attempt"]
        if trial.state == TrialState.COMPLETE:
            assert trial.value is not None
            expected = {epoch: trial.params["x"] * epoch for epoch in (1, 2, 3)}
            assert trial.intermediate_values == expected, trial.number
        else:
            assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, "lost")
            assert attempt == 3
        lost = trial.user_attrs.get("lost_workers", [])
        assert len(lost) == attempt - (trial.state == TrialState.COMPLETE), "each loss has its attempt"
