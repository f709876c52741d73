"""Signs of life, by a clock that the test sets; what is silent for how long, and after which outages."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from search.errors import SpecError
from search.storage.internals import study_id_of, trial_id_of
from search.storage.leases import ClaimLost
from search.storage.patience import Patience
from search.workers.heartbeat import Contact, Heart, heartbeat_settings
from tests.support.claims import joined, two_workers

# settings


def test_a_worker_beats_every_ten_seconds_and_is_dead_after_sixty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARCHSEARCH_HEARTBEAT", "ARCHSEARCH_GRACE"):
        monkeypatch.delenv(name, raising=False)
    assert heartbeat_settings() == (10, 60)
    monkeypatch.setenv("ARCHSEARCH_HEARTBEAT", "1.5")
    monkeypatch.setenv("ARCHSEARCH_GRACE", "3")
    assert heartbeat_settings() == (1.5, 3), "twice is enough"


@pytest.mark.parametrize(
    ("interval", "grace", "told"),
    [
        ("0", "60", "at most half of ARCHSEARCH_GRACE, got 0 and 60"),
        ("10", "19.9", "at most half of ARCHSEARCH_GRACE, got 10 and 19.9"),
        ("-1", "60", "ARCHSEARCH_HEARTBEAT must be a number of seconds"),
        ("soon", "60", "ARCHSEARCH_HEARTBEAT must be a number of seconds"),
        ("10", "inf", "ARCHSEARCH_GRACE must be a number of seconds"),
        ("10", "nan", "ARCHSEARCH_GRACE must be a number of seconds"),
    ],
)
def test_other_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, interval: str, grace: str, told: str
) -> None:
    monkeypatch.setenv("ARCHSEARCH_HEARTBEAT", interval)
    monkeypatch.setenv("ARCHSEARCH_GRACE", grace)
    with pytest.raises(SpecError, match=told):
        heartbeat_settings()


# contact


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_others_are_dead_only_after_a_grace_of_unbroken_contact() -> None:
    clock = Clock()
    contact = Contact(interval=10, clock=clock)
    for clock.now in (10, 20, 30, 40, 50):
        contact.heard()
        assert not contact.lasts(60)
    clock.now = 60
    contact.heard()
    assert contact.lasts(60)
    contact.lost()
    for clock.now in range(70, 120, 10):
        contact.heard()
        assert not contact.lasts(60)
    clock.now = 120
    contact.heard()
    assert contact.lasts(60)
    clock.now = 200  # a call that hung, a process that slept
    contact.heard()
    assert not contact.lasts(60)


def test_contact_breaks_where_nothing_was_heard_for_more_than_three_intervals() -> None:
    clock = Clock()
    contact = Contact(interval=10, clock=clock)
    clock.now = 30
    contact.heard()
    assert contact.lasts(30)
    clock.now = 60.5
    contact.heard()
    assert not contact.lasts(1)


def test_contact_lasts_until_it_was_last_heard_of_and_no_longer() -> None:
    """Time that passes without a word proves nothing."""
    clock = Clock()
    contact = Contact(interval=10, clock=clock)
    clock.now = 10
    contact.heard()
    clock.now = 1000
    assert not contact.lasts(60)


def test_the_clock_counts_what_the_machine_slept_through() -> None:
    contact = Contact(10)
    assert contact.clock() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60)


# the heart

AWAY = StorageInternalError("away")


class Direct:
    """Counts what it is asked; a call may do something first."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, float]] = Counter()
        self.first: Callable[[], None] = lambda: None

    def beat(self, trial_id: int) -> None:
        self.first()
        self.calls["beat", trial_id] += 1

    def reap(self, study_id: int, grace: float) -> list[int]:
        self.first()
        assert study_id == 7
        self.calls["reap", grace] += 1
        return []


class Claims:
    """The storage of a worker, as far as a heart knows it."""

    def __init__(self) -> None:
        self.running = {1}
        self.direct = Direct()
        self.told: list[str] = []
        self.patience = Patience(60, self.told.append)


