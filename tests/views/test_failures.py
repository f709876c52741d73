from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import TrialState

from search.storage.trial_record import TrialRecord
from search.views.failures import NAMED, failed_lines, why_failed
from tests.support.made_trials import made, records


def failed(number: int, outcome: str, **values: Any) -> Any:
    return made(number, "plain", state=TrialState.FAIL, outcome=outcome, **values)


@pytest.mark.parametrize(
    ("outcome", "values", "why"),
    [
        (
            "error",
            {"error": "Traceback\n  File x\nValueError: no such thing\n\n"},
            "ValueError: no such thing",
        ),
        ("error", {}, "no reason is known"),
        ("lost", {"attempt": 3}, "given up after 3 attempts"),
        ("lost", {"attempt": 1, "error": "the GPU failed"}, "given up after 1 attempt: the GPU failed"),
        ("oom", {}, "too little memory"),
        ("infeasible", {}, "more parameters than space.max_params"),
        ("complete", {}, ""),
        ("pruned", {}, ""),
    ],
)
def test_a_trial_that_failed_has_a_reason(outcome: str, values: dict[str, Any], why: str) -> None:
    assert why_failed(TrialRecord(failed(0, outcome, **values))) == why


def test_a_reason_fits_a_line() -> None:
    text = why_failed(TrialRecord(failed(0, "error", error="x" * 1000)))
    assert len(text) == 160
    assert text.endswith("x…")


def test_reasons_are_counted_the_most_frequent_first() -> None:
    trials = [failed(i, "error", error="KeyError: 'b'") for i in range(2, 2 + NAMED + 1)]
    trials += [failed(0, "oom"), failed(1, "oom"), made(9, "plain")]
    assert failed_lines(records(trials)) == [
        "4 trials ended with error: KeyError: 'b' (#2, #3, #4, …)",
        "2 trials ended with oom: too little memory (#0 and #1)",
    ]
    assert failed_lines(records([made(0, "plain")])) == []
