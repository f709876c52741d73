from __future__ import annotations

from datetime import datetime

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.course import Course, course_of
from search.storage.study_record import StudyRecord
from tests.support.made_trials import made, records

RUNNING = TrialState.RUNNING


def course(trials: list[FrozenTrial], budget: int = 3) -> Course:
    return course_of(StudyRecord({"budget": budget, "spec": {"data": {"name": "digits"}}}), records(trials))


@pytest.mark.parametrize(
    ("trials", "state", "counted"),
    [
        ([], "empty", "0 of 3 trials"),
        ([made(0, "plain"), made(1, "plain", state=RUNNING)], "running", "1 of 3 trials, 1 running"),
        ([made(0, "plain")], "stopped", "1 of 3 trials"),
        ([made(i, "plain") for i in range(3)], "done", "3 of 3 trials"),
        ([made(i, "plain") for i in range(4)], "done", "4 trials"),
    ],
)
def test_a_study_is_in_a_state_and_has_so_many_trials(
    trials: list[FrozenTrial], state: str, counted: str
) -> None:
    found = course(trials)
    assert (found.state, found.counted, found.data) == (state, counted, "digits")


def test_times_are_of_the_first_and_the_last_trial() -> None:
    trials = [made(0, "plain"), made(1, "plain"), made(2, "plain", state=RUNNING)]
    for i, trial in enumerate(trials):
        trial.datetime_start = datetime(2026, 1, 1 + i)
    trials[0].datetime_complete, trials[1].datetime_complete = datetime(2026, 1, 5), datetime(2026, 1, 4)
    assert (course(trials).began, course(trials).ended) == (datetime(2026, 1, 1), datetime(2026, 1, 5))
    assert (course([]).began, course([]).ended) == (None, None)


def test_a_study_that_does_not_tell_its_data_has_none() -> None:
    assert course_of(StudyRecord({}), []).data == ""
