from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import TrialState

from search.analysis.verdicts import OWN, Contrast, Standing, Verdicts, Versus, judge
from search.design.plan import Plan, PlannedRun
from search.stats.paired import Comparison, bootstrap_interval, compare_family
from tests.support.made_trials import records, shape_of
from tests.support.made_up import Gated, Halved, installed
from tests.support.plans import RATES, choice, ended, ended_runs, plan

DEPTHS = (9, 21, 45)
PLAN = plan(
    [choice(arm, depth, lr) for depth in DEPTHS for arm, lr in RATES.items()],
    seeds=(10,),
)
GAIN = {9: 0.0, 21: 0.0, 45: 0.4}
Score = Callable[[PlannedRun], float]


def noisy(run: PlannedRun) -> float:
    """Plain collapses with depth; a seed moves all its runs alike, and each a little on its own."""
    rng = random.Random(f"{run.replicate} {run.arm} {run.depth} {run.best_of}")
    seed = random.Random(run.replicate).gauss(0, 0.02)
    return 0.95 - GAIN[run.depth] * (run.arm == "plain") + seed + rng.gauss(0, 0.001)


def judged(plan: Plan, score: Score, **attrs: Any) -> Verdicts:
    return judge(plan, records(ended_runs(plan, score, **attrs)), 0)


def by_key(verdicts: Verdicts) -> dict[tuple[str, str, int], Any]:
    return {(v.arm, v.recipe, v.depth): v.result for v in verdicts.versus}


def contrasts(verdicts: Verdicts) -> dict[tuple[str, str], Contrast]:
    return {(c.name, c.arm): c for c in verdicts.contrasts}


def result(contrast: Contrast) -> Comparison:
    assert contrast.result is not None
    return contrast.result


def standing(verdicts: Verdicts, arm: str, depth: int) -> Standing:
    return next(s for s in verdicts.standings if (s.arm, s.depth) == (arm, depth))


@pytest.fixture(scope="module")
def full() -> Verdicts:
    return judge(PLAN, records(ended_runs(PLAN, noisy)), test_reads=210)


def test_words_come_from_pairs_that_share_a_seed(full: Verdicts) -> None:
    results = by_key(full)
    for arm in ("residual", "preact"):
        for recipe in (OWN, "plain", arm):
            words = [results[arm, recipe, depth].word for depth in DEPTHS]
            assert words == ["equal", "equal", "beats"], (arm, recipe)
            assert results[arm, recipe, 45].mean == pytest.approx(40, abs=0.2)
            assert results[arm, recipe, 45].pairs == 10
            # the seed's own noise, 2 points, cancels within pairs
            assert results[arm, recipe, 45].interval.high - results[arm, recipe, 45].interval.low < 0.5


def test_what_is_judged_is_the_plan(full: Verdicts) -> None:
    assert (full.search, full.baseline, full.margin, full.seeds) == ("digits", "plain", 1.0, (10,))
    assert (full.planned, full.finished, full.without_score, full.test_reads) == (210, 210, 0, 210)
    assert full.complete
    assert full.seconds == 2.0 * 210
    assert {versus.planned for versus in full.versus} == {10}
    more = judged(PLAN.with_seeds(12), noisy)
    assert (more.seeds, more.planned, {versus.planned for versus in more.versus}) == ((10, 12), 252, {12})


@pytest.mark.parametrize(("margin", "word"), [(1.0, "beats"), (1.5, "beats"), (2.5, "equal"), (3.0, "equal")])
def test_the_margin_of_the_plan_decides_the_words(margin: float, word: str) -> None:
    """The arms are two points apart, under own recipes and as twins."""
    close = judged(replace(PLAN, margin=margin), lambda run: 0.9 - 0.02 * (run.arm == "plain"))
    assert close.margin == margin
    assert {(v.recipe, v.result.word if v.result else None) for v in close.versus} == {
        (recipe, word) for recipe in (OWN, "plain", "residual", "preact")
    }


