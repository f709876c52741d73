"""Signs of life: of this worker for others, of others for this one, of training for its own process."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from search.errors import SpecError
from search.leases import ClaimLost, LeaseStorage
from search.patience import PatientStorage, to_stderr

HUNG_SECONDS, HUNG_STEPS = 900.0, 10
"""A step is hung after so many seconds and so many times the median step, whichever is longer."""


def heartbeat_settings() -> tuple[float, float]:
    """Seconds between signs of life, and of silence after which a worker is dead. Raises SpecError."""
    seconds = []
    for name, default in (("ARCHSEARCH_HEARTBEAT", "10"), ("ARCHSEARCH_GRACE", "60")):
        text = os.environ.get(name) or default
        try:
            seconds.append(float(text))
        except ValueError:
            raise SpecError(f"{name} must be a number of seconds, got {text!r}") from None
    interval, grace = seconds
    if not 0 < 2 * interval <= grace < float("inf"):
        raise SpecError(
            f"ARCHSEARCH_HEARTBEAT must be above 0 and at most half of ARCHSEARCH_GRACE, "
            f"got {interval:g} and {grace:g}"
        )
    return interval, grace


def _clock() -> float:
    """Seconds, those included that the machine slept through, where the system counts them."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Contact:
    """Since when a reaper has heard from the database without a break. Only then does the silence of others
    mean something: after an outage all are silent alike."""

    def __init__(self, interval: float, clock: Callable[[], float] = _clock) -> None:
        self.most, self.clock = 3 * interval, clock
        self.since = self.last = clock()

    def heard(self) -> None:
        now = self.clock()
        if now - self.last > self.most:  # a call that hung, or a process that slept
            self.since = now
        self.last = now

    def lost(self) -> None:
        self.since = self.last = self.clock()

    def lasts(self, seconds: float) -> bool:
        return self.last - self.since >= seconds


class Heart(threading.Thread):
    """Beats for the running trials and takes over the trials of the dead. `lost` is set when one of this
    worker's own was given to another. A database that is away stops neither."""

    def __init__(self, claims: PatientStorage, study_id: int) -> None:
        super().__init__(name="heart", daemon=True)
        self.interval, self.grace = heartbeat_settings()
        self.claims, self.study_id = claims, study_id
        self.contact = Contact(self.interval)
        self.lost = threading.Event()
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.wait(self.interval):
            try:
                self.beat()
                self.contact.heard()
                if self.contact.lasts(self.grace):
                    LeaseStorage.reap(self.claims, self.study_id, self.grace)
                self.claims.patience.note_success()
            except KeyError:
                return  # the study was deleted; the worker meets that too
            except (StorageInternalError, SQLAlchemyError) as error:
                self.contact.lost()
                self.claims.patience.note_failure(error)

    def beat(self) -> None:
        """Once and without patience: the next one is soon."""
        running = tuple(self.claims.running)
        if not running:
            LeaseStorage.reap(self.claims, self.study_id, float("inf"))  # a sign from the database
        for trial_id in running:
            try:
                LeaseStorage.beat(self.claims, trial_id)
            except ClaimLost:
                if trial_id in self.claims.running:  # else it was finished in the meantime
                    self.lost.set()


class Watchdog(threading.Thread):
    """Ends this process when a step of its training hangs, as a GPU's kernel can: nothing else would."""

    def __init__(self, end: Callable[[], None] | None = None, least: float = HUNG_SECONDS) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.least, self.end = least, end or _kill_myself
        self.steps: deque[float] = deque(maxlen=101)
        self.last: float | None = None

    def step(self) -> None:
        """Training has come to another step."""
        now = time.monotonic()
        if self.last is not None:
            self.steps.append(now - self.last)
        self.last = now

    def rest(self) -> None:
        """No trial is trained."""
        self.last = None
        self.steps.clear()

    def is_hung(self) -> bool:
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
