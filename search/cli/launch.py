"""The way from an open study to a finished one: workers, the screen, the figures of the dashboard."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from rich.console import Console

from search.cli.progress import Progress
from search.devices import mps
from search.devices.slots import Slot
from search.errors import SearchError, StudyFailed
from search.storage.connections import claims_of
from search.storage.internals import study_id_of
from search.storage.trial_record import finished, records_of
from search.views.words import plural
from search.web.publish import Publisher
from search.workers.job import Job
from search.workers.pool import WorkerPool
from search.workers.stop import END_SECONDS, Stop, end_in_time
from search.workers.trial_loop import check_failures
from search.workers.worker import work_here


@dataclass(frozen=True)
class Launch:
    """How a launch ended."""

    code: int
    """The exit code: 0, 130 after Ctrl-C, or that of the first worker that failed."""
    stopped: bool
    """Whether it was told to."""
    seconds: float | None
    """Seconds that it took; None where nothing was left to do."""
    words: str = ""
    """What the first worker that failed said last."""


def launch(job: Job, study: Study, slots: Sequence[Slot], console: Console, quiet: bool) -> Launch:
    """Trains until the study holds job.trials and all are finished, or a signal comes. Raises StudyFailed
    when trials fail again and again, SearchError when all workers were killed."""
    claims, study_id = claims_of(study), study_id_of(study)
    before = {trial.number for trial in records_of(study) if trial.is_finished}
    left = max(job.trials - len(before), claims.unfinished(study_id))
    if not left:
        return Launch(0, stopped=False, seconds=None)
    stop, started = Stop(), time.monotonic()
    claims.patience.in_a_hurry = stop.is_set
    end_in_time(
        lambda: stop.signal is not None,
        END_SECONDS + 5,
        lambda: os._exit(130 if stop.signal == signal.SIGINT else 0),
    )

    def reap() -> list[int]:
        """Takes the trials of a worker that was killed; without the database, another one notices later."""
        try:
            return claims.direct.reap(study_id, math.inf)
        except StorageInternalError:
            return []

    def is_done() -> bool:
        return finished(records_of(study)) >= job.trials and not claims.unfinished(study_id)

    epochs = None if job.confirms else job.spec.train.epochs  # of a confirmation, every run has its steps
    progress = Progress(study, job.trials, console, quiet, epochs)
    slots, words = slots[:left], ""
    with progress, Publisher(study, progress.say, stop.is_set):
        if not quiet:
            progress.say(f"starting {plural(len(slots), 'worker')} ({slots[0].device})")
        if advice := mps.advice(slots):
            progress.say(advice)
        if len(slots) == 1 and not slots[0].gpus:
            code = work_here(job, stop, progress.update)
        else:
            pool = WorkerPool(job, list(slots), progress.say)
            code, words = pool.run(stop, progress.update, reap, is_done), pool.last_words
    if code == StudyFailed.exit_code:
        check_failures(study, before)
        raise StudyFailed(words or "a worker ended with 1 and said nothing; what is done is kept")
    if not code and stop.signal is None and not is_done():
        raise SearchError("all workers were killed; the study keeps what was done, run it again to go on")
    code = 130 if stop.signal == signal.SIGINT else code
    return Launch(code, stop.signal is not None, time.monotonic() - started, words)