def test_depth_hypotheses_have_no_margin() -> None:
    """Half a point is a loss, whatever counts as a difference between arms."""
    slight = judged(
        replace(PLAN, margin=3.0), lambda run: 0.9 - 0.005 * (run.arm == "plain") * (run.depth == 45)
    )
    found = contrasts(slight)
    assert result(found["degradation", "plain"]).word == "loses"
    assert result(found["interaction", "residual"]).word == "beats"


def test_own_recipes_are_compared_across_recipes_and_twins_within_one() -> None:
    """Residual is better by 10 points under its own recipe alone, plain by 5 under residual's recipe."""

    def score(run: PlannedRun) -> float:
        own = run.best_of == (run.arm,)
        return (
            0.6
            + (0.1 if run.arm == "residual" and own else 0)
            + (0.05 if run.arm == "plain" and run.best_of == ("residual",) else 0)
        )

    results = by_key(judged(PLAN, score))
    assert results["residual", OWN, 9].mean == pytest.approx(10)
    assert results["residual", "residual", 9].mean == pytest.approx(5)
    assert results["residual", "plain", 9].mean == pytest.approx(0)


def test_holm_corrects_over_the_depths_of_one_question(full: Verdicts) -> None:
    """Holm corrects neither over arms nor over recipes."""
    for arm in ("residual", "preact"):
        for recipe in (OWN, "plain", arm):
            found = [by_key(full)[arm, recipe, depth] for depth in DEPTHS]
            assert min(c.holm_p for c in found) == pytest.approx(3 * min(c.p for c in found))


def test_equal_accuracies_tie_however_they_were_rounded() -> None:
    results = by_key(judged(PLAN, lambda run: 0.3 if run.arm == "plain" else 0.1 + 0.2))
    assert (results["residual", OWN, 9].ties, results["residual", OWN, 9].mean) == (10, 0.0)


def test_depth_hypotheses(full: Verdicts) -> None:
    found = contrasts(full)
    assert list(found) == [
        *(("degradation", arm) for arm in RATES), ("interaction", "residual"), ("interaction", "preact"),
    ]  # fmt: skip
    degradation = found["degradation", "plain"]
    assert (degradation.shallow, degradation.deep) == (9, 45)
    assert result(degradation).mean == pytest.approx(-40, abs=0.2)
    assert result(degradation).word == "loses"
    assert result(found["degradation", "residual"]).mean == pytest.approx(0, abs=0.2)
    interaction = found["interaction", "preact"]
    assert (interaction.shallow, interaction.deep) == (9, 45)
    assert result(interaction).mean == pytest.approx(40, abs=0.2)


def test_degradation_goes_by_training_accuracy_and_interaction_by_test_accuracy() -> None:
    """Deep plain stacks train 3 points better and test 20 worse than shallow ones: overfitting, which is no
    degradation. Residual networks train 7 points worse and test 10 points worse."""
    test = {("plain", 9): 0.8, ("plain", 45): 0.6, ("residual", 9): 0.9, ("residual", 45): 0.8}
    train = {("plain", 9): 0.91, ("plain", 45): 0.94, ("residual", 9): 0.97, ("residual", 45): 0.90}
    trials = ended_runs(PLAN, lambda run: test.get((run.arm, run.depth), 0.5))
    for run, trial in zip(PLAN.runs(), trials, strict=True):
        trial.user_attrs["train_accuracy"] = train.get((run.arm, run.depth), 0.4)
        trial.user_attrs["val_accuracy"] = 0.1 + run.depth / 100
    found = contrasts(judge(PLAN, records(trials), 0))
    assert result(found["degradation", "plain"]).mean == pytest.approx(3)
    assert result(found["degradation", "residual"]).mean == pytest.approx(-7)
    assert result(found["interaction", "residual"]).mean == pytest.approx(10)
    assert result(found["interaction", "preact"]).mean == pytest.approx(20)


