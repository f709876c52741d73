"""Whoever is told of a trial: in their order, each of everything, whatever the others do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from search import errors
from search.training.results import EpochResult
from search.trials.listeners import Interrupted, Listener, Listeners
from tests.support.runs import ended, epoch, setup

EVENTS = ("began", "epoch_ended", "paused", "ended", "close")


class Heard(Listener):
    """Writes down what it is told, and fails at the events that it is to fail at."""

    def __init__(
        self, name: str, log: list[tuple[Any, ...]], fails: Sequence[str] = (), stops: bool = False
    ) -> None:
        self.name, self.log, self.fails, self.stops = name, log, fails, stops
        self.error: Exception = OSError("disk full")

    def began(self, *told: Any) -> None:
        self._heard("began", *told)

    def epoch_ended(self, result: EpochResult) -> bool:
        self._heard("epoch_ended", result)
        return self.stops

    def paused(self) -> dict[str, Any]:
        self._heard("paused")
        return {"paused": self.name, f"paused_{self.name}": 1}

    def ended(self, *told: Any) -> dict[str, Any]:
        self._heard("ended", *told)
        return {"ended": self.name, f"ended_{self.name}": 1}

    def close(self) -> None:
        self._heard("close")

    def _heard(self, *event: Any) -> None:
        self.log.append((self.name, *event))
        if event[0] in self.fails:
            raise self.error


class Needed(Heard):
    essential = True


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_told", set())


@pytest.fixture
def log() -> list[tuple[Any, ...]]:
    return []


def tell_everything(listeners: Listeners) -> None:
    listeners.began(setup(), [epoch(1)])
    listeners.epoch_ended(epoch(2))
    listeners.paused()
    listeners.ended(ended())
    listeners.close()


def test_every_event_reaches_every_listener_in_order(log: list[tuple[Any, ...]]) -> None:
    listeners = Listeners([Heard("a", log), Needed("b", log), Heard("c", log)])
    begun, history, end = setup(), [epoch(1), epoch(2)], ended()
    listeners.began(begun, history)
    listeners.epoch_ended(epoch(3))
    listeners.paused()
    listeners.ended(end)
    listeners.close()
    told = [("began", begun, history), ("epoch_ended", epoch(3)), ("paused",), ("ended", end), ("close",)]
    assert log == [(name, *event) for event in told for name in ("a", "b", "c")]


@pytest.mark.parametrize("stops", [(False, False), (True, False), (False, True), (True, True)])
def test_any_of_them_stops_the_run_and_all_are_told_of_the_epoch(
    log: list[tuple[Any, ...]], stops: tuple[bool, bool]
) -> None:
    listeners = Listeners([Heard(str(i), log, stops=stop) for i, stop in enumerate(stops)])
    assert listeners.epoch_ended(epoch(1)) is any(stops)
    assert [name for name, *_ in log] == ["0", "1"]


def test_fields_to_be_stored_come_from_all_of_them(log: list[tuple[Any, ...]]) -> None:
    listeners = Listeners([Heard("a", log), Heard("b", log)])
    assert listeners.paused() == {"paused": "b", "paused_a": 1, "paused_b": 1}
    assert listeners.ended(ended()) == {"ended": "b", "ended_a": 1, "ended_b": 1}


def test_an_error_of_one_that_is_not_essential_is_told_once_and_costs_nothing(
    log: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # as of one trial after another
        log.clear()
        listeners = Listeners([Heard("a", log, fails=EVENTS), Heard("b", log, stops=True)])
        listeners.began(setup(), [])
        assert listeners.epoch_ended(epoch(1)), "the other one's word counts"
        assert listeners.paused() == {"paused": "b", "paused_b": 1}
        assert listeners.ended(ended()) == {"ended": "b", "ended_b": 1}
        listeners.close()
        assert [(name, event) for name, event, *_ in log] == [(n, e) for e in EVENTS for n in ("a", "b")]
    assert capsys.readouterr().err == "Heard failed, trials go on without: OSError: disk full\n"


@pytest.mark.parametrize("event", EVENTS)
def test_an_error_of_an_essential_one_is_raised(
    log: list[tuple[Any, ...]], event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listeners = Listeners([Heard("a", log), Needed("b", log, fails=[event])])
    with pytest.raises(OSError, match="disk full"):
        tell_everything(listeners)
    assert capsys.readouterr().err == ""


def test_one_that_is_not_done_interrupts_the_run_before_the_next_is_told_of_the_end(
    log: list[tuple[Any, ...]],
) -> None:
    first = Needed("a", log, fails=["ended"])
    first.error = Interrupted()
    with pytest.raises(Interrupted):
        Listeners([first, Heard("b", log)]).ended(ended())
    assert [name for name, *_ in log] == ["a"]


def test_all_are_closed_though_an_essential_one_fails_at_it(log: list[tuple[Any, ...]]) -> None:
    names = ("a", "b", "c")
    with pytest.raises(OSError, match="disk full"):
        Listeners([Needed(name, log, fails=["close"]) for name in names]).close()
    assert log == [(name, "close") for name in names]


def test_what_a_listener_does_not_care_for_changes_nothing() -> None:
    listener = Listener()
    listener.began(setup(), [epoch(1)])
    assert (listener.epoch_ended(epoch(1)), listener.paused(), listener.ended(ended())) == (False, {}, {})
    listener.close()
    assert not listener.essential


def test_several_are_as_essential_as_any_of_them() -> None:
    """What they raise is what must not be lost."""
    assert Listeners([]).essential
