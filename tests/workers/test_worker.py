"""One worker: from its job to its last trial, and how it ends where something goes wrong."""

from __future__ import annotations

import io
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import TrialState

from search.data.datasets import load
from search.design.places import Places
from search.errors import DatabaseError, DataError, DeviceError, StudyFailed, TrialsFailed
from search.spec.study import StudySpec
from search.storage.internals import storage_of, study_id_of, trial_id_of
from search.storage.leases import worker_name
from search.storage.trial_record import TrialRecord
from search.training.checkpoints import StudyCheckpoints
from search.trials.confirming import ConfirmationTrials
from search.trials.searching import SearchTrials
from search.workers import worker as module
from search.workers.job import Job
from search.workers.stop import Stop
from search.workers.worker import main, work, work_here
from tests.support.claims import joined
from tests.support.paths import REPOSITORY


@pytest.fixture
def job(study_file: str, tiny: StudySpec) -> Job:
    return Job(tiny, study_file, "s", 2, "cpu", load(tiny.data).fingerprint())


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "heart":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the loop is given, in place of running trials."""
    given: list[Any] = []
    monkeypatch.setattr(module, "run_trials", lambda *all_of_it: given.extend(all_of_it))
    return given


def joined_here(job: Job, worker: str) -> Study:
    return joined(job.url, worker, job.trials, job.study)[0]


@pytest.mark.slow
def test_a_worker_runs_trials_until_the_study_has_them_all(job: Job) -> None:
    work(job, Stop())
    trials = joined_here(job, "looker").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert {TrialRecord(trial).epochs for trial in trials} == {3}
    assert {str(TrialRecord(trial).worker).split(":")[1] for trial in trials} == {str(os.getpid())}


def test_a_worker_begins_by_taking_over_from_processes_that_are_gone(job: Job, begun: list[Any]) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    host = worker_name().partition(":")[0]
    joined_here(job, f"{host}:{ended.pid}:aa").ask()
    other = joined_here(job, "elsewhere:1:aa").ask()
    work(job, Stop())
    states = [trial.state.name for trial in joined_here(job, "looker").trials]
    assert states == ["WAITING", "RUNNING"], "silence means nothing yet"
    assert other.number == 1


def test_a_worker_sweeps_the_checkpoints_of_trials_that_have_finished(job: Job, begun: list[Any]) -> None:
    study, claims = joined(job.url)
    claims.finish(trial_id_of(study.ask()), TrialState.COMPLETE, 0.5, {})
    study.ask()
    storage_of(study).set_study_user_attr(study_id_of(study), "key", "abcd")
    kept = [StudyCheckpoints.of("s", "abcd").trial(number, "worker", {}).own for number in (0, 1)]
    for folder in kept:
        folder.mkdir(parents=True)
    work(job, Stop())
    assert [folder.exists() for folder in kept] == [False, True]


def test_what_a_worker_of_a_search_is_made_of(job: Job, begun: list[Any]) -> None:
    stop = Stop()
    work(replace(job, trials=7), stop)
    study, claims, run, heart, watchdog, heeded = begun
    assert (study.study_name, claims.budget, heeded) == ("s", 7, stop)
    assert (heart.claims, heart.study_id) == (claims, study_id_of(study))
    assert heart.end.is_set()
    assert watchdog.is_alive()
    assert isinstance(run.__self__.trials, SearchTrials)
    assert run.__self__.claims is claims
    assert type(study.sampler).__name__ == "MatchedSampler"
    assert torch.get_num_threads() == 1
    assert not claims.patience.in_a_hurry()
    stop.set()
    assert claims.patience.in_a_hurry()


def test_a_worker_of_a_stratified_search_gives_places(job: Job, begun: list[Any]) -> None:
    search = replace(job.spec.search, design="stratified", pruner="lead")
    work(replace(job, spec=replace(job.spec, search=search)), Stop())
    study, claims = begun[:2]
    assert isinstance(claims.direct.next_place, Places)
    assert type(study.sampler).__name__ == "StratifiedSampler"
    assert type(study.pruner).__name__ == "LeadDecides"


def test_what_a_worker_of_a_confirmation_is_made_of(job: Job, begun: list[Any]) -> None:
    """There is nothing to draw or to prune."""
    work(replace(job, confirms=True), Stop())
    study, _, run, *_ = begun
    assert isinstance(run.__self__.trials, ConfirmationTrials)
    assert type(study.sampler) is optuna.samplers.RandomSampler
    assert type(study.pruner) is optuna.pruners.NopPruner


def test_a_worker_takes_its_share_of_its_device_before_anything_else(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Taken(Exception):
        pass

    def take(device: torch.device, per_gpu: int) -> None:
        raise Taken(device.type, per_gpu)

    monkeypatch.setattr(module, "take_share", take)
    with pytest.raises(Taken) as taken:
        work(replace(job, url="no database is asked", per_gpu=3), Stop())
    assert taken.value.args == ("cpu", 3)


# what goes wrong


def test_a_gpu_that_is_not_there_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="CUDA was asked for, but torch sees no GPU; use --device cpu"):
        work(replace(job, url="no database is asked", device="cuda"), Stop())


def test_other_images_than_the_studys_are_refused(job: Job, begun: list[Any]) -> None:
    with pytest.raises(
        DataError, match=rf"the images here \({job.data_fingerprint}\) are not those of the study"
    ):
        work(replace(job, data_fingerprint="another"), Stop())
    assert not begun
    assert joined_here(job, "looker").trials == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "cpu has no memory left for the images"),
        (
            RuntimeError("CUDA error: an illegal memory access"),
            "the GPU failed: CUDA error: an illegal memory",
        ),
    ],
)
def test_images_that_do_not_fit_are_the_devices_matter(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr(module, "to_device", fail(error))
    with pytest.raises(DeviceError, match=told):
        work(job, Stop())


def test_an_error_of_ones_own_is_shown_as_it_is(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "to_device", fail(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        work(job, Stop())


def fail(error: BaseException, first: Callable[[], None] = lambda: None) -> Callable[..., None]:
    def raises(*_: Any) -> None:
        first()
        raise error

    return raises


def test_a_study_that_is_deleted_while_it_runs_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    study = joined_here(job, "looker")

    def delete() -> None:
        optuna.delete_study(study_name="s", storage=storage_of(study))

    monkeypatch.setattr(module, "run_trials", fail(KeyError("x")))
    with pytest.raises(KeyError):
        work(job, Stop())  # the study is there: it is something else
    monkeypatch.setattr(module, "run_trials", fail(KeyError("x"), delete))
    with pytest.raises(DatabaseError, match="the study 's' was deleted while it ran"):
        work(job, Stop())


def test_a_database_that_fails_is_told_and_one_who_stops_does_not_mind(
    job: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = Exception("disk I/O error\nand more")
    stop = Stop()
    monkeypatch.setattr(module, "run_trials", fail(error))
    with pytest.raises(DatabaseError) as told:
        work(job, stop)
    assert str(told.value) == "the database failed: disk I/O error"
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(module, "run_trials", fail(error, stop.set))
    work(job, stop)
    assert capfd.readouterr().err == (
        "the database is away: the trial is queued again when this worker's silence is noticed\n"
    )


def test_signs_of_life_end_with_the_worker(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture waits for the end of the thread."""
    for error in (StudyFailed("x"), KeyboardInterrupt()):
        monkeypatch.setattr(module, "run_trials", fail(error))
        with pytest.raises(type(error)):
            work(job, Stop())


