from __future__ import annotations

from optuna.trial import TrialState

from search.analysis.trials import arms_of, best_of, described, draws_of, of_arm, outcomes_of
from tests.support.made_trials import made, records
from tests.support.made_up import Halved, installed

PRUNED, RUNNING, FAIL = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL


def test_described_trials_have_ended_and_know_their_arm_and_depth() -> None:
    lost = made(3, "plain", state=FAIL)
    lost.user_attrs = {"worker": "x", "attempt": 3, "outcome": "lost"}
    trials = [
        made(0, "plain"), made(1, "plain", state=RUNNING), made(2, "preact", state=FAIL), lost,
        made(4, "plain", depth=0), made(5, "residual", state=PRUNED),
    ]  # fmt: skip
    assert [trial.number for trial in described(records(trials))] == [0, 2, 5]


def test_arms_come_in_their_order_and_those_that_are_not_installed_last() -> None:
    with installed(Halved):
        trials = [made(0, "halved"), made(1, "preact"), made(2, "plain"), made(3, "preact")]
    nameless = made(4, "plain")
    nameless.user_attrs["arm"] = ""
    assert arms_of(records([*trials, nameless])) == ["plain", "preact", "halved"]
    assert [trial.number for trial in of_arm(records(trials), "preact")] == [1, 3]


def test_the_best_ran_to_the_end_and_of_equal_ones_it_is_the_first() -> None:
    trials = [
        made(0, "plain", 0.5), made(1, "plain", 0.7), made(2, "plain", 0.7, train_accuracy=0.99),
        made(3, "plain", 0.9, state=PRUNED), made(4, "plain", 0.95, state=RUNNING),
    ]  # fmt: skip
    best = best_of(records(trials[::-1]))
    assert best is not None
    assert best.number == 1
    assert best_of(records(trials[3:])) is None


def test_draws_are_the_trials_of_a_group_by_arm_in_order_of_the_groups() -> None:
    trials = [
        made(0, "preact", group=2), made(1, "plain", group=2), made(2, "plain", group=0),
        made(3, "residual", group=1), made(4, "plain", group=None),
    ]  # fmt: skip
    draws = [{arm: trial.number for arm, trial in draw.items()} for draw in draws_of(records(trials))]
    assert draws == [{"plain": 2}, {"residual": 3}, {"preact": 0, "plain": 1}]


def test_outcomes_are_counted_by_their_names_and_by_optunas_where_there_is_none() -> None:
    trials = [
        made(0, "plain"), made(1, "plain", outcome="diverged"), made(2, "plain"),
        made(3, "plain", state=PRUNED), made(4, "plain", state=FAIL, outcome="lost"),
        made(5, "plain", state=RUNNING), made(6, "plain", state=FAIL, outcome=None),
    ]  # fmt: skip
    assert outcomes_of(records(trials)) == {"complete": 2, "diverged": 1, "pruned": 1, "lost": 1, "fail": 1}
