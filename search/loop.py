"""What a worker does all day: asks for a trial, runs it, asks for the next. Knows no torch."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import Study

from search.arms import LeadNotDrawn
from search.claims import BudgetSpent, ClaimStorage
from search.errors import SearchError, StudyFailed
from search.heart import Heart, Watchdog
from search.leases import ClaimLost

FAILURES_IN_A_ROW = 3
END_SECONDS = 30.0
"""After which a worker that was told to stop ends, whatever it waits for. Batch and checkpoint take less."""
SHORT_WAIT, LONG_WAIT = 0.2, 1.0  # seconds: for another worker's draw, for the last trials of others
Run = Callable[[optuna.Trial, Callable[[], bool]], str]
"""Runs a trial and finishes it in the database, unless the function interrupts it; gives its outcome. It may
take others along."""


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


def end_in_time(stopped: Callable[[], bool], seconds: float, end: Callable[[], None]) -> None:
    """Calls `end` when this process is still there `seconds` after it was told to stop: a database that takes
    connections and never answers, as a frozen one does, holds whoever waits for it. Its trials are queued
    again when their worker's silence is noticed."""

    def watch() -> None:
        while not stopped():
            time.sleep(0.2)
        time.sleep(seconds)
        print(
            f"not done {seconds:.0f} s after the word to stop: this process ends", file=sys.stderr, flush=True
        )
        end()

    threading.Thread(target=watch, name="end", daemon=True).start()


def run_trials(
    study: Study,
    claims: ClaimStorage,
    run: Run,
    heart: Heart,
    watchdog: Watchdog,
    stop: Stop,
) -> None:
    """Until the budget is spent and all trials are finished, or `stop` is set. Raises StudyFailed when trials
    fail again and again.
    """
    before = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}

    def interrupted() -> bool:
        watchdog.step()
        return stop.is_set() or heart.lost.is_set()

    while not stop.is_set():
        try:
            trial = study.ask()
        except BudgetSpent:
            if not claims.unfinished(study._study_id):
                return
            stop.wait(LONG_WAIT)  # others still train; should one of them die, its trial is ours
            continue
        except LeadNotDrawn as follower:
            with suppress(ClaimLost):
                claims.release(follower.trial_id)
            stop.wait(SHORT_WAIT)
            continue
        except ClaimLost:
            claims.give_back()
            continue
        heart.lost.clear()
        try:
            outcome = run(trial, interrupted)
        except ClaimLost:
            outcome = "interrupted"
        except SearchError:
            with suppress(StorageInternalError):
                claims.give_back()  # those that are left are not to blame
            raise
        finally:
            watchdog.rest()
        claims.give_back()  # it was interrupted, or others that it had taken along were
        if outcome == "error":
            check_failures(study, before)


def check_failures(study: Study, before: set[int]) -> None:
    """Raises StudyFailed after three errors in a row, or errors in more than half of at least ten trials.

    `before`: the trials that had finished when this run began. They count only in a row that goes on: a
    worker that is started again and again by others does not fail the whole budget.
    """
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    ended.sort(key=lambda t: (t.datetime_complete, t.number))
    last = ended[-FAILURES_IN_A_ROW:]
    in_a_row = len(last) == FAILURES_IN_A_ROW and all(_is_error(t) for t in last)
    trials = [t for t in ended if t.number not in before]
    failed = [_is_error(t) for t in trials]
    if not any(failed):
        return
    if in_a_row or (len(failed) >= 10 and sum(failed) > len(failed) / 2):
        first = trials[failed.index(True)]
        raise StudyFailed(
            f"{sum(failed)} of {len(failed)} trials failed, so the search stops. The first error, "
            f"of trial {first.number}:\n{first.user_attrs['error'].rstrip()}"
        )


def _is_error(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.user_attrs.get("outcome") == "error"
