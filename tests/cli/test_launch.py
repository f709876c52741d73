"""How an open study becomes a finished one: who works, and how it ends."""

from __future__ import annotations

import io
import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from search.cli import launch as launching
from search.cli.launch import Launch, launch
from search.devices.slots import Slot
from search.errors import SearchError, StudyFailed
from search.spec.study import StudySpec
from search.storage.connections import claims_of
from search.storage.studies import open_study
from search.web.publish import Publisher
from search.workers.job import Job
from search.workers.stop import Stop
from tests.support.made_trials import made

optuna.logging.set_verbosity(optuna.logging.ERROR)
CPU, GPU = Slot("cpu"), Slot("cuda", ("GPU-1",))


class Office:
    """A study, and workers that only say that they worked. `does`: what becomes of the study meanwhile."""

    def __init__(self, folder: Path, spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = Job(spec, f"sqlite:///{folder}/x.db", "s", 5, "cpu", "data")
        self.study = open_study(self.job.url, "s", spec, "data", 5)
        self.worked: list[tuple[str, int]] = []
        self.does: Callable[[Stop], int] = lambda stop: self.add(5 - len(self.study.get_trials()))
        self.console = Console(file=io.StringIO(), width=200)
        self.reap: Callable[[], Any] = list
        office = self

        class Pool:
            last_words = "what it said last"

            def __init__(self, job: Job, slots: list[Slot], say: Any) -> None:
                assert job is office.job
                office.worked.append(("pool", len(slots)))

            def run(self, stop: Stop, poll: Any, reap: Any, is_done: Callable[[], bool]) -> int:
                office.reap, office.is_done = reap, is_done
                return office.does(stop)

        def work_here(job: Job, stop: Stop, poll: Any) -> int:
            assert job is office.job
            office.worked.append(("here", 1))
            return office.does(stop)

        monkeypatch.setattr(launching, "WorkerPool", Pool)
        monkeypatch.setattr(launching, "work_here", work_here)
        monkeypatch.setattr(launching, "end_in_time", lambda *_: None)
        monkeypatch.setattr(launching, "Publisher", lambda *_: nullcontext())

    def add(self, count: int, **attributes: Any) -> int:
        first = len(self.study.get_trials())
        self.study.add_trials([made(first + i, "plain", **attributes) for i in range(count)])
        return 0

    def launch(self, *slots: Slot) -> Launch:
        return launch(self.job, self.study, slots, self.console, quiet=True)


@pytest.fixture
def office(tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(tmp_path, tiny, monkeypatch)


def test_a_study_that_is_done_takes_no_worker(office: Office) -> None:
    office.add(5)
    assert office.launch(CPU, CPU) == Launch(0, stopped=False, seconds=None)
    assert office.worked == []


@pytest.mark.parametrize(
    ("there", "slots", "worked"),
    [
        (0, [CPU], ("here", 1)),
        (0, [CPU] * 2, ("pool", 2)),
        (0, [CPU] * 8, ("pool", 5)),
        (3, [CPU] * 8, ("pool", 2)),
        (4, [CPU] * 8, ("here", 1)),
        (4, [GPU] * 2, ("pool", 1)),
    ],
)
def test_there_are_no_more_workers_than_trials_and_one_on_a_cpu_works_here(
    office: Office, there: int, slots: list[Slot], worked: tuple[str, int]
) -> None:
    office.add(there)
    ended = office.launch(*slots)
    assert (ended.code, ended.stopped, office.worked) == (0, False, [worked])
    assert ended.seconds is not None


def test_trials_in_the_queue_are_left_to_do_though_the_budget_is_spent(office: Office) -> None:
    office.add(5)
    for _ in range(2):
        office.study.enqueue_trial({"block": "plain"})

    def finish(stop: Stop) -> int:
        for trial in office.study.get_trials()[5:]:
            claims_of(office.study).direct.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return 0

    office.does = finish
    assert office.launch(CPU, CPU, CPU).code == 0
    assert office.worked == [("pool", 2)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_is_no_failure(office: Office, number: signal.Signals, code: int) -> None:
    def stopped(stop: Stop) -> int:
        stop.signal = number
        stop.set()
        return 0

    office.does = stopped
    ended = office.launch(CPU)
    assert (ended.code, ended.stopped) == (code, True)


def test_the_code_of_a_worker_that_failed_is_the_commands(office: Office) -> None:
    office.does = lambda _: 69
    assert office.launch(CPU, CPU).code == 69


def test_workers_that_vanished_are_no_success(office: Office) -> None:
    office.does = lambda _: office.add(3)
    with pytest.raises(SearchError, match="all workers were killed; the study keeps what was done"):
        office.launch(CPU, CPU)


def test_a_worker_that_gives_up_is_heard_though_no_trial_failed(office: Office) -> None:
    office.does = lambda stop: StudyFailed.exit_code
    with pytest.raises(StudyFailed, match="what it said last"):
        office.launch(CPU, CPU)


def test_trials_that_fail_are_told_with_the_first_error_since_the_start(office: Office) -> None:
    failed = {"state": TrialState.FAIL, "outcome": "error"}
    office.add(1, error="of an earlier day", **failed)

    def fails(stop: Stop) -> int:
        office.add(3, error="of today", **failed)
        return StudyFailed.exit_code

    office.does = fails
    with pytest.raises(StudyFailed, match=r"3 of 3 trials failed(.|\n)*of trial 1:\nof today"):
        office.launch(CPU, CPU)


def test_whether_all_is_done_is_asked_of_the_study(office: Office) -> None:
    seen: list[bool] = []

    def does(stop: Stop) -> int:
        office.add(4)
        seen.append(office.is_done())
        office.add(1)
        seen.append(office.is_done())
        office.study.enqueue_trial({"block": "plain"})
        seen.append(office.is_done())
        return 69

    office.does = does
    office.launch(CPU, CPU)
    assert seen == [False, True, False]


def test_trials_of_a_worker_that_was_killed_are_taken_whatever_the_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    direct = claims_of(office.study).direct
    monkeypatch.setattr(direct, "reap", lambda *told: asked.append(told) or [3])

    def does(stop: Stop) -> int:
        assert office.reap() == [3]
        return 69

    office.does = does
    office.launch(CPU, CPU)
    assert asked == [(office.study._study_id, math.inf)]


def test_without_the_database_another_worker_notices_later(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[int]:
        raise optuna.exceptions.StorageInternalError("away")

    monkeypatch.setattr(claims_of(office.study).direct, "reap", away)
    found: list[Any] = []
    office.does = lambda _: found.append(office.reap()) or 69
    office.launch(CPU, CPU)
    assert found == [[]]


def test_advice_for_the_gpus_is_told_before_they_work(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching.mps, "advice", lambda slots: f"advice for {len(slots)}")
    office.launch(GPU, GPU)
    assert isinstance(office.console.file, io.StringIO)
    assert office.console.file.getvalue() == "advice for 2\n"


def test_its_page_is_published_in_the_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "Publisher", Publisher)
    office.launch(CPU)
    attrs = office.study._storage.get_study_system_attrs(office.study._study_id)
    assert attrs["archsearch:published"] == 5
