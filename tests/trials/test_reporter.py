"""Reports off the training thread: in their order, each once, and what went wrong there is raised here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from search.storage.leases import ClaimLost
from search.trials.listeners import Interrupted
from search.trials.reporter import AttemptOver, Reporter
from tests.support.runs import ended, epoch, setup


class Slow:
    """A trial whose database takes its time, or fails."""

    def __init__(self, prune_at: int = 0) -> None:
        self.at_work, self.go = threading.Event(), threading.Event()
        self.reported: list[tuple[int, float]] = []
        self.asked: list[int] = []
        self.prune_at = prune_at
        self.error: BaseException | None = None

    def report(self, value: float, step: int) -> None:
        self.at_work.set()
        assert self.go.wait(30)
        if self.error:
            raise self.error
        self.reported.append((step, value))

    def should_prune(self) -> bool:
        self.asked.append(self.reported[-1][0])
        return self.reported[-1][0] == self.prune_at


class Desk:
    """Makes reporters of a slow trial, and closes them."""

    def __init__(self) -> None:
        self.slow = Slow()
        self.made: list[Reporter] = []

    def reporter(self, wait: float = 30, epochs: int = 4, **further: Any) -> Reporter:
        self.made.append(Reporter(self.slow, epochs, wait=wait, **further))  # type: ignore[arg-type]
        return self.made[-1]


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.slow.go.set()
    for reporter in desk.made:
        reporter.close()
        reporter.thread.join(30)
        assert not reporter.thread.is_alive()


def test_training_goes_on_without_an_answer_and_all_is_written_in_order(desk: Desk) -> None:
    reporter = desk.reporter(wait=0.05)
    assert [reporter.epoch_ended(epoch(number)) for number in (1, 2, 3, 4)] == [False] * 4
    assert not desk.slow.reported
    desk.slow.go.set()
    assert reporter.ended(ended()) == {}
    assert desk.slow.reported == [(number, epoch(number).val_accuracy) for number in (1, 2, 3, 4)]
    assert desk.slow.asked == [1, 2, 3], "after the last epoch there is nothing to decide"


def test_the_last_epoch_does_not_wait_and_stops_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.slow.prune_at = 4
    reporter = desk.reporter(epochs=4)
    with monkeypatch.context() as patched:
        patched.setattr(reporter.changed, "wait_for", lambda *_: pytest.fail("waited"))
        assert not reporter.epoch_ended(epoch(4))
    desk.slow.go.set()
    reporter.ended(ended())
    assert desk.slow.asked == []


def test_a_late_word_to_stop_is_heeded_at_the_next_epoch(desk: Desk) -> None:
    desk.slow.prune_at = 1
    reporter = desk.reporter(wait=0.05)
    assert not reporter.epoch_ended(epoch(1))
    desk.slow.go.set()
    reporter.wait = 30
    assert reporter.epoch_ended(epoch(2))


def test_an_answer_in_time_stops_at_its_epoch(desk: Desk) -> None:
    desk.slow.prune_at = 2
    desk.slow.go.set()
    reporter = desk.reporter()
    assert [reporter.epoch_ended(epoch(number)) for number in (1, 2)] == [False, True]


def test_what_was_replayed_is_written_and_decides_nothing(desk: Desk) -> None:
    """The pruner makes its notes on it again, and had let the trial pass."""
    desk.slow.prune_at = 2
    desk.slow.go.set()
    reporter = desk.reporter(epochs=5)
    reporter.began(setup(), [epoch(1), epoch(2), epoch(3)])
    assert not reporter.epoch_ended(epoch(4))
    assert desk.slow.reported == [(number, epoch(number).val_accuracy) for number in (1, 2, 3, 4)]
    assert desk.slow.asked == [1, 2, 3, 4]


def test_replaying_waits_for_nothing(desk: Desk) -> None:
    reporter = desk.reporter()
    reporter.began(setup(), [epoch(1), epoch(2)])
    assert desk.slow.reported == []


@pytest.mark.parametrize("error", [ClaimLost(), SystemExit(1)])
def test_what_fails_there_is_raised_here(desk: Desk, error: BaseException) -> None:
    desk.slow.error = error
    desk.slow.go.set()
    reporter = desk.reporter()
    with pytest.raises(type(error)):
        reporter.epoch_ended(epoch(1))
    with pytest.raises(type(error)):
        reporter.ended(ended())


def test_after_an_error_nothing_more_is_written(desk: Desk) -> None:
    desk.slow.error = ClaimLost()
    reporter = desk.reporter(wait=0.01)
    reporter.epoch_ended(epoch(1))
    reporter.epoch_ended(epoch(2))
    desk.slow.go.set()
    reporter.thread.join(30)
    assert desk.slow.reported == []
    assert not reporter.thread.is_alive()


def test_who_stops_a_worker_does_not_wait_for_its_database(desk: Desk) -> None:
    reporter = desk.reporter(wait=0.01, give_up=lambda: True)
    reporter.epoch_ended(epoch(1))
    with pytest.raises(Interrupted):
        reporter.ended(ended())


def test_an_attempt_that_is_over_writes_nothing_more(desk: Desk) -> None:
    reporter = desk.reporter(wait=0.01)
    reporter.epoch_ended(epoch(1))
    reporter.epoch_ended(epoch(2))
    assert not reporter.flush(lambda: True)
    assert desk.slow.at_work.wait(30)
    reporter.close()
    desk.slow.go.set()
    reporter.thread.join(30)
    assert [number for number, _ in desk.slow.reported] == [1], "that one was being written"
    with pytest.raises(AttemptOver):
        reporter.epoch_ended(epoch(3))


def test_a_run_must_not_go_on_without_its_reports(desk: Desk) -> None:
    assert desk.reporter().essential
