from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import pytest
from optuna.trial import FrozenTrial, TrialState

from models.arms.arm import ARMS
from search.views.plots import CAUSE_COLORS
from search.views.trial_figures import DOTS, cost, curves, deep_twins, gradients, layers
from tests.support.arms import OURS
from tests.support.figures import legend, named, outside
from tests.support.made_trials import made, records

PRUNED = TrialState.PRUNED


def curve(*shares: float, **further: Any) -> dict[str, Any]:
    """Training, and validation a tenth below it."""
    return {"train_accuracy": list(shares), "val_accuracy": [round(s - 0.1, 3) for s in shares], **further}


def telling(trials: list[FrozenTrial], baseline: str = "plain") -> go.Figure:
    return curves(baseline, records(trials))


def panel(figure: go.Figure, axis: str) -> dict[str, tuple[list[float], list[float]]]:
    return {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data if trace.xaxis == axis}


def test_the_start_of_training_is_drawn_by_cause_and_arm() -> None:
    trials = [
        made(0, "plain", blocks=1, cause="fine", grad_ratio=-1.234, feature_cosine=0.56789),
        made(1, "preact", blocks=2, cause="fine", grad_ratio=0.5, feature_cosine=None),
        made(2, "plain", blocks=3, cause="slow", grad_ratio=-2.0, feature_cosine=0.9, state=PRUNED),
        made(3, "residual", blocks=4, cause="slow", grad_ratio=None),
    ]
    figure = gradients(records(trials))
    dots = [trace for trace in figure.data if not trace.name]
    assert [(t.xaxis, list(t.x), list(t.y), t.marker.color, t.marker.symbol) for t in dots] == [
        ("x", [3], [-1.23], CAUSE_COLORS["fine"], "circle"),
        ("x2", [3], [0.568], CAUSE_COLORS["fine"], "circle"),
        ("x", [5], [0.5], CAUSE_COLORS["fine"], "diamond"),
        ("x2", [5], [None], CAUSE_COLORS["fine"], "diamond"),
        ("x", [7], [-2.0], CAUSE_COLORS["slow"], "circle"),
        ("x2", [7], [0.9], CAUSE_COLORS["slow"], "circle"),
    ]
    assert legend(figure) == ["fine", "slow", "plain", "pre-activation"], "those that are there, each once"
    assert named(figure)["slow"].marker.color == CAUSE_COLORS["slow"]
    assert named(figure)["pre-activation"].marker.symbol == ARMS["preact"].symbol
    assert not outside(figure)


def test_without_measures_there_is_nothing_to_draw() -> None:
    figure = gradients(records([made(0, "plain")]))
    assert [note.text for note in figure.layout.annotations][-1] == "nothing measured yet"


def test_measures_are_thinned_out() -> None:
    trials = [made(i, "plain", cause="fine", grad_ratio=i / 7) for i in range(DOTS + 1)]
    assert len(gradients(records(trials)).data[0].x) == (DOTS + 1) / 2 + 0.5


def test_the_front_holds_what_no_cheaper_run_beats() -> None:
    prices = [(1, 0.5), (2, 0.4), (3, 0.8), (3, 0.7), (4, 0.8), (5, 0.81)]
    trials = [made(i, "plain", value, macs=10**6 * macs) for i, (macs, value) in enumerate(prices)]
    pruned = made(9, "plain", 0.99, macs=10**6, state=PRUNED)
    front = named(cost(records([*trials, pruned])))["best for the price"]
    assert (list(front.x), list(front.y)) == ([1, 3, 5], [50, 80, 81])


def test_every_run_to_the_end_that_has_a_price_is_a_dot() -> None:
    trials = [
        made(4, "preact", 0.876, macs=1_234_567), made(5, "plain", 0.5, macs=45),
        made(6, "plain", 0.6), made(7, "plain", 0.7, macs=10**6, state=PRUNED),
    ]  # fmt: skip
    figure = cost(records(trials))
    assert legend(figure) == ["plain", "pre-activation", "best for the price"]
    ours = named(figure)["pre-activation"]
    assert (list(ours.x), list(ours.y), list(ours.text)) == ([1.23], [87.6], ["#4"])
    assert list(named(figure)["plain"].x) == [4.5e-05]
    empty = cost(records([made(6, "plain", 0.6)]))
    assert [note.text for note in empty.layout.annotations][-1] == "nothing finished yet"


def test_the_draw_whose_arms_end_farthest_apart_is_drawn() -> None:
    trials = [
        made(0, "plain", 0.7, group=0, blocks=1, curve=curve(0.3, 0.8)),
        made(1, "residual", 0.9, group=0, blocks=1, curve=curve(0.4, 0.9)),
        made(2, "plain", 0.6, group=1, blocks=4, curve=curve(0.2, 0.5, 0.7)),
        made(3, "residual", 0.82, group=1, blocks=4, curve=curve(0.3, 0.6, 0.8)),
        made(4, "preact", 0.95, group=1, blocks=4, curve=curve(0.5, 0.7, 0.9)),
        made(5, "plain", 0.97, group=2, blocks=9, curve=curve(0.9)),
        made(6, "preact", 0.7, group=2, blocks=9, curve=curve(0.6)),
    ]
    figure = telling(trials)
    assert (
        "Accuracy by epoch of 9 convs: the draw whose arms ended farthest apart" in figure.layout.title.text
    )
    assert panel(figure, "x") == {
        "plain, #2": ([1, 2, 3], [20.0, 50.0, 70.0]),
        "residual, #3": ([1, 2, 3], [30.0, 60.0, 80.0]),
        "pre-activation, #4": ([1, 2, 3], [50.0, 70.0, 90.0]),
    }
    assert panel(figure, "x2") == {
        "plain, #2": ([1, 2, 3], [10.0, 40.0, 60.0]),
        "residual, #3": ([1, 2, 3], [20.0, 50.0, 70.0]),
        "pre-activation, #4": ([1, 2, 3], [40.0, 60.0, 80.0]),
    }
    assert legend(figure) == ["plain, #2", "residual, #3", "pre-activation, #4"], "each once"
    assert {trace.line.color for trace in figure.data} == {ARMS[arm].color for arm in OURS}


