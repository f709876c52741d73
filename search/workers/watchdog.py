"""The end of a process whose training hangs, as a GPU's kernel can: nothing else would end it."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from search.storage.patience import to_stderr

HUNG_SECONDS, HUNG_STEPS = 900.0, 10
"""A step is hung after so many seconds and so many times the median step, whichever is longer."""


class Watchdog(threading.Thread):
    """A thread that is told of every step, and ends the process when the next one does not come."""

    def __init__(self, end: Callable[[], None] | None = None, least: float = HUNG_SECONDS) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.least, self.end = least, end or _kill_myself
        self.steps: deque[float] = deque(maxlen=101)
        self.last: float | None = None

    def step(self) -> None:
        """Notes that training has come to another step."""
        now = time.monotonic()
        if self.last is not None:
            self.steps.append(now - self.last)
        self.last = now

    def rest(self) -> None:
        """Notes that no trial is trained at the moment."""
        self.last = None
        self.steps.clear()

    def is_hung(self) -> bool:
        """Whether the present step takes far longer than others did."""
        last, steps = self.last, list(self.steps)
        if last is None:
            return False
        usual = statistics.median(steps) if steps else 0.0
        return time.monotonic() - last > max(self.least, HUNG_STEPS * usual)

    def run(self) -> None:
        while True:
            time.sleep(min(self.least / 4, 5))
            if self.is_hung():
                to_stderr("a training step hangs: this worker ends, and its trial goes to another")
                self.end()
                return


def _kill_myself() -> None:
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
