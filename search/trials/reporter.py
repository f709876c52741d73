"""What a running trial tells the database, off the training thread: training never waits for it long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from search.training.results import EpochResult
from search.trials.listeners import Ended, Interrupted, Listener
from search.trials.setup import Setup

WAIT = 1.0
"""Seconds that training waits for the word whether to go on. Without one it goes on."""
FLUSH_STEP = 0.2
"""Seconds between two looks whether to give up."""


class AttemptOver(Exception):
    """Something is reported of an attempt that is over."""


class Reporter(Listener):
    """Writes the reports of one attempt in their order, by a thread of its own, each once.

    What goes wrong there (another owner, a database away for too long) is raised by the next call here.
    """

    essential = True

    def __init__(
        self,
        trial: optuna.Trial,
        epochs: int,
        give_up: Callable[[], bool] = lambda: False,
        wait: float = WAIT,
    ) -> None:
        """Starts its thread. `epochs`: those of a whole run; `give_up`: whether what is left need not be
        written any more."""
        self.trial, self.epochs, self.give_up, self.wait = trial, epochs, give_up, wait
        self.queue: queue.SimpleQueue[tuple[int, float, bool, bool] | None] = queue.SimpleQueue()
        self.changed = threading.Condition()
        self.put = self.written = 0
        self.prune = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._write, name="reporter", daemon=True)
        self.thread.start()

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        self.replay([result.val_accuracy for result in history])

    def epoch_ended(self, result: EpochResult) -> bool:
        return self.report(result.epoch, result.val_accuracy, result.epoch == self.epochs)

    def ended(self, end: Ended) -> dict[str, Any]:
        if not self.flush(self.give_up):
            raise Interrupted
        return {}

    def replay(self, values: Sequence[float]) -> None:
        """Reports the epochs of an earlier attempt that this one continues. The pruner's records of them are
        made again, its decisions are not: it had let the trial pass."""
        for epoch, value in enumerate(values, start=1):
            self._put(epoch, value, asks=True, decides=False)

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Returns whether the trial is to be stopped, as far as is known after a moment."""
        self._put(epoch, value, asks=not last, decides=not last)
        if not last:
            with self.changed:
                self.changed.wait_for(lambda: self.written == self.put or self.error or self.prune, self.wait)
        self._raise()
        return self.prune and not last

    def flush(self, give_up: Callable[[], bool]) -> bool:
        """Waits until all is written; False when `give_up` says so first."""
        while not give_up():
            with self.changed:
                done = self.changed.wait_for(lambda: self.written == self.put or self.error, FLUSH_STEP)
            self._raise()
            if done:
                return True
        return False

    def close(self) -> None:
        """Writes nothing more than what is being written; does not wait for that."""
        self.queue.put(None)
        self.error = self.error or AttemptOver()

    def _put(self, epoch: int, value: float, asks: bool, decides: bool) -> None:
        self.put += 1
        self.queue.put((epoch, value, asks, decides))

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _write(self) -> None:
        while (item := self.queue.get()) is not None and self.error is None:
            epoch, value, asks, decides = item
            try:
                self.trial.report(value, step=epoch)
                prune = asks and self.trial.should_prune()
            except BaseException as error:
                with self.changed:
                    self.error = self.error or error
                    self.changed.notify_all()
                return
            with self.changed:
                self.written += 1
                self.prune = self.prune or (decides and prune)
                self.changed.notify_all()
