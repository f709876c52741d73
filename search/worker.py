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
from dataclasses import dataclass

import optuna
import torch
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from search.arms import make_pruner, make_sampler
from search.checkpoints import StudyCheckpoints
from search.claims import ClaimStorage
from search.data import to_device
from search.database import reason
from search.datasets import read
from search.errors import DatabaseError, DataError, DeviceError, SearchError, StudyFailed
from search.heart import Heart, Watchdog
from search.leases import worker_name
from search.loop import END_SECONDS, Stop, end_in_time, run_trials
from search.objective import Objective, is_out_of_memory, raise_device_failure
from search.room import take_share
from search.space import suggested_names
from search.spec import StudySpec
from search.storage import join_study


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
    together: int = 1
    """Runs of a confirmation that may be trained as one network."""
    per_gpu: int = 1
    """Workers that share its GPU's memory."""


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
    objective = _prepare(job, study, claims)
    heart, watchdog = Heart(claims, study._study_id), Watchdog()
    heart.start()
    watchdog.start()
    try:
        claims.reap(study._study_id, math.inf)
        objective.checkpoints.sweep(
            t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()
        )
        run_trials(study, claims, objective.run, heart, watchdog, stop)
    except optuna.exceptions.StorageInternalError as error:
        if not stop.is_set():
            raise DatabaseError(f"the database failed: {reason(error)}") from error
        print(
            "the database is away: the trial is queued again when this worker's silence is noticed",
            file=sys.stderr,
        )
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
    try:
        data = to_device(parts.train, parts.val, parts.classes, device)
    except Exception as error:
        raise_device_failure(error)
        if is_out_of_memory(error):
            raise DeviceError(f"{device.type} has no memory left for the images") from error
        raise
    attrs = study.user_attrs
    checkpoints = StudyCheckpoints.of(job.study, attrs.get("key", attrs["spec_fingerprint"]))
    if job.confirms:
        from search.companions import Companions
        from search.confirmation import Confirmation, Splits  # brings SciPy, which a search does without

        study.sampler, study.pruner = RandomSampler(seed=0), NopPruner()  # there is nothing to draw or prune
        return Confirmation(
            job.spec,
            data,
            parts.image_shape,
            claims,
            checkpoints,
            Splits(whole, job.spec.data, device),
            Companions(claims, job.together),
        )
    study.sampler = make_sampler(job.spec, suggested_names(job.spec.space))
    study.pruner = make_pruner(job.spec)
    return Objective(job.spec, data, parts.image_shape, claims, checkpoints)


def main() -> int:
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
    except StudyFailed as failed:
        return failed.exit_code  # the command tells of it, once for all workers
    except SearchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
