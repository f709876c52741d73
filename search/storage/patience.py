"""A storage that outlives its database: what fails for a moment is tried again, and counts once.

Stock Optuna 5.0.0 lets every worker crash when PostgreSQL restarts. Here a call waits until the database is
back. Each call may be repeated: an answer may be lost after the database did what it was asked (see
claim_storage).
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from search.storage.claim_storage import ClaimStorage
from search.storage.engines import reason

Result = TypeVar("Result")
PATIENCE = 1800.0
"""Seconds that a call waits for a database that is away."""
HURRY = 1.5
"""Seconds that a call waits when the process is to end."""
FIRST, LONGEST = 0.1, 5.0
"""Seconds between the first two tries, doubled from try to try, and most of them; half of it is random, so
that workers spread."""
FOR_GOOD = (
    "password authentication failed", "no password supplied", "permission denied", "readonly", "read-only",
    "no such table", "no such column", "does not exist", "disk is full", "disk i/o error", "malformed",
    "file is not a database", "unable to open database", "Access denied", "Unknown database",
)  # fmt: skip
"""Words of errors that waiting does not mend."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: the server is away or starts, a lock was held too long."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, sqlalchemy.exc.TimeoutError):  # the only connection was taken all the time
        return True
    if isinstance(cause, sqlalchemy.exc.DBAPIError):
        lasting = any(word.lower() in str(cause.orig).lower() for word in FOR_GOOD)
        lost = isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError)
        return (cause.connection_invalidated or lost) and not lasting
    return False


def to_stderr(line: str) -> None:
    """Prints a line about the process itself, at once."""
    print(line, file=sys.stderr, flush=True)


class Patience:
    """Tries again, and tells once that it does and once that it need not any more."""

    def __init__(
        self,
        seconds: float = PATIENCE,
        tell: Callable[[str], None] = to_stderr,
        in_a_hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """`in_a_hurry`: whether the process is to end soon."""
        self.seconds, self.tell, self.in_a_hurry = seconds, tell, in_a_hurry
        self.away_since: float | None = None
        self.lock = threading.Lock()

    def call(self, function: Callable[[], Result]) -> Result:
        """The function's answer. Raises an error that is not transient at once, others after `seconds`."""
        start, delay = time.monotonic(), FIRST
        while True:
            try:
                result = function()
            except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
                limit = HURRY if self.in_a_hurry() else self.seconds
                if not is_transient(error) or time.monotonic() - start > limit:
                    raise
                self.note_failure(error)
            else:
                self.note_success()
                return result
            self._wait(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, LONGEST)

    def _wait(self, seconds: float) -> None:
        start = time.monotonic()
        while True:
            most = min(seconds, HURRY / 4) if self.in_a_hurry() else seconds
            left = start + most - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))

    def note_failure(self, error: BaseException) -> None:
        """Notes that the database was out of reach just now."""
        with self.lock:
            if self.away_since is None:
                self.away_since = time.monotonic()
                self.tell(f"the database is out of reach, training goes on meanwhile: {reason(error)}")

    def note_success(self) -> None:
        """Notes that the database answered just now."""
        if self.away_since is None:
            return
        with self.lock:
            if self.away_since is not None:
                self.tell(f"the database is back after {time.monotonic() - self.away_since:.0f} s")
                self.away_since = None


if TYPE_CHECKING:

    class PatientStorage(ClaimStorage):
        """The class below as type checkers see it: everything that `direct` has."""

        direct: ClaimStorage
        patience: Patience

        def __init__(self, direct: ClaimStorage, patience: Patience) -> None: ...

else:

    class PatientStorage:
        """Stands before a storage: every call of a method waits for the database. `direct` does not."""

        def __init__(self, direct: ClaimStorage, patience: Patience) -> None:
            self.direct, self.patience = direct, patience

        def __getattr__(self, name: str) -> Any:
            if name in ("direct", "patience"):  # of a copy in the making
                raise AttributeError(name)
            found = getattr(self.direct, name)
            if not callable(found):
                return found

            def call(*args: Any, **kwargs: Any) -> Any:
                return self.patience.call(lambda: found(*args, **kwargs))

            return call
