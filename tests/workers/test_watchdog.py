"""A step that hangs ends the process; one that is slow does not."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from search.workers.watchdog import HUNG_SECONDS, HUNG_STEPS, Watchdog


class Time:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def steps(dog: Watchdog, clock: Time, *seconds: float) -> None:
    for length in seconds:
        clock.now += length
        dog.step()


def hangs_after(dog: Watchdog, clock: Time, seconds: float) -> bool:
    """Exactly so many seconds are not too many yet."""
    since = clock.now
    clock.now = since + seconds
    just = dog.is_hung()
    clock.now = since + seconds + 0.001
    late = dog.is_hung()
    clock.now = since
    return late and not just


def test_without_a_trial_nothing_hangs(clock: Time) -> None:
    dog = Watchdog()
    clock.now = 10**6
    assert not dog.is_hung()
    steps(dog, clock, 1, 1)
    dog.rest()
    clock.now += 10**6
    assert not dog.is_hung()


def test_a_step_hangs_after_a_quarter_of_an_hour_at_least(clock: Time) -> None:
    dog = Watchdog()
    assert (HUNG_SECONDS, HUNG_STEPS) == (900, 10)
    steps(dog, clock, 5)
    assert hangs_after(dog, clock, 900), "the first step, with nothing to compare"
    steps(dog, clock, 1, 1, 1)
    assert hangs_after(dog, clock, 900)


def test_where_steps_are_slow_one_hangs_after_ten_times_the_median(clock: Time) -> None:
    dog = Watchdog(least=50)
    steps(dog, clock, 0, 10, 10, 10, 1, 200)
    assert hangs_after(dog, clock, 100)


def test_the_steps_of_another_trial_and_of_long_ago_do_not_count(clock: Time) -> None:
    dog = Watchdog(least=50)
    steps(dog, clock, 0, 100, 100, 100)
    dog.rest()
    clock.now += 1000  # between two trials
    steps(dog, clock, 0, 10, 10)
    assert hangs_after(dog, clock, 100)
    steps(dog, clock, *[1] * 101)
    assert hangs_after(dog, clock, 50)


def test_a_process_whose_step_hangs_is_ended_with_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()
    dog = Watchdog(end=ended.set, least=0.05)
    dog.step()
    dog.start()
    assert ended.wait(60)
    dog.join(60)
    assert not dog.is_alive()
    assert capfd.readouterr().err == (
        "a training step hangs: this worker ends, and its trial goes to another\n"
    )


def test_a_process_ends_itself_as_if_it_were_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing less ends one whose main thread is within a kernel's call."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    Watchdog().end()
    assert sent == [(os.getpid(), signal.SIGKILL)]
