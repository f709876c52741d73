"""What a worker does all day, with trials that train nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from search.design.groups import LeadNotDrawn
from search.errors import DeviceError, StudyFailed
from search.storage.internals import study_id_of, trial_id_of
from search.storage.leases import ClaimLost
from search.storage.patience import PatientStorage
from search.storage.trial_record import TrialRecord
from search.workers import trial_loop
from search.workers.heartbeat import Heart
from search.workers.stop import Stop
from search.workers.trial_loop import check_failures, run_trials
from search.workers.watchdog import Watchdog
from tests.support.claims import SECOND, age, joined, queued

Interrupted = Callable[[], bool]
Run = Callable[[optuna.Trial, Interrupted], str]


class Dog(Watchdog):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(end=lambda: None)
        self.told: list[str] = []

    def step(self) -> None:
        self.told.append("step")

    def rest(self) -> None:
        self.told.append("rest")


class Day:
    """A worker, and all that it meets: what its trials do is given by the test."""

    def __init__(self, url: str, budget: int) -> None:
        self.study, self.claims = joined(url, budget=budget)
        self.heart = Heart(self.claims, study_id_of(self.study))
        self.dog, self.stop = Dog(), Stop()
        self.waited: list[float] = []
        self.stop.wait = self.waits  # type: ignore[method-assign]
        self.meanwhile: Callable[[], None] = self.stop.set
        """What happens while it waits for others. Without anything, it would for ever."""
        self.ran: list[int] = []

    def waits(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.meanwhile()

    def run(self, run: Run | None = None) -> None:
        def noted(trial: optuna.Trial, interrupted: Interrupted) -> str:
            self.ran.append(trial.number)
            return (run or self.complete)(trial, interrupted)

        run_trials(self.study, self.claims, noted, self.heart, self.dog, self.stop)

    def complete(self, trial: optuna.Trial, interrupted: Interrupted) -> str:
        self.claims.finish(trial_id_of(trial), TrialState.COMPLETE, 0.5, {"outcome": "complete"})
        return "complete"

    def error(self, trial: optuna.Trial, interrupted: Interrupted) -> str:
        attributes = {"outcome": "error", "error": f"of {trial.number}\n"}
        self.claims.finish(trial_id_of(trial), TrialState.FAIL, None, attributes)
        return "error"

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials()]


@pytest.fixture
def day(study_file: str) -> Callable[[int], Day]:
    return lambda budget: Day(study_file, budget)


def test_trials_run_one_after_another_until_the_budget_is_spent(day: Callable[[int], Day]) -> None:
    worker = day(3)
    worker.run()
    assert worker.ran == [0, 1, 2]
    assert worker.states() == ["COMPLETE"] * 3
    assert (worker.waited, worker.dog.told) == ([], ["rest"] * 3)
    worker.run()
    assert worker.ran == [0, 1, 2]


def test_queued_trials_come_first(day: Callable[[int], Day]) -> None:
    worker = day(3)
    worker.study.add_trials(queued(1.0, 2.0))
    worker.run()
    assert worker.ran == [0, 1, 2]
    assert worker.study.trials[2].params == {}


def test_who_is_told_to_stop_asks_for_nothing(day: Callable[[int], Day]) -> None:
    worker = day(3)
    worker.stop.set()
    worker.run()
    assert worker.states() == []


def test_a_worker_waits_for_the_last_trials_of_others_and_takes_those_of_the_dead(
    day: Callable[[int], Day], study_file: str
) -> None:
    worker = day(1)
    other, claims = joined(study_file, SECOND)
    other.ask()

    def dies() -> None:
        if len(worker.waited) == 3:
            age(claims, 60)
            worker.claims.reap(study_id_of(worker.study), 30)

    worker.meanwhile = dies
    worker.run()
    assert worker.waited == [trial_loop.LONG_WAIT] * 3
    assert worker.ran == [0]
    assert TrialRecord(worker.study.trials[0]).lost_workers == [SECOND]


def test_an_interrupted_trial_is_given_back_without_an_attempt(day: Callable[[int], Day]) -> None:
    worker = day(3)
    seen: list[bool] = []

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        seen.append(interrupted())
        worker.stop.set()
        seen.append(interrupted())
        return "interrupted"

    worker.run(run)
    assert seen == [False, True]
    assert worker.dog.told == ["step", "step", "rest"], "each look is a step of training"
    assert (worker.ran, worker.states()) == ([0], ["WAITING"])
    assert TrialRecord(worker.study.trials[0]).attempt == 0


def test_a_trial_that_went_to_another_is_interrupted_and_left_to_it(
    day: Callable[[int], Day], study_file: str
) -> None:
    worker = day(2)
    _, second = joined(study_file, SECOND)
    seen: list[bool] = []

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        seen.append(interrupted())
        if trial.number:
            return worker.complete(trial, interrupted)
        age(worker.claims, 60)
        second.reap(study_id_of(worker.study), 30)
        second.set_trial_state_values(trial_id_of(trial), TrialState.RUNNING)
        worker.heart.beat()
        seen.append(interrupted())
        return "interrupted"

    worker.run(run)
    assert seen == [False, True, False], "the next one is another matter"
    assert worker.ran == [0, 1]
    assert worker.states() == ["RUNNING", "COMPLETE"]
    assert TrialRecord(worker.study.trials[0]).worker == SECOND
    assert worker.waited == [trial_loop.LONG_WAIT]


def test_a_lost_claim_costs_the_attempt_alone(day: Callable[[int], Day]) -> None:
    worker = day(2)

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        if len(worker.ran) == 1:
            raise ClaimLost
        return worker.complete(trial, interrupted)

    worker.run(run)
    assert worker.ran == [0, 0, 1]
    assert worker.states() == ["COMPLETE"] * 2
    assert worker.dog.told == ["rest"] * 3


class Draws(optuna.samplers.RandomSampler):
    """Fails at its first trials."""

    def __init__(self, *errors: type[Exception]) -> None:
        super().__init__(seed=0)
        self.errors = list(errors)

    def before_trial(self, study: Study, trial: optuna.trial.FrozenTrial) -> None:
        if self.errors:
            error = self.errors.pop(0)
            raise LeadNotDrawn(trial_id_of(trial)) if error is LeadNotDrawn else error


def test_a_follower_without_its_lead_is_given_back_and_tried_again(day: Callable[[int], Day]) -> None:
    worker = day(1)
    worker.study.sampler = Draws(LeadNotDrawn, LeadNotDrawn)
    worker.meanwhile = lambda: None
    worker.run()
    assert worker.waited == [trial_loop.SHORT_WAIT] * 2
    assert worker.ran == [0]
    assert TrialRecord(worker.study.trials[0]).attempt == 1


def test_what_is_lost_while_it_is_asked_for_is_given_back(day: Callable[[int], Day]) -> None:
    worker = day(1)
    worker.study.sampler = Draws(ClaimLost)
    worker.run()
    assert not worker.study.sampler.errors
    assert (worker.ran, worker.states()) == ([0], ["COMPLETE"])
    assert TrialRecord(worker.study.trials[0]).attempt == 1
    assert not worker.claims.running


def test_whatever_a_run_took_along_is_given_back(day: Callable[[int], Day]) -> None:
    worker = day(3)

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        if len(worker.ran) == 1:
            worker.study.ask()
        return worker.complete(trial, interrupted)

    worker.run(run)
    assert worker.ran == [0, 1, 2]
    assert [TrialRecord(trial).attempt for trial in worker.study.trials] == [1, 1, 1]


def test_an_error_that_ends_the_worker_costs_no_trial(day: Callable[[int], Day]) -> None:
    worker = day(3)

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        worker.study.ask()
        raise DeviceError("the GPU fell off the bus")

    with pytest.raises(DeviceError):
        worker.run(run)
    assert (worker.states(), worker.dog.told) == (["WAITING", "WAITING"], ["rest"])
    assert [TrialRecord(trial).attempt for trial in worker.study.trials] == [0, 0]


def test_an_error_is_told_also_where_the_database_is_away(
    day: Callable[[int], Day], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = day(3)

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        raise DeviceError("the GPU fell off the bus")

    def away() -> None:
        raise StorageInternalError("away")

    monkeypatch.setattr(worker.claims.direct, "give_back", away)
    with pytest.raises(DeviceError):
        worker.run(run)


def test_a_bug_in_the_loop_is_not_hidden(day: Callable[[int], Day]) -> None:
    worker = day(3)

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        worker.run(run)
    assert worker.dog.told == ["rest"]


def test_a_search_whose_trials_fail_stops(day: Callable[[int], Day]) -> None:
    worker = day(9)
    with pytest.raises(StudyFailed, match="3 of 3 trials failed, so the search stops"):
        worker.run(worker.error)
    assert worker.ran == [0, 1, 2]
    with pytest.raises(StudyFailed, match="1 of 1 trials failed"):
        worker.run(worker.error)
    assert worker.ran == [0, 1, 2, 3], "the row goes on"


def test_trials_that_waited_when_it_began_are_its_own(day: Callable[[int], Day]) -> None:
    worker = day(3)
    worker.study.add_trials(queued(1.0, 2.0, 3.0))
    with pytest.raises(StudyFailed, match="3 of 3 trials failed"):
        worker.run(worker.error)


def test_failures_are_counted_where_there_is_one_more(day: Callable[[int], Day]) -> None:
    worker = day(7)

    def run(trial: optuna.Trial, interrupted: Interrupted) -> str:
        return (worker.complete if trial.number % 3 == 2 else worker.error)(trial, interrupted)

    worker.run(run)
    assert worker.ran == list(range(7))


# when it is too much


def study_with(outcomes: str, claims: PatientStorage | None = None) -> Study:
    """A study whose trials ended as the letters say, one after another: e for error, l for lost."""
    study = optuna.create_study()
    for second, letter in enumerate(outcomes):
        state = TrialState.FAIL if letter in "el" else TrialState.COMPLETE
        outcome = {"e": "error", "l": "lost", "c": "complete"}[letter]
        trial = create_trial(
            state=state, value=0.5 if state == TrialState.COMPLETE else None,
            user_attrs={"outcome": outcome, "error": f"Traceback {second}\n\n"},
        )  # fmt: skip
        trial.datetime_complete = datetime(2026, 1, 1) + timedelta(seconds=second)
        study.add_trial(trial)
    return study


def failed(outcomes: str, before: int = 0) -> str:
    """What is told; empty where nothing is. `before`: how many had finished when this run began."""
    try:
        check_failures(study_with(outcomes), set(range(before)))
    except StudyFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("outcomes", "before", "told"),
    [
        ("eee", 0, "3 of 3"),
        ("ceee", 0, "3 of 4"),
        ("ee", 0, ""),
        ("eece", 0, ""),
        ("eeec", 0, ""),
        ("eel", 0, ""),  # a lost trial is a machine's fault
        ("cecececece", 0, ""),  # half of ten
        ("ececececec", 0, ""),
        ("eececececec", 0, "6 of 11"),
        ("eecececec", 0, ""),  # more than half, but of nine
        ("eee", 2, "1 of 1"),  # a row that goes on
        ("eee", 3, ""),  # nothing failed in this run
        ("eeec", 3, ""),
        ("eeeeeecececc", 8, ""),  # the failures were of earlier runs
        ("cccc" + "eecececeece", 4, "7 of 11"),
        ("", 0, ""),
    ],
)
def test_three_errors_in_a_row_or_in_most_of_ten_trials_are_too_much(
    outcomes: str, before: int, told: str
) -> None:
    message = failed(outcomes, before)
    assert message.startswith(f"{told} trials failed, so the search stops." if told else "")
    assert bool(message) == bool(told), message


def test_the_first_error_of_this_run_is_told() -> None:
    assert failed("cececee" + "e", 3).endswith("The first error, of trial 3:\nTraceback 3")


def test_a_row_is_one_in_time_not_in_numbers() -> None:
    """Several workers end their trials in any order."""
    study = study_with("eeec")
    trials = study.get_trials()
    trials[3].datetime_complete = datetime(2025, 12, 31)
    again = optuna.create_study()
    again.add_trials(trials)
    check_failures(study, set())
    with pytest.raises(StudyFailed):
        check_failures(again, set())


def test_trials_that_have_not_ended_count_for_nothing() -> None:
    study = study_with("eee")
    study.enqueue_trial({})
    study.ask()
    study.enqueue_trial({})
    with pytest.raises(StudyFailed, match="3 of 3 trials"):
        check_failures(study, set())
