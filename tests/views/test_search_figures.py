from __future__ import annotations

import re
from typing import Any

import plotly.graph_objects as go
import pytest
from optuna.trial import FrozenTrial, TrialState
from search.figures__GONE import figures
from search.palette import ARM_COLORS, CAUSE_COLORS

from search.analysis.evidence import gather
from search.web.page import page
from search.views.search_figures import degradation
from tests.support.made_trials import deep_pairs, findings, made, study_of

IDS = [
    "archsearch-1-degradation", "archsearch-2-beats", "archsearch-3-pairs", "archsearch-4-gradients",
    "archsearch-5-cost", "archsearch-6-budget", "archsearch-7-fairness",
]  # fmt: skip
STATES = {
    "empty": [],
    "failed": [made(0, "plain", state=TrialState.FAIL)],
    "running": [made(0, "plain", state=TrialState.RUNNING)],
    "pruned": [made(0, "plain", state=TrialState.PRUNED), made(1, "residual", state=TrialState.PRUNED)],
    "one": [made(0, "residual")],
}


def drawn(trials: list[FrozenTrial]) -> dict[str, go.Figure]:
    return figures(gather(trials), trials)


def named(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


@pytest.fixture(scope="module")
def thousand() -> dict[str, go.Figure]:
    return drawn(study_of(1000))


def test_figures_have_fixed_ids_and_fit_the_dashboard(thousand: dict[str, go.Figure]) -> None:
    assert list(thousand) == IDS
    for name, figure in thousand.items():
        assert len(figure.to_json()) < 50_000, name
        assert figure.layout.height == 450
        assert "bdata" not in figure.to_json(), "numbers as numbers"


def test_an_arm_has_one_colour_everywhere(thousand: dict[str, go.Figure]) -> None:
    used: dict[str, set[str]] = {arm: set() for arm in ("plain", "residual", "pre-activation")}
    for name in IDS:
        if "gradients" in name:
            continue
        for key, trace in named(thousand[name]).items():
            arm = key.partition(",")[0]
            if arm in used:
                used[arm].add(trace.line.color or trace.marker.color)
    assert used == {arm: {color} for arm, color in zip(used, ARM_COLORS.values(), strict=True)}
    assert not set(ARM_COLORS.values()) & set(CAUSE_COLORS.values())


def test_axes_have_titles_with_units(thousand: dict[str, go.Figure]) -> None:
    for name in (IDS[0], IDS[3], IDS[4], IDS[5]):
        assert re.search("convs|MACs|trials", thousand[name].layout.xaxis.title.text), name
        assert re.search("%|log10", thousand[name].layout.yaxis.title.text), name


def test_every_final_run_is_a_dot_and_no_pruned_one() -> None:
    trials = [made(0, "plain", 0.5), made(1, "plain", 0.7), made(2, "plain", 0.9, state=TrialState.PRUNED)]
    figure = drawn(trials)[IDS[0]]
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [list(trace.y) for trace in dots] == [[50.0, 70.0], [50.0, 70.0]]
    assert "plain, 2 of 3 ran to the end" in named(figure)


def test_the_sentence_is_the_title_and_the_turn_is_marked() -> None:
    trials = study_of(150)
    evidence = gather(trials)
    figure = degradation(evidence, trials)
    title = figure.layout.title.text
    assert title.replace("<br>", " ") == evidence.sentence
    assert all(len(line) <= 84 for line in title.split("<br>"))
    assert evidence.plain_turns_down_at is not None
    assert [shape.x0 for shape in figure.layout.shapes] == [evidence.plain_turns_down_at] * 2


def test_pairs_lead_from_plain_to_the_rival() -> None:
    figure = drawn(deep_pairs(2) + deep_pairs(1, blocks=3, first=50))[IDS[2]]
    lines = [trace for trace in figure.data if trace.x and trace.line.dash == "solid"]
    assert [trace.xaxis for trace in lines] == ["x", "x2"]  # the panels of the shallow and of the deep
    assert list(lines[1].x) == [0, -1, None] * 2
    assert figure.layout.xaxis2.ticktext == ("plain", "pre-activation")
    assert "xaxis2" not in drawn(deep_pairs(2))[IDS[2]].layout, "one panel where all are deep"


def test_the_front_holds_what_no_cheaper_run_beats() -> None:
    prices = [(1, 0.5), (2, 0.4), (3, 0.8), (3, 0.7), (4, 0.8)]
    trials = [made(i, "plain", value, macs=10**6 * macs) for i, (macs, value) in enumerate(prices)]
    front = named(drawn(trials)[IDS[4]])["best for the price"]
    assert (list(front.x), list(front.y)) == ([1, 3], [50, 80])


@pytest.mark.parametrize("trials", STATES.values(), ids=STATES)
def test_a_study_in_any_state_has_figures_and_a_page(trials: list[FrozenTrial]) -> None:
    found = drawn(trials)
    assert list(found) == IDS
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        assert "nothing finished yet" in [note.text for note in found[IDS[0]].layout.annotations]
    assert "archsearch-1-degradation" in page(findings(trials))


def test_the_page_needs_no_network_and_trusts_no_name() -> None:
    trials = study_of(60)
    html = page(findings(trials, "<script>alert(1)</script>"))
    assert "<script>alert(1)" not in html
    assert not re.search(
        r"""<(?:script|img|link|iframe)[^>]*(?:src|href)\s*=""", html.partition("</style>")[0]
    )
    assert not re.search(r"""<(?:script|img|link|iframe)[^>]* (?:src|href)=["']?(?:https?:)?//""", html)
    assert gather(trials).sentence in html
    assert html.count('class="plotly-graph-div"') == 5
