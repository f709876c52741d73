"""One worker: takes trials of a study, one after another, until the study holds all it may.

`python -m search.workers.worker` is started by search.workers.pool: it reads its job from standard input, and
stops when that is closed, so no worker outlives the command that started it.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable

import optuna
import torch
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from search.data.batches import to_device
from search.data.datasets import read
from search.design.places import Places
from search.design.pruners import make_pruner
from search.design.samplers import make_sampler
from search.design.space import suggested_names
from search.devices.memory import take_share
from search.errors import DatabaseError, DataError, DeviceError, SearchError, TrialsFailed
from search.storage.connections import join_study
from search.storage.engines import reason
from search.storage.internals import study_id_of
from search.storage.leases import worker_name
from search.storage.patience import PatientStorage
from search.storage.studies import is_there
from search.storage.study_record import record_of_study
from search.storage.trial_record import records_of
from search.training.checkpoints import StudyCheckpoints
from search.trials.confirming import ConfirmationTrials, Splits
from search.trials.failures import is_out_of_memory, raise_device_failure
from search.trials.runner import TrialRunner, Trials
from search.trials.searching import SearchTrials
from search.workers.heartbeat import Heart
from search.workers.job import POLL_SECONDS, Job
from search.workers.stop import END_SECONDS, Stop, end_in_time, exit_now, stop_on_signals
from search.workers.trial_loop import run_trials
from search.workers.watchdog import Watchdog


def work(job: Job, stop: Stop) -> None:
    """Runs trials in this process until the budget is spent and all are finished, or `stop` is set.

    Raises StudyFailed when the objective fails again and again, and what loading data or joining raises.
    """
    if job.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("CUDA was asked for, but torch sees no GPU; use --device cpu")
    if job.device == "cpu":
        torch.set_num_threads(1)  # more threads change the order of sums, and are slower than processes
    take_share(torch.device(job.device), job.per_gpu)
    study, claims = join_study(job.url, job.study, worker_name(), job.trials, stop.is_set)
    stored = record_of_study(study)
    checkpoints = StudyCheckpoints.of(job.study, stored.checkpoint_key)
    runner = TrialRunner(_prepare(job, study, claims), claims, checkpoints)
    heart, watchdog = Heart(claims, study_id_of(study)), Watchdog()
    heart.start()
    watchdog.start()
    try:
        claims.reap(study_id_of(study), math.inf)
        checkpoints.sweep(trial.number for trial in records_of(study) if trial.is_finished)
        run_trials(study, claims, runner.run, heart, watchdog, stop)
    except optuna.exceptions.StorageInternalError as error:
        if not stop.is_set():
            raise DatabaseError(f"the database failed: {reason(error)}") from error
        print(
            "the database is away: the trial is queued again when this worker's silence is noticed",
            file=sys.stderr,
        )
    except KeyError as error:
        if is_there(study):
            raise
        raise DatabaseError(f"the study {job.study!r} was deleted while it ran") from error
    finally:
        heart.end.set()


def _prepare(job: Job, study: Study, claims: PatientStorage) -> Trials:
    """Gives the study its sampler and pruner, and loads the images. Raises DataError."""
    device, whole = torch.device(job.device), read(job.spec.data)
    parts = whole.split(job.spec.data)
    if parts.fingerprint() != job.data_fingerprint:
        raise DataError(f"the images here ({parts.fingerprint()}) are not those of the study")
    if job.confirms:
        study.sampler, study.pruner = RandomSampler(seed=0), NopPruner()  # there is nothing to draw or prune
        splits = Splits(whole, job.spec.data, device)
        return ConfirmationTrials(job.spec, parts.image_shape, splits, claims)
    try:
        data = to_device(parts.train, parts.val, parts.classes, device)
    except Exception as error:
        raise_device_failure(error)
        if is_out_of_memory(error):
            raise DeviceError(f"{device.type} has no memory left for the images") from error
        raise
    if job.spec.search.design == "stratified":
        claims.direct.next_place = Places(job.spec)
    study.sampler = make_sampler(job.spec, suggested_names(job.spec.space))
    study.pruner = make_pruner(job.spec)
    return SearchTrials(job.spec, data, parts.image_shape)


def work_here(job: Job, stop: Stop, poll: Callable[[], None]) -> int:
    """Runs one worker in this process, with `poll` called from a thread meanwhile; returns 0."""
    end = threading.Event()

    def watch() -> None:
        while not end.wait(POLL_SECONDS):
            poll()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with stop_on_signals(stop, at_once=exit_now):
            work(job, stop)
    finally:
        end.set()
        watcher.join()
    poll()
    return 0


def main() -> int:
    """Runs the job on standard input; returns the exit code."""
    job: Job = pickle.load(sys.stdin.buffer)
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def lifeline() -> None:
        os.read(0, 1)  # not sys.stdin: a thread that holds its lock aborts the interpreter's shutdown
        stop.set()

    threading.Thread(target=lifeline, daemon=True).start()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    end_in_time(stop.is_set, END_SECONDS, lambda: os._exit(0))
    try:
        work(job, stop)
    except TrialsFailed as failed:
        return failed.exit_code  # the command tells of it, once for all workers
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
