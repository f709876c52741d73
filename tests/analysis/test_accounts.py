from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.trial import FrozenTrial, TrialState

from models.presets import preset
from search.analysis.accounts import (
    Account,
    Failures,
    account_of,
    budget_of,
    classes_of,
    failures_of,
    noise_of,
    unequal_columns,
)
from search.analysis.trials import of_arm
from search.stats.runs import expected_best
from tests.support.made_trials import made, records

PRUNED, FAIL = TrialState.PRUNED, TrialState.FAIL


def failures(trials: list[FrozenTrial], arm: str, baseline: str = "plain", classes: int = 10) -> Failures:
    known = records(trials)
    by_arm = {name: of_arm(known, name) for name in ("plain", "residual", "preact")}
    return failures_of(arm, by_arm, baseline, classes)


def test_a_run_fails_that_diverged_or_trained_below_twice_chance() -> None:
    """Training accuracy decides, whatever the score: a network that overfits has learned."""
    trials = [
        made(0, "plain", 0.9, outcome="diverged", train_accuracy=0.9),
        made(1, "plain", 0.1, train_accuracy=0.95),
        made(6, "plain", 0.1, train_accuracy=0.6),
        made(2, "plain", 0.9, train_accuracy=0.19),
        made(3, "plain", 0.5, train_accuracy=None),
        made(4, "plain", 0.1, state=PRUNED),
        made(5, "plain", 0.1, state=FAIL),
    ]
    found = failures(trials, "plain")
    assert (found.failed, found.to_the_end) == (2, 5)
    assert found.outcomes == {"diverged": 1, "complete": 4, "pruned": 1, "error": 1}
    assert failures(trials, "plain", classes=3).failed == 4, "twice chance is two thirds"


def test_a_run_without_a_training_accuracy_is_judged_by_its_score() -> None:
    found = failures([made(0, "plain", 0.1, train_accuracy=None), made(1, "plain", 0.3)], "plain")
    assert (found.failed, found.to_the_end) == (1, 2)


@pytest.mark.parametrize("baseline", ["plain", "residual"])
def test_failures_are_held_against_the_baselines(baseline: str) -> None:
    """Plain fails in all of six runs, residual in one, preact in none."""
    failing = {"plain": 6, "residual": 1, "preact": 0}
    trials = [
        made(10 * i + j, arm, 0.1 if j < count else 0.9)
        for i, (arm, count) in enumerate(failing.items())
        for j in range(6)
    ]
    p = {("plain", "residual"): 0.015, ("plain", "preact"): 0.0022, ("residual", "preact"): 1.0}
    for arm in failing:
        found = failures(trials, arm, baseline)
        assert (found.failed, found.to_the_end) == (failing[arm], 6)
        if arm == baseline:
            assert found.p_against_baseline is None
        else:
            pair = (arm, baseline) if (arm, baseline) in p else (baseline, arm)
            assert found.p_against_baseline == pytest.approx(p[pair], rel=0.02)


def test_without_runs_to_the_end_there_is_no_p() -> None:
    trials = [made(0, "residual", 0.9), made(1, "plain", 0.5, state=PRUNED)]
    assert failures(trials, "residual").p_against_baseline is None
    assert failures(trials, "plain") == Failures("plain", 0, 0, None, {"pruned": 1})


def test_a_pruned_trial_is_spent_and_counts_as_chance() -> None:
    trials = records([made(0, "plain", 0.5), made(1, "plain", 0.99, state=PRUNED)])
    budget = budget_of("plain", trials, chance=0.1)
    assert budget is not None
    assert (budget.arm, budget.trials) == ("plain", (1, 2))
    assert budget.expected == (30.0, 50.0)  # of one: 50 or chance, 10
    assert budget_of("plain", trials, chance=0.2).expected[0] == 35  # type: ignore[union-attr]
    assert budget_of("plain", trials[1:], chance=0.1) is None, "nothing has run to the end"


def test_a_trial_that_never_trained_is_not_spent() -> None:
    trials = records([made(0, "plain", 0.5), made(1, "plain", None, state=PRUNED, epochs=0)])
    assert budget_of("plain", trials, chance=0.1).trials == (1,)  # type: ignore[union-attr]


def test_a_budget_curve_is_of_scores_in_percent_at_about_two_dozen_budgets() -> None:
    scores = [0.3 + i / 2000 for i in range(500)]
    trials = records(made(i, "plain", score) for i, score in enumerate(scores))
    budget = budget_of("plain", trials, chance=0.1)
    assert budget is not None
    assert budget.trials[0] == 1
    assert budget.trials[-1] == 500
    assert 15 <= len(budget.trials) <= 25
    curve = expected_best([100 * score for score in scores], budget.trials)
    assert budget.expected == pytest.approx(curve.expected, abs=1e-3)
    assert budget.low == pytest.approx(curve.low, abs=1e-3)
    assert budget.high == pytest.approx(curve.high, abs=1e-3)


def test_noise_is_that_of_one_configuration_under_several_seeds() -> None:
    """Runs to the end count, by fingerprint; those without one are of no configuration."""
    trials = [
        made(0, "plain", 0.90, fingerprint="a"), made(1, "plain", 0.92, fingerprint="a"),
        made(2, "plain", 0.10, fingerprint="b"), made(3, "plain", 0.5, fingerprint="a", state=PRUNED),
        made(4, "plain", 0.3), made(5, "plain", 0.7),
    ]  # fmt: skip
    noise = noise_of(records(trials))
    assert noise is not None
    assert noise.sd == pytest.approx(2**0.5)
    assert noise.degrees_of_freedom == 1
    assert noise_of(records(trials[1:])) is None


def test_an_account_sums_what_was_spent_and_averages_what_was_trained() -> None:
    trials = [
        made(0, "plain", params=100, macs=7, epochs=15, train_seconds=2.04),
        made(1, "plain", params=300, macs=9, epochs=4, train_seconds=0.5, state=PRUNED),
        made(2, "plain", params=None, macs=None, epochs=0, train_seconds=None, state=FAIL),
    ]
    assert account_of("plain", records(trials)) == Account(
        arm="plain", trials=3, to_the_end=1, epochs=19, seconds=2.5, mean_params=200, mean_macs=8
    )
    assert account_of("plain", []) == Account("plain", 0, 0, 0, 0, None, None)


@pytest.mark.parametrize("column", ["trials", "epochs", "seconds", "mean_params", "mean_macs"])
def test_what_differs_by_more_than_five_percent_is_named(column: str) -> None:
    even = Account("plain", trials=100, to_the_end=1, epochs=100, seconds=100, mean_params=100, mean_macs=100)
    for value, found in ((95, ()), (94, (column,)), (105, ()), (106, (column,))):
        other = replace(even, to_the_end=90, **{column: value})  # type: ignore[arg-type]
        assert unequal_columns([even, other]) == found, value
    assert unequal_columns([even, replace(even, mean_macs=None)]) == ()
    assert unequal_columns([]) == ()


def test_classes_are_those_of_the_images_and_ten_where_no_trial_says() -> None:
    hundred = replace(preset("post"), classes=100).to_json()
    bare = made(0, "plain")
    bare.user_attrs = {"arm": "plain", "depth": 7}
    assert classes_of(records([bare, made(1, "plain", architecture=hundred)])) == 100
    assert classes_of(records([bare])) == 10
