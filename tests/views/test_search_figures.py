from __future__ import annotations

import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest
from optuna.trial import FrozenTrial, TrialState

from models.arms.arm import ARMS
from search.analysis.evidence import gather
from search.views.search_figures import FIGURES, PAIRS, budget, degradation, pairs, search_figures
from search.views.sentence import sentence
from search.views.tables import account_table, duel_table
from search.views.trial_figures import DOTS
from tests.support.arms import OURS
from tests.support.figures import legend, named, outside, texts
from tests.support.made_trials import deep_pairs, made, records, study_of

PRUNED = TrialState.PRUNED
IDS = [
    "archsearch-1-degradation", "archsearch-2-beats", "archsearch-3-pairs", "archsearch-4-gradients",
    "archsearch-5-cost", "archsearch-6-budget", "archsearch-7-fairness", "archsearch-8-curves",
]  # fmt: skip
"""Names under which studies have stored their figures: they are forever."""
STATES = {
    "empty": [],
    "failed": [made(0, "plain", state=TrialState.FAIL)],
    "running": [made(0, "plain", state=TrialState.RUNNING)],
    "pruned": [made(0, "plain", state=PRUNED), made(1, "residual", state=PRUNED)],
    "one": [made(0, "residual")],
}


def drawn(trials: list[FrozenTrial], baseline: str = "plain") -> dict[str, go.Figure]:
    found = records(trials)
    evidence = gather(found, baseline)
    return search_figures(evidence, found, sentence(evidence))


def lines(figure: go.Figure, dash: str) -> list[Any]:
    return [trace for trace in figure.data if trace.x and trace.line.dash == dash]


@pytest.fixture(scope="module")
def thousand() -> dict[str, go.Figure]:
    curve = {name: [0.123 * (i % 7) for i in range(60)] for name in ("train_accuracy", "val_accuracy")}
    return drawn(study_of(1000, curve=curve))


def test_figures_have_fixed_names_and_fit_the_dashboard(thousand: dict[str, go.Figure]) -> None:
    assert [name for name in thousand if name in IDS] == IDS
    assert list(thousand) == sorted(thousand), "their places"
    for name, figure in thousand.items():
        assert len(figure.to_json()) < 50_000, name
        assert figure.layout.height == 450
        assert "bdata" not in figure.to_json(), "numbers as numbers"


def test_no_point_lies_beyond_its_axis(thousand: dict[str, go.Figure]) -> None:
    assert not {name: found for name, figure in thousand.items() if (found := outside(figure))}


@pytest.mark.parametrize("blocks", [1, 4, 60])
def test_trials_of_one_depth_are_all_seen(blocks: int) -> None:
    """Their medians stand in the middle of a band, where none of the trials is."""
    trials = [made(i, arm, 0.5 + 0.1 * i, blocks=blocks, macs=10**6) for i, arm in enumerate(ARMS)]
    assert not [point for figure in drawn(trials).values() for point in outside(figure)]


def test_an_arm_has_one_colour_everywhere(thousand: dict[str, go.Figure]) -> None:
    used: dict[str, set[str]] = {ARMS[arm].label: set() for arm in OURS}
    for name in thousand:
        if "gradients" in name:  # where colours are causes
            continue
        for key, trace in named(thousand[name]).items():
            label = key.partition(",")[0]
            if label in used:
                used[label].add(trace.line.color or trace.marker.color)
    assert used == {ARMS[arm].label: {ARMS[arm].color} for arm in OURS}


def test_axes_have_titles_with_units(thousand: dict[str, go.Figure]) -> None:
    for name in (IDS[0], IDS[3], IDS[4], IDS[5], IDS[7]):
        assert re.search("convs|MACs|trials|epoch", thousand[name].layout.xaxis.title.text), name
        assert re.search("%|log10", thousand[name].layout.yaxis.title.text), name