def test_degradation_is_from_the_depth_that_validated_best_and_interaction_from_the_shallowest() -> None:
    best = {9: 0.8, 21: 0.95, 45: 0.99}
    middle = replace(PLAN, choices=tuple(replace(c, val_accuracy=best[c.depth]) for c in PLAN.choices))
    found = contrasts(judged(middle, lambda run: 0.9 - run.depth / 1000 * (run.arm == "plain")))
    assert (found["degradation", "plain"].shallow, found["degradation", "plain"].deep) == (21, 45)
    assert result(found["degradation", "plain"]).mean == pytest.approx(-2.4)
    assert (found["interaction", "preact"].shallow, found["interaction", "preact"].deep) == (9, 45)
    assert result(found["interaction", "preact"]).mean == pytest.approx(3.6)


def test_of_one_depth_no_depth_is_asked_for() -> None:
    one = plan([choice(arm, 9, lr) for arm, lr in RATES.items()])
    assert judged(one, lambda run: 0.5).contrasts == ()


def test_standings_tell_each_accuracy_under_its_own_name() -> None:
    """Validation, test and training accuracy of the runs under the own recipe; none of them alike."""
    spread = {0: -0.01, 1: 0.0, 2: 0.02}
    three = replace(PLAN, seeds=(3,))
    trials = ended_runs(three, lambda run: 0.6 + spread[run.replicate] if run.best_of == (run.arm,) else 0.3)
    for i, trial in enumerate(trials):
        trial.user_attrs |= {"val_accuracy": 0.7, "train_accuracy": 0.8, "cause": ("fine", "slow")[i % 2]}
        trial.user_attrs |= {"grad_ratio": -0.1 * (i // 21), "feature_cosine": 0.2 + 0.1 * (i // 21)}
    verdicts = judge(three, records(trials), 0)
    found = standing(verdicts, "residual", 21)
    assert (found.val, found.train) == pytest.approx((70, 80))
    assert found.test == pytest.approx(60 + 1 / 3)
    assert found.test_sd == pytest.approx((7 / 3) ** 0.5)
    assert (found.grad_ratio, found.feature_cosine) == pytest.approx((-0.1, 0.3)), "medians"
    assert sum(found.causes.values()) == found.runs == 3
    assert by_key(verdicts)["residual", "residual", 21].mean == pytest.approx(30 + 1 / 3), (
        "of test accuracies"
    )


def test_standings_tell_where_a_recipe_came_from() -> None:
    """The winner's curse is visible: what the search saw, and what fresh seeds give."""
    chosen = replace(choice("plain", 9, val=0.93), trial=77, trial_depth=11, candidates=5)
    alone = judged(plan([chosen, choice("residual", 9, 0.2)], seeds=(1,)), lambda run: 0.55)
    found = standing(alone, "plain", 9)
    assert (found.search_trial, found.search_depth, found.candidates) == (77, 11, 5)
    assert (found.selected_val, found.test) == pytest.approx((93, 55))
    assert (found.runs, found.test_sd, found.grad_ratio) == (1, None, None), "no spread of one run"


def test_standings_come_by_arm_and_depth(full: Verdicts) -> None:
    assert [(s.arm, s.depth) for s in full.standings] == [(arm, depth) for arm in RATES for depth in DEPTHS]


def test_a_run_that_diverged_counts_as_chance_and_as_failed() -> None:
    trials = ended_runs(PLAN, lambda run: 0.9)
    for run, trial in zip(PLAN.runs(), trials, strict=True):
        if run.arm == "plain" and run.depth == 9 and run.best_of == ("plain",):
            trial.user_attrs |= {"outcome": "diverged", "test_accuracy": 0.1, "val_accuracy": 0.1}
    verdicts = judge(PLAN, records(trials), 0)
    plain = standing(verdicts, "plain", 9)
    assert (plain.failed, plain.fisher_p) == (10, None)
    assert plain.train == pytest.approx(10)
    rival = standing(verdicts, "residual", 9)
    assert rival.fisher_p is not None
    assert rival.fisher_p < 0.001
    assert standing(verdicts, "residual", 21).fisher_p == 1.0, "of the same depth"
    assert by_key(verdicts)["residual", OWN, 9].mean == pytest.approx(80)


def test_runs_fail_by_training_accuracy() -> None:
    found = standing(judged(PLAN, lambda run: 0.9, train_accuracy=0.15), "plain", 9)
    assert (found.failed, found.runs) == (10, 10)
    found = standing(judged(PLAN, lambda run: 0.15, train_accuracy=0.9), "plain", 9)
    assert found.failed == 0


def test_runs_that_are_missing_cost_their_pairs_alone() -> None:
    trials = ended_runs(PLAN, noisy)
    for trial in trials[:3]:
        trial.state, trial.user_attrs = TrialState.PRUNED, {"outcome": "oom", "train_seconds": 0.5}
    trials[5].state = TrialState.RUNNING
    verdicts = judge(PLAN, records(trials), 0)
    assert (verdicts.finished, verdicts.planned, verdicts.without_score) == (209, 210, 3)
    assert not verdicts.complete
    assert by_key(verdicts)["residual", "plain", 9].pairs == 9
    assert by_key(verdicts)["residual", "residual", 9].pairs == 10
    assert verdicts.seconds == 2.0 * 206 + 0.5 * 3, "lost runs cost as well"


def test_an_arm_that_has_no_recipe_at_a_depth_is_compared_at_the_others() -> None:
    some = plan([c for c in PLAN.choices if (c.arm, c.depth) != ("preact", 45)], seeds=(6,))
    verdicts = judged(some, noisy)
    assert [v.depth for v in verdicts.versus if (v.arm, v.recipe) == ("preact", OWN)] == [9, 21]
    assert [v.depth for v in verdicts.versus if (v.arm, v.recipe) == ("residual", OWN)] == [9, 21, 45]
    assert contrasts(verdicts)["degradation", "preact"].result is None


def test_all_is_held_against_another_baseline_if_the_plan_has_one() -> None:
    """Plain is a rival like another."""
    test = {"plain": 0.5, "residual": 0.8, "preact": 0.9}
    other = replace(PLAN, baseline="residual")
    verdicts = judged(other, lambda run: test[run.arm] - 0.002 * run.depth * (run.arm == "residual"))
    assert verdicts.baseline == "residual"
    assert list(dict.fromkeys((v.arm, v.recipe) for v in verdicts.versus)) == [
        (arm, recipe) for arm in ("plain", "preact") for recipe in (OWN, "residual", arm)
    ]
    results = by_key(verdicts)
    for recipe in (OWN, "residual", "plain"):
        assert results["plain", recipe, 9].mean == pytest.approx(-30 + 1.8), recipe
        assert results["plain", recipe, 9].word == "loses"
    for recipe in (OWN, "residual", "preact"):
        assert results["preact", recipe, 9].mean == pytest.approx(10 + 1.8), recipe
    found = contrasts(verdicts)
    assert list(found) == [
        *(("degradation", arm) for arm in RATES), ("interaction", "plain"), ("interaction", "preact"),
    ]  # fmt: skip
    assert result(found["interaction", "plain"]).mean == pytest.approx(0.2 * (45 - 9))


def test_failures_are_held_against_those_of_the_baseline_at_the_same_depth() -> None:
    """Residual networks of 45 convs fail, and nothing else does."""
    other = replace(PLAN, baseline="residual")
    trials = ended_runs(other, lambda run: 0.5)
    for run, trial in zip(other.runs(), trials, strict=True):
        if (run.arm, run.depth) == ("residual", 45):
            trial.user_attrs["train_accuracy"] = 0.05
    verdicts = judge(other, records(trials), 0)
    assert [standing(verdicts, "residual", depth).fisher_p for depth in DEPTHS] == [None] * 3
    for arm in ("plain", "preact"):
        assert [(standing(verdicts, arm, depth).fisher_p or 0) < 0.001 for depth in DEPTHS] == [
            False, False, True,
        ]  # fmt: skip


def test_four_rivals_are_told_apart_also_those_that_are_not_installed_here() -> None:
    gains = {"plain": 0.0, "residual": 0.1, "preact": 0.15, "gated": 0.2, "halved": 0.3}
    five = plan(
        [choice(arm, depth, 0.1 + i) for depth in (9, 21) for i, arm in enumerate(gains)],
        seeds=(6,),
        baseline="preact",
    )
    with installed(Halved, Gated):
        trials = ended_runs(five, lambda run: 0.5 + gains[run.arm])
        here = judge(five, records(trials), 0)
    there = judge(five, records(trials), 0)
    unknown = tuple(replace(one, outline="") for one in here.standings if one.arm in ("gated", "halved"))
    assert unknown == tuple(one for one in there.standings if one.arm in ("gated", "halved"))
    assert replace(here, standings=()) == replace(there, standings=())
    rivals = list(dict.fromkeys(v.arm for v in here.versus))
    assert rivals == ["plain", "residual", "gated", "halved"]
    assert [v.result.mean if v.result else None for v in here.versus if (v.recipe, v.depth) == (OWN, 9)] == [
        pytest.approx(points) for points in (-15, -5, 5, 15)
    ]
    assert [account.arm for account in here.ledger] == list(gains)


def test_the_ledger_is_of_runs_under_the_own_recipe() -> None:
    verdicts = judged(PLAN, lambda run: 0.5)
    assert [(a.arm, a.trials, a.seconds) for a in verdicts.ledger] == [(arm, 30, 60.0) for arm in RATES]
    assert verdicts.unequal == ()
    trials = ended_runs(PLAN, lambda run: 0.5)
    for run, trial in zip(PLAN.runs(), trials, strict=True):
        if run.arm == "preact" and run.best_of == ("preact",):
            trial.user_attrs["train_seconds"] = 3.0
    assert judge(PLAN, records(trials), 0).unequal == ("seconds",)


@pytest.mark.parametrize("count", [0, 1, 2, 8, 30])
def test_a_confirmation_in_any_state_is_json(count: int) -> None:
    """Bounds that a single pair leaves open become null."""
    verdicts = judge(PLAN, records(ended_runs(PLAN, noisy)[:count]), 0)
    json.dumps(verdicts.to_json(), allow_nan=False)
    assert verdicts.finished == count
    one = Versus("residual", 9, OWN, 1, compare_family({9: [3.0]})[9])
    [versus] = replace(verdicts, versus=(one,)).to_json()["versus"]
    assert bootstrap_interval([3.0]).high == float("inf")
    assert versus["result"]["interval"] == [None, None]


def test_trials_beyond_the_plan_are_none_of_it() -> None:
    runs = list(PLAN.runs())
    extra = ended(len(runs), runs[0], 0.1)
    assert judge(PLAN, records([*ended_runs(PLAN, noisy), extra]), 210) == judge(
        PLAN, records(ended_runs(PLAN, noisy)), 210
    )


def test_the_schema_is_frozen(full: Verdicts) -> None:
    """A change here is a change for whoever reads `--json`: raise VERSION of search.views.findings."""
    comparison = dict.fromkeys(
        ("word", "more_pairs", "pairs", "mean", "median", "p", "holm_p", "signed_rank_p", "wins", "ties",
         "losses")
    ) | {"interval": [None], "superiority": [None]}  # fmt: skip
    shape = shape_of(full.to_json())
    assert shape == {
        **dict.fromkeys(
            ("search", "baseline", "margin", "planned", "finished", "without_score", "test_reads", "seconds")
        ),
        "seeds": [None],
        "versus": [dict.fromkeys(("arm", "depth", "recipe", "planned")) | {"result": comparison}],
        "contrasts": [dict.fromkeys(("name", "arm", "shallow", "deep")) | {"result": comparison}],
        "standings": [
            dict.fromkeys(
                ("arm", "depth", "search_trial", "search_depth", "candidates", "selected_val", "runs", "val",
                 "test", "test_sd", "train", "failed", "fisher_p", "grad_ratio", "feature_cosine",
                 "outline", "params", "macs")
            ) | {"causes": {"unknown": None}}
        ],
        "ledger": [
            dict.fromkeys(("arm", "trials", "to_the_end", "epochs", "seconds", "mean_params", "mean_macs"))
        ],
        "unequal": [],
    }  # fmt: skip