def test_a_draw_counts_by_those_that_ended_and_have_a_curve() -> None:
    def pair(first: int, theirs: dict[str, Any], ours: dict[str, Any]) -> list[FrozenTrial]:
        """A draw whose baseline and rival end as far apart as its number is high."""
        gap, shared = 0.1 + first / 1000, {"group": first, "blocks": 1 + first}
        return [
            made(first, "plain", 0.2, **{"curve": curve(0.5)} | shared | theirs),
            made(first + 1, "residual", 0.2 + gap, **{"curve": curve(0.6)} | shared | ours),
        ]

    trials = [
        *pair(0, {}, {}),
        *pair(10, {"state": PRUNED}, {}),
        *pair(20, {}, {"state": PRUNED}),
        *pair(30, {"curve": {}}, {}),
        *pair(40, {}, {"curve": {}}),
    ]
    assert [trace.name for trace in telling(trials).data if trace.showlegend] == ["plain, #0", "residual, #1"]
    assert [note.text for note in telling(trials[2:]).layout.annotations][-1] == "no curves yet"
    assert telling(trials[2:]).layout.title.text.startswith("Accuracy by epoch: the draw")


@pytest.mark.parametrize("baseline", ["plain", "residual", "preact"])
def test_the_draw_needs_its_baseline_wherever_that_stands(baseline: str) -> None:
    """Arms are drawn in their own order, in which the baseline need not be the first."""
    arms = [arm for arm in OURS if arm != baseline]
    trials = [made(i, arm, 0.1 + 0.8 * i, group=0, curve=curve(0.5)) for i, arm in enumerate(arms)]
    trials += [made(5 + i, arm, 0.4 + 0.1 * i, group=1, curve=curve(0.5)) for i, arm in enumerate(OURS)]
    assert legend(telling(trials, baseline)) == ["plain, #5", "residual, #6", "pre-activation, #7"]


def test_a_thinned_curve_is_drawn_at_its_epochs() -> None:
    trials = [
        made(0, "plain", 0.5, curve=curve(0.2, 0.4, 0.6, epoch=[1, 3, 5])),
        made(1, "preact", 0.9, curve=curve(0.3, 0.5, 0.7, epoch=[1, 3, 5])),
    ]
    figure = telling(trials)
    assert {tuple(trace.x) for trace in figure.data} == {(1, 3, 5)}
    assert not outside(figure)


def test_an_epoch_whose_value_is_no_number_is_a_gap() -> None:
    trials = [
        made(0, "plain", 0.5, curve={"train_accuracy": [0.2, None], "val_accuracy": [None, 0.5]}),
        made(1, "preact", 0.9, curve={"val_accuracy": [0.3, 0.4]}),
    ]
    figure = telling(trials)
    assert list(panel(figure, "x")["plain, #0"][1]) == [20.0, None]
    assert panel(figure, "x")["pre-activation, #1"] == ([], [])


def twins(group: int, blocks: int, plain: float, **measured: Any) -> list[FrozenTrial]:
    known = {"curve": curve(0.5), "group": group, "blocks": blocks, **measured}
    return [made(2 * group, "plain", plain, **known), made(2 * group + 1, "residual", 0.9, **known)]


def test_the_gradient_of_every_conv_is_drawn_at_the_start_and_in_the_end() -> None:
    trials = records(twins(0, 13, 0.5, gradients={"start": [-3.0, 0.0], "end": [1.0]}))
    figure = layers(trials, "a title")
    assert figure.layout.title.text == "a title"
    assert panel(figure, "x")["plain, #0: 50.0 %"] == ([1, 2], [0.001, 1.0])
    assert panel(figure, "x2")["residual, #1: 90.0 %"] == ([1], [10.0])
    assert legend(figure) == ["plain, #0: 50.0 %", "residual, #1: 90.0 %"]
    assert not outside(figure)
    bare = layers(records(twins(0, 13, 0.5)), "a title")
    assert [note.text for note in bare.layout.annotations][-1] == "no gradients were kept"


def test_the_twins_to_look_at_are_deep_measured_and_far_apart() -> None:
    measured = {"gradients": {"start": [0.0], "end": [0.0]}}
    shallow, deep = twins(0, 3, 0.1, **measured), twins(1, 13, 0.6, **measured)
    near, bare = twins(2, 13, 0.8, **measured), twins(3, 13, 0.2)
    chosen = deep_twins("plain", records([*shallow, *deep, *near, *bare]))
    assert [trial.number for trial in chosen] == [2, 3]
    assert [trial.number for trial in deep_twins("plain", records(shallow))] == [0, 1]
    assert deep_twins("plain", records(bare)) == []
