from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from models.arms.arm import ARMS
from search.analysis.verdicts import judge
from search.design.plan import Plan, PlannedRun
from search.views.confirmation_figures import confirmation_figures
from search.views.confirmation_tables import confirmed
from search.views.plots import is_table
from tests.support.figures import legend, named, outside, texts
from tests.support.made_trials import records
from tests.support.plans import RATES, choice, ended_runs, plan

IDS = [
    "archsearch-1-degradation", "archsearch-2-verdicts", "archsearch-3-differences", "archsearch-4-twins",
    "archsearch-5-selection", "archsearch-6-gradients", "archsearch-7-depth", "archsearch-8-fairness",
]  # fmt: skip
"""Names under which studies have stored their figures: they are forever."""
DEPTHS = (9, 21, 45)
PLAN = plan([choice(arm, depth, lr) for depth in DEPTHS for arm, lr in RATES.items()], seeds=(10,))
TWO = plan([choice("plain", 9, 0.1), choice("residual", 9, 0.2)], seeds=(2,), margin=2.5)
"""Two recipes at one depth, each trained as both arms with two seeds: eight runs."""


def noisy(run: PlannedRun) -> float:
    rng = random.Random(f"{run.replicate} {run.arm} {run.depth} {run.best_of}")
    return 0.9 - 0.4 * (run.arm == "plain" and run.depth == 45) + rng.gauss(0, 0.01)


def stepwise(run: PlannedRun) -> float:
    """Every run another score: 0.5 and up, by seed, recipe and arm."""
    recipe = 0 if "plain" in run.best_of else 0.1
    return round(0.5 + 0.2 * (run.arm == "residual") + recipe + 0.02 * run.replicate, 3)


def drawn(given: Plan, score: Any, most: int | None = None, **attrs: Any) -> dict[str, go.Figure]:
    trials = records(ended_runs(given, score, **attrs)[:most])
    return confirmation_figures(judge(given, trials, 0), given, trials)


@pytest.fixture(scope="module")
def full() -> dict[str, go.Figure]:
    return drawn(PLAN, noisy)


def test_figures_have_fixed_names_and_fit_the_dashboard() -> None:
    five = plan([choice(a, d, lr) for d in (9, 15, 21, 33, 45) for a, lr in RATES.items()], seeds=(20,))
    figures = drawn(five, lambda run: random.Random(str(run)).random(), grad_ratio=0.1, feature_cosine=0.123)
    assert [name for name in figures if name in IDS] == IDS
    for name, figure in figures.items():
        assert len(figure.to_json()) < 50_000, name
        assert "bdata" not in figure.to_json(), "numbers as numbers"
        assert figure.layout.height == 450
        assert not outside(figure), name


def test_the_sentence_is_the_title() -> None:
    trials = records(ended_runs(PLAN, noisy))
    verdicts = judge(PLAN, trials, 0)
    title = confirmation_figures(verdicts, PLAN, trials)[IDS[0]].layout.title.text
    assert title.replace("<br>", " ") == confirmed(verdicts)


def test_every_run_under_its_own_recipe_is_a_dot_and_every_pair_a_line(full: dict[str, go.Figure]) -> None:
    dots = [trace for trace in full[IDS[0]].data if trace.mode == "markers"]
    assert [len(trace.x) for trace in dots] == [30] * 6, "3 depths, 10 seeds; training and test"
    lines = full[IDS[3]].data
    assert [len([x for x in trace.x if x is not None]) for trace in lines] == [2 * 60] * 2


def test_training_and_test_accuracy_are_drawn_at_their_depth() -> None:
    figure = drawn(TWO, stepwise)[IDS[0]]
    training, test = ([t for t in figure.data if t.xaxis == axis] for axis in ("x", "x2"))
    assert [list(t.y) for t in test if t.mode == "markers"] == [[50.0, 52.0], [80.0, 82.0]]
    assert [list(t.y) for t in training if t.mode == "markers"] == [[47.0, 49.0], [77.0, 79.0]]
    assert [list(t.x) for t in test if t.mode == "markers"] == [[8.9, 8.9], [9.1, 9.1]]
    assert [(list(t.x), list(t.y)) for t in test if t.name] == [([8.9], [51.0]), ([9.1], [81.0])]
    assert legend(figure) == ["plain", "residual"]
    assert list(figure.layout.xaxis.tickvals) == [9]


def test_intervals_of_means_stay_between_0_and_100() -> None:
    def score(run: PlannedRun) -> float:
        extremes = (0.0, 1.0) if run.arm == "plain" else (1.0, 1.0)
        return extremes[run.replicate % 2]

    means = [trace for trace in drawn(TWO, score, train_accuracy=1.0)[IDS[0]].data if trace.name]
    for trace in means:
        assert trace.y[0] + trace.error_y.array[0] <= 100
        assert trace.y[0] - trace.error_y.arrayminus[0] >= 0
    assert means[1].error_y.array[0] == 50


