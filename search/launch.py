"""From an open study to a finished one: workers, the screen, the figures of the dashboard."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from rich.console import Console
from rich.text import Text

from search import workers
from search.crew import Crew
from search.database import shown_url
from search.errors import SearchError, StudyFailed
from search.loop import END_SECONDS, Stop, check_failures, end_in_time
from search.mps import sharing
from search.progress import Progress
from search.publish import Publisher
from search.storage import claims_of
from search.worker import Job


@dataclass(frozen=True)
class Run:
    """How a launch ended."""

    code: int
    """For the shell: 0, 130 after Ctrl-C, or the first worker's that failed."""
    stopped: bool
    """On request."""
    seconds: float | None
    """None where nothing was left to do."""


def launch(job: Job, study: Study, slots: Sequence[workers.Slot], console: Console, quiet: bool) -> Run:
    """Trains until the study holds job.trials and all are finished, or a signal comes. Raises StudyFailed
    when trials fail again and again, SearchError when all workers were killed."""
    claims = claims_of(study)
    before = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    left = max(job.trials - len(before), claims.unfinished(study._study_id))
    if not left:
        return Run(0, stopped=False, seconds=None)
    stop, started = Stop(), time.monotonic()
    claims.patience.in_a_hurry = stop.is_set
    end_in_time(
        lambda: stop.signal is not None,
        END_SECONDS + 5,
        lambda: os._exit(130 if stop.signal == signal.SIGINT else 0),
    )

    def reap() -> list[int]:
        """Of a worker that was killed; without the database, another one notices later."""
        try:
            return claims.reap(study._study_id, math.inf)
        except StorageInternalError:
            return []

    def is_done() -> bool:
        ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
        return ended >= job.trials and not claims.unfinished(study._study_id)

    progress = Progress(study, job.trials, console, quiet)
    slots = slots[:left]
    with progress, Publisher(study, progress.say, stop.is_set):
        if len(slots) == 1 and not slots[0].gpus:
            code = workers.work_here(job, stop, progress.update)
        else:
            with sharing(slots, progress.say) as shared:
                crew = Crew(job, list(slots), shared, progress.say)
                code = crew.run(stop, progress.update, reap, is_done)
    if code == StudyFailed.exit_code:
        check_failures(study, before)
    if not code and stop.signal is None and not is_done():
        raise SearchError("all workers were killed; the study keeps what was done, run it again to go on")
    code = 130 if stop.signal == signal.SIGINT else code
    return Run(code, stop.signal is not None, time.monotonic() - started)


def terminal() -> Console:
    """Wide where nobody watches: a log's lines do not wrap."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)


def command_line(command: str, words: Sequence[str], storage: str | None) -> str:
    """As typed, but for the database's password."""
    address = ["--storage", shown_url(storage)] if storage else []
    return shlex.join(["python", "-m", f"search.{command}", *words, *address])
