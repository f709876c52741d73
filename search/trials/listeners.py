"""Listeners are told of every event of a training run. Reports, curves, artifacts, the screen of a repeat and
trackers hook in here and nowhere else: a tracker is a Listener of its own, and a line in
`runner.listeners_of`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from models.network import Network
from search.errors import tell_once
from search.training.results import EpochResult, TrainResult
from search.trials.outcomes import Ending
from search.trials.setup import Setup


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
    """A listener of one run. An event that it does not care for, it leaves as it is here."""

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
        stored. An essential listener may raise Interrupted."""
        return {}

    def close(self) -> None:
        """Nothing more will happen, whatever the reason."""


class Listeners(Listener):
    """Several listeners as one, told in their order; their fields are merged."""

    essential = True

    def __init__(self, members: Sequence[Listener]) -> None:
        self.members = members

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        self._tell("began", setup, history)

    def epoch_ended(self, result: EpochResult) -> bool:
        return any(self._tell("epoch_ended", result))

    def paused(self) -> dict[str, Any]:
        return _merged(self._tell("paused"))

    def ended(self, end: Ended) -> dict[str, Any]:
        return _merged(self._tell("ended", end))

    def close(self) -> None:
        errors = []
        for member in self.members:  # each, whatever becomes of the others
            try:
                _tell(member, "close")
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _tell(self, event: str, *told: Any) -> list[Any]:
        """The answers of all members that did not fail."""
        return [answer for member in self.members for answer in _tell(member, event, *told)]


def _tell(member: Listener, event: str, *told: Any) -> list[Any]:
    """The answer in a list; an empty one where the listener failed and is not essential."""
    try:
        return [getattr(member, event)(*told)]
    except Exception as error:
        if member.essential:
            raise
        name = type(member).__name__
        tell_once(f"{name} failed, trials go on without: {type(error).__name__}: {error}", name)
        return []


def _merged(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for answer in answers for name, value in answer.items()}
