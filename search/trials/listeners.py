"""Listeners: what is told of every event of a training run. Reports, curves, artifacts, the screen of a
repeat and trackers hook in here and nowhere else: a tracker is a Listener of its own, and a line in
`runner.listeners_of`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from models.network import Network
from search.errors import tell_once
from search.training.results import EpochResult, TrainResult
from search.trials.outcomes import Ending
from search.trials.setup import Setup

Answer = TypeVar("Answer")


class Interrupted(Exception):
    """The run was to stop before a listener was done with it: it goes back into the queue."""


@dataclass(frozen=True)
class Ended:
    """A run that was trained as far as it goes."""

    setup: Setup
    network: Network
    result: TrainResult
    ending: Ending


class Listener:
    """Is told of one run. Whatever it does not care for, it leaves as it is here."""

    essential: ClassVar[bool] = False
    """Whether the run must not go on without it. An error of another listener is told once and costs
    nothing."""

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        """The run begins; `history`: the epochs that an earlier attempt has trained."""

    def epoch_ended(self, result: EpochResult) -> bool:
        """Another epoch has been trained and validated. True stops the run."""
        return False

    def paused(self) -> dict[str, Any]:
        """The run was interrupted and goes on later, perhaps elsewhere. Returns fields of TrialRecord to be
        stored."""
        return {}

    def ended(self, end: Ended) -> dict[str, Any]:
        """The run has ended; the trial still runs in the database. Returns fields of TrialRecord to be
        stored. Raises Interrupted."""
        return {}

    def close(self) -> None:
        """Nothing more will happen, whatever the reason."""


class Listeners(Listener):
    """Several as one, told in their order."""

    essential = True

    def __init__(self, members: Sequence[Listener]) -> None:
        self.members = members

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        for member in self.members:
            self._tell(member, lambda m=member: m.began(setup, history), None)  # type: ignore[misc]

    def epoch_ended(self, result: EpochResult) -> bool:
        stops = [
            self._tell(member, lambda m=member: m.epoch_ended(result), False)  # type: ignore[misc]
            for member in self.members
        ]
        return any(stops)

    def paused(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for member in self.members:
            found |= self._tell(member, member.paused, dict[str, Any]())
        return found

    def ended(self, end: Ended) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for member in self.members:
            found |= self._tell(member, lambda m=member: m.ended(end), {})  # type: ignore[misc]
        return found

    def close(self) -> None:
        for member in self.members:
            self._tell(member, member.close, None)

    def _tell(self, member: Listener, event: Callable[[], Answer], otherwise: Answer) -> Answer:
        if member.essential:
            return event()
        try:
            return event()
        except Exception as error:
            name = type(member).__name__
            tell_once(f"{name} failed, trials go on without: {type(error).__name__}: {error}", name)
            return otherwise
