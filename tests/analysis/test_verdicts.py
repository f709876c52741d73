from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest
from optuna.trial import FrozenTrial, TrialState
from search.plan__GONE import Run
from search.verdict_figures__GONE import verdict_figures
from search.verdict_text__GONE import plan_grid, standing_grid, tables, verdict_grid

from search.analysis.verdicts import OWN, Verdicts, judge
from search.design.plan import Plan
from search.views.confirmation_tables import confirmed
from tests.support.made_trials import made, shape_of
from tests.support.plans import RATES, choice, plan

DEPTHS = (9, 21, 45)
PLAN = plan(
    [choice(arm, depth, lr) for depth in DEPTHS for arm, lr in RATES.items()],
    seeds=(10,),
)
GAIN = {9: 0.0, 21: 0.0, 45: 0.4}


def ended(number: int, run: Run, test: float, train: float = 1.0, **attrs: Any) -> FrozenTrial:
    trial = made(number, run.arm, test, group=run.twins, blocks=run.depth // 2, test_accuracy=test, **attrs)
    trial.user_attrs["train_accuracy"] = train
    return trial


def outcomes(plan: Plan, score: Callable[[Run], float], **attrs: Any) -> list[FrozenTrial]:
    return [ended(i, run, score(run), score(run), **attrs) for i, run in enumerate(plan.runs())]


def noisy(run: Run) -> float:
    """Plain collapses with depth; a seed moves all its runs alike, and each a little on its own."""
    rng = random.Random(f"{run.replicate} {run.arm} {run.depth} {run.best_of}")
    seed = random.Random(run.replicate).gauss(0, 0.02)
    return 0.95 - GAIN[run.depth] * (run.arm == "plain") + seed + rng.gauss(0, 0.001)


def by_key(verdicts: Verdicts) -> dict[tuple[str, str, int], Any]:
    return {(v.arm, v.recipe, v.depth): v.result for v in verdicts.versus}


@pytest.fixture(scope="module")
def full() -> Verdicts:
    return judge(PLAN, outcomes(PLAN, noisy), test_reads=210)


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


def test_own_recipes_are_compared_across_recipes_and_twins_within_one() -> None:
    """Residual is better by 10 points under its own recipe alone, plain by 5 under residual's recipe."""

    def score(run: Run) -> float:
        own = run.best_of == (run.arm,)
        return (
            0.6
            + (0.1 if run.arm == "residual" and own else 0)
            + (0.05 if run.arm == "plain" and run.best_of == ("residual",) else 0)
        )

    results = by_key(judge(PLAN, outcomes(PLAN, score), 0))
    assert results["residual", OWN, 9].mean == pytest.approx(10)
    assert results["residual", "residual", 9].mean == pytest.approx(5)
    assert results["residual", "plain", 9].mean == pytest.approx(0)


def test_depth_hypotheses(full: Verdicts) -> None:
    found = {(c.name, c.arm): c for c in full.contrasts}
    assert (found["degradation", "plain"].shallow, found["degradation", "plain"].deep) == (9, 45)
    assert found["degradation", "plain"].result is not None
    assert found["degradation", "plain"].result.mean == pytest.approx(-40, abs=0.2)
    assert found["degradation", "plain"].result.word == "loses"
    assert found["interaction", "preact"].result is not None
    assert found["interaction", "preact"].result.mean == pytest.approx(40, abs=0.2)
    assert ("interaction", "plain") not in found


def test_the_winners_curse_is_visible(full: Verdicts) -> None:
    standing = next(s for s in full.standings if (s.arm, s.depth) == ("plain", 45))
    assert (standing.selected_val, standing.runs) == (90.0, 10)
    assert standing.val == pytest.approx(55, abs=2)
    assert standing.test == pytest.approx(55, abs=2)


def test_a_run_that_diverged_counts_as_chance_and_as_failed() -> None:
    trials = outcomes(PLAN, lambda run: 0.9)
    for run, trial in zip(PLAN.runs(), trials, strict=True):
        if run.arm == "plain" and run.depth == 9 and run.best_of == ("plain",):
            trial.user_attrs |= {"outcome": "diverged", "test_accuracy": 0.1, "val_accuracy": 0.1}
    verdicts = judge(PLAN, trials, 0)
    standing = next(s for s in verdicts.standings if (s.arm, s.depth) == ("plain", 9))
    assert (standing.failed, standing.train) == (10, pytest.approx(10))
    rival = next(s for s in verdicts.standings if (s.arm, s.depth) == ("residual", 9))
    assert rival.fisher_p is not None
    assert rival.fisher_p < 0.001
    assert by_key(verdicts)["residual", OWN, 9].mean == pytest.approx(80)


def test_runs_that_are_missing_cost_their_pairs_alone() -> None:
    trials = outcomes(PLAN, noisy)
    for trial in trials[:3]:
        trial.state, trial.user_attrs = TrialState.PRUNED, {"outcome": "oom", "arm": "plain", "depth": 9}
    trials[5].state = TrialState.RUNNING
    verdicts = judge(PLAN, trials, 0)
    assert (verdicts.finished, verdicts.planned, verdicts.without_score) == (209, 210, 3)
    assert not verdicts.complete
    assert by_key(verdicts)["residual", "plain", 9].pairs == 9
    assert by_key(verdicts)["residual", "residual", 9].pairs == 10
    assert confirmed(verdicts).startswith("So far, 209 of 210 runs (test images, 10 seeds): residual beats")
    assert "10/0/0" in str(verdict_grid(verdicts).rows)
    assert "9 of 10" in str(verdict_grid(verdicts).rows)


@pytest.mark.parametrize("count", [0, 1, 2, 8, 30])
def test_a_confirmation_in_any_state_is_shown(count: int) -> None:
    trials = outcomes(PLAN, noisy)[:count]
    verdicts = judge(PLAN, trials, 0)
    json.dumps(verdicts.to_json(), allow_nan=False)
    assert confirmed(verdicts)
    assert tables(verdicts)
    for figure in verdict_figures(verdicts, PLAN, trials).values():
        assert isinstance(figure, go.Figure)


def test_the_sentence_tells_every_depth(full: Verdicts) -> None:
    text = confirmed(full)
    assert text.startswith(
        "Confirmed (test images, 10 seeds): residual beats plain by 40 points [40, 40] at 45 convs"
    )
    assert text.count("equals plain at 9 and 21 convs") == 2
    added = judge(PLAN.with_seeds(12), outcomes(PLAN.with_seeds(12), noisy), 0)
    assert "(test images, 10, then 12 seeds after looking)" in confirmed(added)


def test_a_loss_is_told() -> None:
    worse = judge(PLAN, outcomes(PLAN, lambda run: 0.9 - 0.1 * (run.arm == "residual")), 0)
    assert "residual loses to plain by 10 points [10, 10] at 9" in confirmed(worse)


def test_figures_have_fixed_ids_and_fit_the_dashboard() -> None:
    five = plan(
        [choice(a, d, lr) for d in (9, 15, 21, 33, 45) for a, lr in RATES.items()],
        seeds=(20,),
    )
    trials = outcomes(
        five, lambda run: random.Random(str(run)).random(), grad_ratio=0.1, feature_cosine=0.123
    )
    figures = verdict_figures(judge(five, trials, 0), five, trials)
    assert list(figures) == [
        "archsearch-1-degradation", "archsearch-2-verdicts", "archsearch-3-differences", "archsearch-4-twins",
        "archsearch-5-selection", "archsearch-6-gradients", "archsearch-7-depth", "archsearch-8-fairness",
    ]  # fmt: skip
    for name, figure in figures.items():
        assert len(figure.to_json()) < 50_000, name
        assert figure.layout.height == 450


def test_every_run_is_a_dot_and_every_pair_a_line(full: Verdicts) -> None:
    trials = outcomes(PLAN, noisy)
    figures = verdict_figures(full, PLAN, trials)
    dots = [trace for trace in figures["archsearch-1-degradation"].data if trace.mode == "markers"]
    assert [len(trace.x) for trace in dots] == [30] * 6  # own recipes: 3 depths, 10 seeds; training and test
    lines = figures["archsearch-4-twins"].data
    assert [len([x for x in trace.x if x is not None]) for trace in lines] == [2 * 60] * 2


def test_the_plan_is_shown_before_it_is_trained() -> None:
    grid = plan_grid(PLAN)
    assert grid.rows[0] == ("9", *["#9, 9 convs, 90.0 %, best of 3"] * 3)
    assert standing_grid(judge(PLAN, [], 0)).rows[0][3:6] == ("90.0", "-", "-")


def test_the_schema_is_frozen(full: Verdicts) -> None:
    """A change here is a change for whoever reads `--json`: raise VERSION of search.findings."""
    comparison = dict.fromkeys(
        ("word", "more_pairs", "pairs", "mean", "median", "p", "holm_p", "signed_rank_p", "wins", "ties",
         "losses")
    ) | {"interval": [None], "superiority": [None]}  # fmt: skip
    shape = shape_of(full.to_json())
    assert shape == {
        **dict.fromkeys(
            ("search", "margin", "planned", "finished", "without_score", "test_reads", "seconds")
        ),
        "seeds": [None],
        "versus": [dict.fromkeys(("arm", "depth", "recipe", "planned")) | {"result": comparison}],
        "contrasts": [dict.fromkeys(("name", "arm", "shallow", "deep")) | {"result": comparison}],
        "standings": [
            dict.fromkeys(
                ("arm", "depth", "search_trial", "search_depth", "candidates", "selected_val", "runs", "val",
                 "test", "test_sd", "train", "failed", "fisher_p", "grad_ratio", "feature_cosine")
            ) | {"causes": {"unknown": None}}
        ],
        "ledger": [
            dict.fromkeys(("arm", "trials", "to_the_end", "epochs", "seconds", "mean_params", "mean_macs"))
        ],
        "unequal": [],
    }  # fmt: skip