# in the command's own process


def test_the_screen_is_kept_up_to_date_meanwhile_and_at_the_end(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    polled, seen = threading.Event(), []

    def poll() -> None:
        seen.append(threading.current_thread())
        polled.set()

    def working(given: Job, stop: Stop) -> None:
        assert given is job
        assert not stop.is_set()
        assert polled.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()

    monkeypatch.setattr(module, "work", working)
    before = signal.getsignal(signal.SIGTERM)
    assert work_here(job, Stop(), poll) == 0
    assert seen[0] is not threading.main_thread()
    assert seen[-1] is threading.main_thread(), "once more, when all is done"
    assert not seen[0].is_alive()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_ends_the_screens_thread_as_well(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "work", fail(StudyFailed("x")))
    before = threading.active_count()
    with pytest.raises(StudyFailed):
        work_here(job, Stop(), lambda: None)
    assert threading.active_count() == before


# in a process of its own


class Started:
    """What a worker's process is given, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
        self.patch, self.ended_in_time = monkeypatch, list[Any]()
        self.closed = threading.Event()
        stdin = SimpleNamespace(buffer=io.BytesIO(pickle.dumps(job)))
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(os, "read", self.read)
        monkeypatch.setattr(module, "end_in_time", lambda *given: self.ended_in_time.extend(given))
        self.handlers: dict[int, Any] = {}
        monkeypatch.setattr(signal, "signal", self.handlers.__setitem__)

    def read(self, descriptor: int, count: int) -> bytes:
        assert descriptor == 0
        self.closed.wait(60)
        return b""

    def main(self, working: Callable[[Job, Stop], None]) -> int:
        self.patch.setattr(module, "work", working)
        return main()


@pytest.fixture
def started(job: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    started = Started(monkeypatch, job)
    yield started
    started.closed.set()


def test_a_process_runs_the_job_that_it_reads_and_stops_on_sigterm(started: Started, job: Job) -> None:
    def working(given: Job, stop: Stop) -> None:
        assert given == job
        assert not stop.is_set()
        started.handlers[signal.SIGTERM](signal.SIGTERM, None)
        assert stop.is_set()

    assert started.main(working) == 0
    stopped, seconds, end = started.ended_in_time
    assert (stopped(), seconds) == (True, 30)
    codes: list[int] = []
    started.patch.setattr(os, "_exit", codes.append)
    end()
    assert codes == [0], "its trial is queued again when its silence is noticed: nothing went wrong"


def test_a_process_stops_when_its_command_is_gone(started: Started) -> None:
    def working(given: Job, stop: Stop) -> None:
        started.closed.set()
        stop.wait(60)
        assert stop.is_set()

    assert started.main(working) == 0


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (TrialsFailed("3 of 3 trials failed"), 1, ""),  # the command tells of it, once for all workers
        (StudyFailed("twins differ"), 1, "error: twins differ\n"),
        (DataError("the images"), 66, "error: the images\n"),
        (DeviceError("the GPU"), 69, "error: the GPU\n"),
        (DatabaseError("the database"), 75, "error: the database\n"),
    ],
)
def test_a_process_ends_with_the_code_of_what_went_wrong(
    started: Started, capfd: pytest.CaptureFixture[str], error: Exception, code: int, told: str
) -> None:
    assert started.main(fail(error)) == code
    assert capfd.readouterr().err == told


def test_a_bug_is_shown_whole(started: Started) -> None:
    with pytest.raises(ZeroDivisionError):
        started.main(fail(ZeroDivisionError()))


@pytest.mark.slow
@pytest.mark.process
def test_a_real_process_does_its_job(job: Job) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "search.workers.worker"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pickle.dumps(job))
    process.stdin.flush()  # and not closed: that would be the word to stop
    process.wait()
    process.stdin.close()
    said = process.stdout.read()
    process.stdout.close()
    assert (process.returncode, said) == (0, b"")
    study = joined_here(job, "looker")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert not math.isnan(study.best_value)