def test_differences_have_their_intervals_and_the_margin() -> None:
    figure = drawn(TWO, stepwise)[IDS[2]]
    own, twin = figure.data
    assert (own.xaxis, twin.xaxis) == ("x", "x2")
    assert (list(own.x), list(own.y)) == ([9.0], [30.0]), "alone, it stands at its depth"
    assert list(twin.y) == [20.0], "plain's recipe for both"
    assert [(shape.y0, shape.y1, shape.yref, shape.xref) for shape in figure.layout.shapes] == [
        (-2.5, 2.5, "y", "x domain"), (-2.5, 2.5, "y2", "x2 domain"),
    ]  # fmt: skip
    assert "points ahead of plain" in texts(figure)
    assert legend(figure) == ["residual"]


def test_intervals_of_differences_are_those_of_the_verdicts(full: dict[str, go.Figure]) -> None:
    verdicts = judge(PLAN, records(ended_runs(PLAN, noisy)), 0)
    shown = [trace for trace in full[IDS[2]].data if trace.xaxis == "x2"]
    for trace, arm in zip(shown, PLAN.rivals, strict=True):
        results = [v.result for v in verdicts.versus if (v.arm, v.recipe) == (arm, "plain")]
        for result, mean, high, low in zip(
            results, trace.y, trace.error_y.array, trace.error_y.arrayminus, strict=True
        ):
            assert result is not None
            assert mean == round(result.mean, 2)
            assert high == round(result.interval.high - result.mean, 2)
            assert low == round(result.mean - result.interval.low, 2)


def test_a_single_pair_has_no_interval_and_is_not_drawn() -> None:
    figure = drawn(replace(TWO, seeds=(1,)), stepwise)[IDS[2]]
    assert [list(trace.y) for trace in figure.data] == [[], []]


def test_twins_share_recipe_and_seed() -> None:
    figure = drawn(TWO, stepwise)[IDS[3]]
    [trace] = figure.data
    assert list(trace.y) == [50.0, 70.0, None, 60.0, 80.0, None, 52.0, 72.0, None, 62.0, 82.0, None]
    assert list(trace.x) == [-0.32, 0.24, None] * 4
    assert trace.name == "plain to residual"
    assert (figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext) == ((0,), ("9",))


def test_twins_of_several_arms_stand_side_by_side_within_their_depth(full: dict[str, go.Figure]) -> None:
    places = [sorted({x for x in trace.x if x is not None}) for trace in full[IDS[3]].data]
    for arm, found in enumerate(places):
        assert len(found) == 2 * len(DEPTHS)
        for place in range(len(DEPTHS)):
            begin, end = found[2 * place : 2 * place + 2]
            assert place - 0.4 + 0.4 * arm < begin < end < place - 0.4 + 0.4 * (arm + 1)


def test_the_way_from_selection_to_test_has_three_steps() -> None:
    changed = tuple(replace(c, val_accuracy=0.95 if c.arm == "plain" else 0.97) for c in TWO.choices)
    figure = drawn(replace(TWO, choices=changed), stepwise)[IDS[4]]
    assert list(named(figure)["plain"].y) == [95.0, 50.0, 51.0, None]
    assert list(named(figure)["residual"].y) == [97.0, 80.0, 81.0, None]
    assert list(named(figure)["plain"].x)[:3] == [
        "validation, in the search",
        "validation, retrained",
        "test",
    ]
    assert list(named(figure)["plain"].text) == ["9 convs"] * 3 + [None]


def test_an_arm_has_one_colour_everywhere(full: dict[str, go.Figure]) -> None:
    for name in (IDS[0], IDS[2], IDS[3], IDS[4]):
        for key, trace in named(full[name]).items():
            label = key.removeprefix("plain to ")
            arm = next(arm for arm in ARMS.values() if arm.label == label)
            assert trace.line.color == arm.color, name


def test_tables_among_the_figures_are_of_own_recipes_alone(full: dict[str, go.Figure]) -> None:
    assert set(full[IDS[1]].data[0].cells.values[1]) == {"own"}
    assert "own best recipe alone" in full[IDS[7]].layout.title.text.replace("<br>", " ")


@pytest.mark.parametrize("count", [0, 1, 2, 8, 30])
def test_a_confirmation_in_any_state_has_its_figures(count: int) -> None:
    for name, figure in drawn(PLAN, noisy, most=count).items():
        json.loads(figure.to_json())
        assert not outside(figure), name
        if count == 0 and not is_table(figure):
            assert "yet" in figure.layout.annotations[-1].text, name


def test_another_baseline_is_named_in_every_figure_that_has_one() -> None:
    figures = drawn(replace(PLAN, baseline="residual"), noisy)
    differences = texts(figures[IDS[2]])
    assert "Test accuracy against residual: mean" in differences
    assert "twins, under residual's best recipe" in differences
    assert "points ahead of residual" in differences
    assert legend(figures[IDS[2]]) == ["plain", "pre-activation"]
    assert legend(figures[IDS[3]]) == ["residual to plain", "residual to pre-activation"]
    assert "from residual to its twin" in texts(figures[IDS[3]])
    assert "Against residual on test images, mean points" in texts(figures[IDS[1]])
    assert "kept beyond residual" in texts(figures[IDS[6]])