def test_every_run_to_the_end_is_a_dot_and_no_pruned_one() -> None:
    trials = [
        made(0, "plain", 0.5, train_accuracy=0.61),
        made(1, "plain", 0.7, train_accuracy=None),
        made(2, "plain", 0.9, state=PRUNED),
    ]
    figure = drawn(trials)[IDS[0]]
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(trace.xaxis, list(trace.y)) for trace in dots] == [("x", [61.0, None]), ("x2", [50.0, 70.0])]
    assert legend(figure) == ["plain, 2 of 3 ran to the end"]


def test_medians_have_their_intervals_at_the_middle_of_their_band() -> None:
    values = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    trials = [made(i, "plain", value, train_accuracy=value / 2, blocks=7) for i, value in enumerate(values)]
    one = [made(9, "plain", 0.3, train_accuracy=0.2, blocks=10)]
    training, validation = (t for t in drawn(trials + one)[IDS[0]].data if t.mode == "lines+markers")
    assert list(validation.x) == [17.3, 25.9], "the geometric middles of 15-20 and 21-32 convs"
    assert list(validation.y) == [75.0, 30.0]
    assert (list(validation.error_y.array), list(validation.error_y.arrayminus)) == ([20.0, 0], [25.0, 0])
    assert list(training.y) == [37.5, 20.0]
    assert (list(training.error_y.array), list(training.error_y.arrayminus)) == ([10.0, 0], [12.5, 0])
    assert (training.xaxis, validation.xaxis) == ("x", "x2")


def test_the_sentence_is_the_title_and_the_turn_is_marked() -> None:
    trials = records(study_of(150))
    evidence = gather(trials, "plain")
    figure = degradation(evidence, trials, sentence(evidence))
    title = figure.layout.title.text
    assert title.replace("<br>", " ") == sentence(evidence)
    assert all(len(line) <= 84 for line in title.split("<br>"))
    assert evidence.baseline_turns_down_at is not None
    assert [shape.x0 for shape in figure.layout.shapes] == [evidence.baseline_turns_down_at] * 2
    assert [note.text for note in figure.layout.annotations][2:] == ["plain turns down"] * 2


def test_a_baseline_that_does_not_turn_down_is_not_marked() -> None:
    assert not drawn(deep_pairs(3))[IDS[0]].layout.shapes


def test_pairs_lead_from_the_baseline_to_the_rival() -> None:
    figure = drawn(deep_pairs(2, blocks=10) + deep_pairs(1, blocks=9, first=50))[IDS[2]]
    solid = lines(figure, "solid")
    assert [trace.xaxis for trace in solid] == ["x", "x2"], "up to 20 convs, and from 21 on"
    assert list(solid[1].x) == [0, -1, None] * 2
    assert figure.layout.xaxis2.ticktext == ("plain", "pre-activation")
    assert "xaxis2" not in drawn(deep_pairs(2))[IDS[2]].layout, "one panel where all are deep"
    assert "Dotted" not in figure.layout.title.text, "no pair is cut"


def test_a_pair_begins_at_the_baselines_score_and_ends_at_the_rivals() -> None:
    trials = [
        made(0, "plain", 0.4), made(1, "residual", 0.7), made(2, "preact", 0.9),
        made(3, "plain", 0.5, group=1), made(4, "residual", group=1, state=PRUNED),
    ]  # fmt: skip
    trials[3].intermediate_values, trials[4].intermediate_values = {1: 0.2, 2: 0.3, 3: 0.5}, {1: 0.1, 2: 0.35}
    figure = drawn(trials)[IDS[2]]
    assert [list(trace.y) for trace in lines(figure, "solid")] == [[40.0, 70.0, None], [40.0, 90.0, None]]
    assert [list(trace.x)[:2] for trace in lines(figure, "solid")] == [[0, -1], [0, 1]]
    [dotted] = lines(figure, "dot")
    assert list(dotted.y) == [30.0, 35.0, None], "at the last epoch that both have"
    assert "Dotted: cut short" in figure.layout.title.text