class Beats:
    """A stand-in for the event that ends a heart: time passes by what it waits, and it ends after some
    beats."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.left = clock, 0

    def wait(self, seconds: float) -> bool:
        if not self.left:
            return True
        self.left -= 1
        self.clock.now += seconds
        return False


class Beating:
    """A heart that beats where the test is, with an interval of 10 and a grace of 20."""

    def __init__(self) -> None:
        self.claims, self.clock = Claims(), Clock()
        self.heart = Heart(self.claims, 7)  # type: ignore[arg-type]
        self.heart.contact = Contact(10, self.clock)
        self.beats = self.heart.end = Beats(self.clock)  # type: ignore[assignment]

    def beat(self, times: int = 1, first: Callable[[], None] = lambda: None) -> None:
        self.claims.direct.first = first
        self.beats.left = times
        self.heart.run()

    @property
    def reaped(self) -> int:
        return self.claims.direct.calls["reap", 20]


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Beating:
    monkeypatch.setenv("ARCHSEARCH_HEARTBEAT", "10")
    monkeypatch.setenv("ARCHSEARCH_GRACE", "20")
    return Beating()


def fail(error: Exception) -> Callable[[], None]:
    def raises() -> None:
        raise error

    return raises


def test_a_heart_beats_at_its_interval_for_each_running_trial(beating: Beating) -> None:
    beating.claims.running = {1, 2}
    beating.beat(3)
    assert beating.clock.now == 30, "an interval before each"
    calls = beating.claims.direct.calls
    assert (calls["beat", 1], calls["beat", 2], calls["reap", math.inf]) == (3, 3, 0)


def test_without_a_trial_a_heart_looks_for_processes_that_are_gone(beating: Beating) -> None:
    """A sign from the database, without which silence means nothing."""
    beating.claims.running = set()
    beating.beat(3)
    assert beating.claims.direct.calls["reap", math.inf] == 3


def test_trials_of_the_silent_are_taken_after_a_grace_of_contact(beating: Beating) -> None:
    beating.beat(1)
    assert beating.reaped == 0
    beating.beat(3)
    assert beating.reaped == 3


@pytest.mark.parametrize("error", [AWAY, sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("away"))])
def test_an_outage_shorter_than_three_intervals_breaks_contact(beating: Beating, error: Exception) -> None:
    """Others were silent as long as this worker where the grace is as short as may be."""
    beating.beat(4)
    assert beating.heart.contact.lasts(20)
    reaped = beating.reaped
    beating.beat(1, fail(error))
    assert not beating.heart.contact.lasts(0.1)
    beating.beat(1)
    assert (beating.reaped, beating.heart.contact.lasts(20)) == (reaped, False)
    beating.beat(1)
    assert beating.heart.contact.lasts(20), "a whole grace later"
    assert beating.reaped == reaped + 1


def test_an_answer_that_took_long_breaks_contact_as_well(beating: Beating) -> None:
    """The others may have waited for theirs as long."""

    def hang() -> None:
        beating.clock.now += 35

    beating.beat(4)
    reaped = beating.reaped
    beating.beat(1, hang)
    assert beating.reaped == reaped
    beating.beat(2)
    assert beating.reaped == reaped + 1


def test_a_database_that_is_away_is_told_once_and_stops_no_heart(beating: Beating) -> None:
    beating.beat(3, fail(AWAY))
    beating.beat(2)
    told = [line.split(":")[0].rpartition(" after")[0] or line.split(":")[0] for line in beating.claims.told]
    assert told == ["the database is out of reach, training goes on meanwhile", "the database is back"]


def test_an_error_that_is_nobodys_is_not_swallowed(beating: Beating) -> None:
    with pytest.raises(ZeroDivisionError):
        beating.beat(1, fail(ZeroDivisionError()))


def test_a_deleted_study_stops_the_heart(beating: Beating) -> None:
    beating.beat(5, fail(KeyError("no such trial")))
    assert beating.clock.now == 10
    assert not beating.heart.lost.is_set()


def test_a_trial_that_went_to_another_is_lost(beating: Beating) -> None:
    """The others still get their signs of life."""
    beating.claims.running = {1, 2, 3}
    stock = beating.claims.direct.beat

    def beat(trial_id: int) -> None:
        if trial_id == 2:
            raise ClaimLost
        stock(trial_id)

    beating.claims.direct.beat = beat  # type: ignore[method-assign]
    beating.beat(1)
    assert beating.heart.lost.is_set()
    assert {key for key, count in beating.claims.direct.calls.items() if count} >= {("beat", 1), ("beat", 3)}


def test_a_trial_that_was_finished_before_its_beat_came_is_not_lost(beating: Beating) -> None:
    def finished() -> None:
        beating.claims.running.discard(1)
        raise ClaimLost

    beating.beat(1, finished)
    assert not beating.heart.lost.is_set()
    assert beating.claims.told == []


def test_a_trial_finished_between_the_look_and_the_beat_is_not_lost(
    study_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in a real database."""
    study, claims = joined(study_file)
    trial_id = trial_id_of(study.ask())
    heart, stock = Heart(claims, study_id_of(study)), claims.direct.beat

    def late(trial_id: int) -> None:
        claims.finish(trial_id, TrialState.COMPLETE, 0.5, {})
        stock(trial_id)

    monkeypatch.setattr(claims.direct, "beat", late)
    heart.beat()
    assert not heart.lost.is_set()
    assert claims.get_trial(trial_id).value == 0.5


def test_a_trial_taken_by_another_is_lost_in_a_real_database(study_file: str) -> None:
    study, first, second = two_workers(study_file)
    heart = Heart(first, study_id_of(study))
    trial_id = trial_id_of(study.ask())
    heart.beat()
    assert not heart.lost.is_set()
    assert second.reap(study_id_of(study), -1) == [0]
    assert second.set_trial_state_values(trial_id, TrialState.RUNNING)
    heart.beat()
    assert heart.lost.is_set()


def test_a_heart_in_its_thread_survives_its_database(
    study_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHSEARCH_HEARTBEAT", "0.01")
    monkeypatch.setenv("ARCHSEARCH_GRACE", "0.04")
    study, claims = joined(study_file)
    study.ask()
    told: list[str] = []
    claims.patience.tell = told.append
    stock, beats, back = claims.direct.beat, Counter[str](), threading.Event()

    def beat(trial_id: int) -> None:
        beats["all"] += 1
        if 3 < beats["all"] < 7:
            raise AWAY
        stock(trial_id)
        if beats["all"] > 10:
            back.set()

    monkeypatch.setattr(claims.direct, "beat", beat)
    heart = Heart(claims, study_id_of(study))
    heart.start()
    assert back.wait(60)
    assert heart.is_alive()
    heart.end.set()
    heart.join()
    assert [line.split(" after")[0].split(",")[0] for line in told] == [
        "the database is out of reach", "the database is back",
    ]  # fmt: skip
    assert study.trials[0].state == TrialState.RUNNING
