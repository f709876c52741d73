"""A worker's day: it asks for a trial, runs it, asks for the next. Torch is not needed here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import Study

from search.design.groups import LeadNotDrawn
from search.errors import SearchError, TrialsFailed
from search.storage.internals import study_id_of
from search.storage.leases import ClaimLost
from search.storage.patience import PatientStorage
from search.storage.rows import BudgetSpent, Undecided
from search.storage.trial_record import TrialRecord, records_of
from search.workers.heartbeat import Heart
from search.workers.stop import Stop
from search.workers.watchdog import Watchdog

FAILURES_IN_A_ROW = 3
SHORT_WAIT, LONG_WAIT = 0.2, 1.0
"""Seconds to wait for another worker's draw or decision, and for the last trials of others."""
RunTrial = Callable[[optuna.Trial, Callable[[], bool]], str]
"""Runs a trial and finishes it in the database, unless the function interrupts it; gives its outcome. It may
take others along."""


def run_trials(
    study: Study,
    claims: PatientStorage,
    run: RunTrial,
    heart: Heart,
    watchdog: Watchdog,
    stop: Stop,
) -> None:
    """Runs trials until the budget is spent and all are finished, or `stop` is set. Raises TrialsFailed when
    trials fail again and again."""
    before = {trial.number for trial in records_of(study) if trial.is_finished}

    def interrupted() -> bool:
        watchdog.step()
        return stop.is_set() or heart.lost.is_set()

    while not stop.is_set():
        try:
            trial = study.ask()
        except BudgetSpent:
            if not claims.unfinished(study_id_of(study)):
                return
            stop.wait(LONG_WAIT)  # others still train; should one of them die, its trial is ours
            continue
        except LeadNotDrawn as follower:
            with suppress(ClaimLost):
                claims.release(follower.trial_id)
            stop.wait(SHORT_WAIT)
            continue
        except Undecided:
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
    """Raises TrialsFailed after three errors in a row, or errors in more than half of at least ten trials.

    `before`: the trials that had finished when this run began. They count only in a row that goes on: a
    worker that is started again and again by others does not fail the whole budget.
    """
    ended = [trial for trial in records_of(study) if trial.is_finished]
    ended.sort(key=lambda trial: (trial.ended_at, trial.number))
    last = ended[-FAILURES_IN_A_ROW:]
    in_a_row = len(last) == FAILURES_IN_A_ROW and all(_is_error(trial) for trial in last)
    trials = [trial for trial in ended if trial.number not in before]
    failed = [trial for trial in trials if _is_error(trial)]
    if failed and (in_a_row or (len(trials) >= 10 and len(failed) > len(trials) / 2)):
        first = failed[0]
        raise TrialsFailed(
            f"{len(failed)} of {len(trials)} trials failed, so the search stops. The first error, "
            f"of trial {first.number}:\n{(first.error or '').rstrip()}"
        )


def _is_error(trial: TrialRecord) -> bool:
    return trial.outcome == "error"