def test_three_rivals_have_the_baseline_beside_each() -> None:
    arms = ("plain", "residual", "preact", "other")
    trials = [made(i, arm if arm in ARMS else "plain", 0.4 + 0.1 * i) for i, arm in enumerate(arms)]
    trials[3].user_attrs["arm"] = "other"
    figure = drawn(trials)[IDS[2]]
    assert figure.layout.xaxis.ticktext == ("plain", "plain", "plain", "residual", "pre-activation", "other")
    assert figure.layout.xaxis.tickvals == (0, 2, 4, 1, 3, 5)
    assert [list(trace.x) for trace in lines(figure, "solid")] == [[0, 1, None], [2, 3, None], [4, 5, None]]


def test_pairs_are_thinned_out_where_there_are_many() -> None:
    trials = records(deep_pairs(2 * PAIRS + 1))
    figure = pairs("plain", trials)
    assert len(lines(figure, "solid")[0].x) == 3 * 201


def test_dots_are_thinned_out_and_medians_are_of_all() -> None:
    trials = records([made(i, "plain", i / 2000, blocks=1 + i % 20) for i in range(2 * DOTS)])
    figure = degradation(gather(trials, "plain"), trials, "")
    assert len(figure.data[0].x) == DOTS
    middles = [level.val.median for level in gather(trials, "plain").levels if level.val]
    assert list(figure.data[3].y) == [round(middle, 1) for middle in middles]


def test_the_budget_has_a_band_and_a_line_for_each_arm() -> None:
    trials = [made(i, arm, 0.3 + 0.1 * i, group=i // 2) for i, arm in enumerate(("plain", "preact") * 3)]
    evidence = gather(records(trials), "plain")
    figure = budget(evidence)
    assert legend(figure) == ["plain", "pre-activation"]
    for (band, line), curve in zip(zip(*[iter(figure.data)] * 2, strict=True), evidence.budgets, strict=True):
        assert list(line.x) == list(curve.trials) == [1, 2, 3]
        assert list(line.y) == [round(y, 2) for y in curve.expected]
        assert list(band.x) == [1, 2, 3, 3, 2, 1]
        assert list(band.y) == [round(y, 2) for y in (*curve.high, *curve.low[::-1])]
        assert all(low <= mean <= high for low, mean, high in zip(curve.low, line.y, curve.high, strict=True))


def test_tables_among_the_figures_are_those_of_the_study() -> None:
    trials = study_of(90)
    evidence, figures = gather(records(trials), "plain"), drawn(trials)
    for name, table in (
        (IDS[1], duel_table(evidence)),
        (IDS[6], account_table(evidence.ledger, evidence.unequal)),
    ):
        assert list(figures[name].data[0].header.values) == list(table.columns)
        assert figures[name].layout.title.text.replace("<br>", " ") == table.title


@pytest.mark.parametrize("trials", STATES.values(), ids=STATES)
def test_a_study_in_any_state_has_its_figures(trials: list[FrozenTrial]) -> None:
    found = drawn(trials)
    assert list(found) == list(FIGURES)
    for figure in found.values():
        json.loads(figure.to_json())
        assert not outside(figure)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        assert "nothing finished yet" in [note.text for note in found[IDS[0]].layout.annotations]


def test_another_baseline_is_named_in_every_figure_that_has_one() -> None:
    trials = study_of(150)
    for trial in trials:  # whose residual networks collapse, and plain ones do not
        trial.user_attrs["arm"] = {"plain": "residual", "residual": "plain"}.get(
            trial.user_attrs["arm"], "preact"
        )
    figures = drawn(trials, "residual")
    assert "Against residual, points" in texts(figures[IDS[1]])
    assert "from residual to its rival" in texts(figures[IDS[2]])
    assert figures[IDS[2]].layout.xaxis.ticktext == ("residual", "plain", "pre-activation")
    marks = [note for note in figures[IDS[0]].layout.annotations if note.text == "residual turns down"]
    assert [note.font.color for note in marks] == [ARMS["residual"].color] * 2
    assert "to plain" in texts(figures[IDS[0]]) or "beats residual" in texts(figures[IDS[0]])
