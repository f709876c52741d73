"""One worker: takes trials of a study, one after another, until the study holds all it may.

`python -m search.worker` is started by search.workers: it reads its job from standard input, and stops when
that is closed, so no worker outlives the command that started it.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass

import optuna
import torch
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from search.arms import LeadNotDrawn, make_pruner, make_sampler
from search.claims import BudgetSpent, ClaimLost, ClaimStorage, worker_name
from search.confirmation import Confirmation, splits_of
from search.data import to_device
from search.datasets import read
from search.errors import DatabaseError, DataError, DeviceError, SearchError, SpecError, StudyFailed
from search.objective import Objective
from search.space import suggested_names
from search.spec import StudySpec
from search.storage import join_study

FAILURES_IN_A_ROW = 3
SHORT_WAIT, LONG_WAIT = 0.2, 1.0  # seconds: for another worker's draw, for the last trials of others


@dataclass(frozen=True)
class Job:
    spec: StudySpec
    url: str
    study: str
    trials: int
    """That the study may hold in all."""
    device: str
    data_fingerprint: str
    confirms: bool = False
    """The study is a confirmation, all of whose trials are queued."""


class Stop:
    """A flag that a signal handler may set: threading.Event takes a lock, which the handler's own thread
    may be holding."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> None:
        """Until set, `seconds` at most."""
        end = time.monotonic() + seconds
        while not self._set and time.monotonic() < end:
            time.sleep(0.05)


def heartbeat_settings() -> tuple[float, float]:
    """Seconds between signs of life, and of silence after which a worker is dead. Raises SpecError."""
    seconds = []
    for name, default in (("ARCHSEARCH_HEARTBEAT", "10"), ("ARCHSEARCH_GRACE", "60")):
        text = os.environ.get(name) or default
        try:
            seconds.append(float(text))
        except ValueError:
            raise SpecError(f"{name} must be a number of seconds, got {text!r}") from None
    interval, grace = seconds
    if not 0 < 2 * interval <= grace < math.inf:
        raise SpecError(
            f"ARCHSEARCH_HEARTBEAT must be above 0 and at most half of ARCHSEARCH_GRACE, "
            f"got {interval:g} and {grace:g}"
        )
    return interval, grace


class Heart(threading.Thread):
    """Beats for the running trial and takes over the trials of the dead. `lost` is set when this worker's
    own trial was given to another."""

    def __init__(self, claims: ClaimStorage, study_id: int) -> None:
        super().__init__(daemon=True)
        self.interval, self.grace = heartbeat_settings()
        self.claims, self.study_id = claims, study_id
        self.trial_id: int | None = None
        self.lost = threading.Event()
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.wait(self.interval):
            trial_id = self.trial_id
            try:
                if trial_id is not None:
                    self.claims.beat(trial_id)
                self.claims.reap(self.study_id, self.grace)
            except ClaimLost:
                if trial_id == self.trial_id:  # else it was finished in the meantime
                    self.lost.set()
            except KeyError:
                return  # the study was deleted; the worker meets that too
            except optuna.exceptions.StorageInternalError as error:
                print(f"heartbeat: {error.__cause__ or error}", file=sys.stderr)


def work(job: Job, stop: Stop) -> None:
    """Runs trials in this process until the budget is spent and all are finished, or `stop` is set.

    Raises StudyFailed when the objective fails again and again, and what loading data or joining raises.
    """
    if job.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("CUDA was asked for, but torch sees no GPU; use --device cpu")
    if job.device == "cpu":
        torch.set_num_threads(1)  # more threads change the order of sums, and are slower than processes
    study, claims = join_study(job.url, job.study, worker_name(), job.trials)
    objective = _prepare(job, study, claims)
    heart = Heart(claims, study._study_id)
    heart.start()
    try:
        claims.reap(study._study_id, heart.grace)
        _loop(study, claims, objective, heart, stop)
    except optuna.exceptions.StorageInternalError as error:
        raise DatabaseError(f"the database failed: {error.__cause__ or error}") from error
    except KeyError as error:
        if job.study in optuna.get_all_study_names(study._storage):
            raise
        raise DatabaseError(f"the study {job.study!r} was deleted while it ran") from error
    finally:
        heart.end.set()


def _prepare(job: Job, study: Study, claims: ClaimStorage) -> Objective:
    """Gives the study its sampler and pruner, and loads the images. Raises DataError."""
    device, whole = torch.device(job.device), read(job.spec.data)
    parts = whole.split(job.spec.data)
    if parts.fingerprint() != job.data_fingerprint:
        raise DataError(f"the images here ({parts.fingerprint()}) are not those of the study")
    data = to_device(parts.train, parts.val, parts.classes, device)
    if job.confirms:
        study.sampler, study.pruner = RandomSampler(seed=0), NopPruner()  # there is nothing to draw or prune
        splits = splits_of(whole, job.spec.data, device)
        return Confirmation(job.spec, data, parts.image_shape, claims, splits)
    study.sampler = make_sampler(job.spec, suggested_names(job.spec.space))
    study.pruner = make_pruner(job.spec)
    return Objective(job.spec, data, parts.image_shape, claims)


def _loop(study: Study, claims: ClaimStorage, objective: Objective, heart: Heart, stop: Stop) -> None:
    before = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}
    while not stop.is_set():
        try:
            trial = study.ask()
        except BudgetSpent:
            if not claims.unfinished(study._study_id):
                return
            stop.wait(LONG_WAIT)  # others still train; should one of them die, its trial is ours
            continue
        except LeadNotDrawn as follower:
            claims.release(follower.trial_id)
            stop.wait(SHORT_WAIT)
            continue
        heart.lost.clear()
        heart.trial_id = trial._trial_id
        try:
            outcome = objective.run(trial, lambda: stop.is_set() or heart.lost.is_set())
            heart.trial_id = None
            if outcome == "interrupted":
                claims.release(trial._trial_id)
        except ClaimLost:
            heart.trial_id = None
            continue
        if outcome == "error":
            check_failures(study, before)


def check_failures(study: Study, before: set[int]) -> None:
    """Raises StudyFailed after three errors in a row, or errors in more than half of at least ten trials.

    `before`: the trials that had finished when this run began; they do not count.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.number not in before]
    trials.sort(key=lambda t: (t.datetime_complete, t.number))
    failed = [t.user_attrs.get("outcome") == "error" for t in trials]
    in_a_row = len(failed) >= FAILURES_IN_A_ROW and all(failed[-FAILURES_IN_A_ROW:])
    if in_a_row or (len(failed) >= 10 and sum(failed) > len(failed) / 2):
        first = trials[failed.index(True)]
        raise StudyFailed(
            f"{sum(failed)} of {len(failed)} trials failed, so the search stops. The first error, "
            f"of trial {first.number}:\n{first.user_attrs['error'].rstrip()}"
        )


def main() -> int:
    job: Job = pickle.load(sys.stdin.buffer)
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def lifeline() -> None:
        os.read(0, 1)  # not sys.stdin: a thread that holds its lock aborts the interpreter's shutdown
        stop.set()

    threading.Thread(target=lifeline, daemon=True).start()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        work(job, stop)
    except StudyFailed as failed:
        return failed.exit_code  # the command tells of it, once for all workers
    except SearchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
