"""Signs of life: this worker's for others, and others' for this one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from search import environment
from search.errors import SpecError
from search.storage.leases import ClaimLost
from search.storage.patience import PatientStorage


def heartbeat_settings() -> tuple[float, float]:
    """Seconds between signs of life, and of silence after which a worker is dead. Raises SpecError."""
    interval = environment.seconds("ARCHSEARCH_HEARTBEAT", "10")
    grace = environment.seconds("ARCHSEARCH_GRACE", "60")
    if not 0 < 2 * interval <= grace:
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
    """Contact with the database, and since when it is unbroken. Without it the silence of others means
    nothing: after an outage all are silent alike."""

    def __init__(self, interval: float, clock: Callable[[], float] = _clock) -> None:
        self.most, self.clock = 3 * interval, clock
        self.since = self.last = clock()

    def heard(self) -> None:
        """Notes that the database has answered."""
        now = self.clock()
        if now - self.last > self.most:  # a call that hung, or a process that slept
            self.since = now
        self.last = now

    def lost(self) -> None:
        """Notes that the database was out of reach."""
        self.since = self.last = self.clock()

    def lasts(self, seconds: float) -> bool:
        """Whether contact had lasted so long when the database answered last."""
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
                    self.claims.direct.reap(self.study_id, self.grace)
                self.claims.patience.note_success()
            except KeyError:
                return  # the study was deleted; the worker meets that too
            except (StorageInternalError, SQLAlchemyError) as error:
                self.contact.lost()
                self.claims.patience.note_failure(error)

    def beat(self) -> None:
        """Gives a sign of life for every running trial, once and without patience: the next one is soon."""
        running = tuple(self.claims.running)
        if not running:
            self.claims.direct.reap(self.study_id, math.inf)  # a sign from the database
        for trial_id in running:
            try:
                self.claims.direct.beat(trial_id)
            except ClaimLost:
                if trial_id in self.claims.running:  # else it was finished in the meantime
                    self.lost.set()
