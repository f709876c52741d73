"""The word to stop: by a signal, once; at once by the second Ctrl-C; and in time, whatever hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from search.workers.stop import Stop, end_in_time, exit_now, stop_on_signals
from tests.support.paths import REPOSITORY


def test_waiting_ends_with_the_word_to_stop() -> None:
    stop = Stop()
    began = time.monotonic()
    stop.wait(0.1)
    assert time.monotonic() - began >= 0.1
    assert not stop.is_set()
    threading.Timer(0.1, stop.set).start()
    stop.wait(3600)
    assert stop.is_set()
    stop.wait(3600)


@pytest.fixture
def handlers() -> Iterator[list[int]]:
    """Signals that came where no one heeds them any more."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    yield came
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_the_first_signal_stops_and_a_second_ctrl_c_ends_at_once(handlers: list[int]) -> None:
    stop, ended = Stop(), list[int]()
    with stop_on_signals(stop, partial(ended.append, 1)):
        assert (stop.is_set(), stop.signal) == (False, None)
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.is_set(), stop.signal, ended) == (True, signal.SIGINT, [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.signal, ended) == (signal.SIGINT, []), "the first one is told"
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [1]
    assert handlers == []
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert handlers == [signal.SIGTERM, signal.SIGINT], "as it was before"


def test_ctrl_c_after_any_word_to_stop_ends_at_once(handlers: list[int]) -> None:
    for first in ("SIGTERM", "a worker that failed"):
        stop, ended = Stop(), list[int]()
        with stop_on_signals(stop, partial(ended.append, 1)):
            os.kill(os.getpid(), signal.SIGTERM) if first == "SIGTERM" else stop.set()
            os.kill(os.getpid(), signal.SIGTERM)
            assert ended == []
            os.kill(os.getpid(), signal.SIGINT)
        assert ended == [1]


def test_handlers_are_put_back_after_an_error(handlers: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), stop_on_signals(Stop(), lambda: None):
        raise ZeroDivisionError
    os.kill(os.getpid(), signal.SIGTERM)
    assert handlers == [signal.SIGTERM]


def test_a_process_that_hangs_ends_some_time_after_it_was_told_to_stop(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    told, ended, go = threading.Event(), threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if seconds == 30:
            go.wait(60)
        elif len(slept) == 3:
            told.set()

    monkeypatch.setattr(time, "sleep", sleep)
    end_in_time(told.is_set, 30, ended.set)
    assert told.wait(60)
    assert not ended.is_set()
    go.set()
    assert ended.wait(60)
    assert slept == [0.2, 0.2, 0.2, 30], "it is not hurried before it is told to"
    assert capfd.readouterr().err == "not done 30 s after the word to stop: this process ends\n"


EXITS = """
import sys
from search.workers.stop import exit_now
sys.stdout.isatty = lambda: sys.argv[1] == "terminal"
exit_now()
"""


@pytest.mark.parametrize(("where", "shown"), [("terminal", b"\x1b[?25h\n"), ("file", b"")])
def test_who_ends_at_once_gives_the_cursor_back(where: str, shown: bytes) -> None:
    done = subprocess.run([sys.executable, "-c", EXITS, where], cwd=REPOSITORY, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, shown, b"")


def test_leaving_at_once_is_what_the_shell_takes_for_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    exit_now()
    assert codes == [130]
