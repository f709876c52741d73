"""The word to stop: set by a signal, heeded by workers and by the command that started them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

END_SECONDS = 30.0
"""Seconds after which a worker that was told to stop ends, whatever it waits for. Batch and checkpoint take
less."""


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
        """Waits until it is set, `seconds` at most."""
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


@contextmanager
def stop_on_signals(stop: Stop, at_once: Callable[[], None]) -> Iterator[None]:
    """Heeds signals meanwhile: the first sets `stop`, a second Ctrl-C calls `at_once`."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            at_once()
        stop.signal = stop.signal or number
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_now() -> None:
    """Ends the process at once, as the shell expects after Ctrl-C."""
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h\n")  # the live screen hides the cursor
    os._exit(130)
