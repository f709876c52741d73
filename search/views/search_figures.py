"""Evidence as figures, for the dashboard's panels (half a screen wide, 450 px tall) and for a page.

Each is less than 50 kB: the dashboard stores a figure in rows of 2 kB and reads them again at every look.
Medians and intervals are of all runs; dots and lines are thinned out where there are many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go  # type: ignore[import-untyped]

from models.arms.arm import look
from search.analysis.bands import first_depth, halves_of, last_depth
from search.analysis.duels import at_common_epoch
from search.analysis.evidence import Evidence, Level
from search.analysis.trials import arms_of, described, draws_of, of_arm
from search.storage.trial_record import TrialRecord
from search.views.plots import (
    ACCURACY,
    at_panel,
    empty,
    on_panel,
    panels,
    percent_of,
    set_axis,
    set_depth_axis,
    side_by_side,
    table_figure,
    thinned,
)
from search.views.tables import account_table, duel_table
from search.views.trial_figures import DOTS, cost, curves, deep_layers, gradients
from search.views.words import convs

PAIRS = 300
"""Most pairs that are drawn of an arm."""


@dataclass(frozen=True)
class SearchView:
    """All that figures of a search may draw from."""

    evidence: Evidence
    trials: Sequence[TrialRecord]
    """The described trials of the search."""
    sentence: str
    """The sentence that stands above all of them."""


def search_figures(evidence: Evidence, trials: Sequence[TrialRecord], sentence: str) -> dict[str, go.Figure]:
    """Every figure by its name, in the order in which they are to be read."""
    view = SearchView(evidence, described(trials), sentence)
    return {name: draw(view) for name, draw in FIGURES.items()}


def degradation(evidence: Evidence, trials: Sequence[TrialRecord], sentence: str) -> go.Figure:
    """Training beside validation accuracy: what fails in training was not overfitted."""
    figure = panels(sentence, "training", "validation")
    ends = thinned([trial for trial in trials if trial.ran_to_the_end], DOTS)
    for i, arm in enumerate(evidence.arms):
        own, shift = of_arm(ends, arm), side_by_side(i, len(evidence.arms))
        for panel in (1, 2):
            shares = [trial.train_accuracy if panel == 1 else trial.score for trial in own]
            figure.add_trace(
                go.Scatter(
                    x=[round(trial.depth * shift, 1) for trial in own],
                    y=[percent_of(share) for share in shares],
                    mode="markers", marker={"color": look(arm).color, "size": 4, "opacity": 0.35},
                    text=[f"#{trial.number}" for trial in own], hoverinfo="x+y+text", showlegend=False,
                    **on_panel(panel),
                )
            )  # fmt: skip
            figure.add_trace(_medians([level for level in evidence.levels if level.arm == arm], panel, shift))
    for panel in (1, 2):
        set_depth_axis(figure, [trial.depth for trial in trials], panel)
        set_axis(figure, "yaxis", panel, "accuracy, %" if panel == 1 else "", **ACCURACY)
        if evidence.baseline_turns_down_at is not None:
            _mark_turn(figure, evidence.baseline, evidence.baseline_turns_down_at, panel)
    return figure if ends else empty(figure)


def _medians(levels: Sequence[Level], panel: int, shift: float) -> go.Scatter:
    """Medians with 95 % intervals, of one arm along its depths."""
    arm = levels[0].arm
    found = [(level, level.train if panel == 1 else level.val) for level in levels]
    rows = [(_centre(level.band) * shift, middle) for level, middle in found if middle is not None]
    ended, total = sum(level.to_the_end for level in levels), sum(level.trials for level in levels)
    return go.Scatter(
        x=[round(x, 1) for x, _ in rows],
        y=[round(m.median, 1) for _, m in rows],
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
            "array": [0 if m.high is None else round(m.high - m.median, 1) for _, m in rows],
            "arrayminus": [0 if m.low is None else round(m.median - m.low, 1) for _, m in rows],
        },
        mode="lines+markers", line={"color": look(arm).color, "width": 2},
        marker={"size": 8, "symbol": look(arm).symbol}, legendgroup=arm, showlegend=panel == 1,
        name=f"{look(arm).label}, {ended:,} of {total:,} ran to the end", **on_panel(panel),
    )  # fmt: skip


def _centre(band: str) -> float:
    """The middle of a band: geometric, as the axis is."""
    low = first_depth(band)
    if band.endswith("+"):
        return low * 0.8
    high = last_depth(band)
    return math.sqrt(low * high) if low > 1 else high * 0.8


def _mark_turn(figure: go.Figure, arm: str, depth: int, panel: int) -> None:
    ink = look(arm).color
    figure.add_shape(
        type="line", x0=depth, x1=depth, y0=0, y1=103, line={"color": ink, "dash": "dot"}, **at_panel(panel)
    )
    figure.add_annotation(
        x=math.log10(depth), y=3, text=f"{look(arm).label} turns down", showarrow=False, xanchor="right",
        xshift=-3, font={"size": 11, "color": ink}, **at_panel(panel),
    )  # fmt: skip


def pairs(baseline: str, trials: Sequence[TrialRecord]) -> go.Figure:
    """Every line leads from the baseline's run of a draw to the same draw as another arm."""
    draws = [draw for draw in draws_of(trials) if baseline in draw and len(draw) > 1]
    halves = halves_of(trials)
    shown = [half for half in halves if any(half.has(draw[baseline]) for draw in draws)] or [halves[0]]
    rivals = [arm for arm in arms_of(trials) if arm != baseline]
    title = f"Each line: one draw, from {look(baseline).label} to its rival"
    twins = [(draw[arm], draw[baseline]) for draw in draws for arm in rivals if arm in draw]
    if any(at_common_epoch(*pair) is not None for pair in twins):
        title += ". Dotted: cut short, at the last common epoch"
    figure = panels(title, *(convs(half.name) for half in shown))
    places = _places(rivals)
    drawn = 0
    for arm, ends in places.items():
        own = thinned([(draw[arm], draw[baseline]) for draw in draws if arm in draw], PAIRS)
        for panel, half in enumerate(shown, start=1):
            here = [pair for pair in own if half.has(pair[1])]
            ended = [
                (ours.score, theirs.score)
                for ours, theirs in here
                if ours.ran_to_the_end and theirs.ran_to_the_end
            ]
            cut = [values for pair in here if (values := at_common_epoch(*pair)) is not None]
            drawn += len(ended) + len(cut)
            figure.add_trace(_pair_lines(cut, ends, arm, panel, dotted=True))
            figure.add_trace(_pair_lines(ended, ends, arm, panel))
    names = {x: look(baseline).label for x, _ in places.values()} | {
        x: look(a).label for a, (_, x) in places.items()
    }
    for panel in range(1, len(shown) + 1):
        ticks = {"tickvals": list(names), "ticktext": list(names.values()), "showgrid": False}
        reach = [min(names, default=0) - 0.4, max(names, default=0) + 0.4]
        set_axis(figure, "xaxis", panel, "", range=reach, zeroline=False, **ticks)
        set_axis(figure, "yaxis", panel, "validation accuracy, %" if panel == 1 else "", **ACCURACY)
    figure.update_layout(margin={"b": 45})
    return figure if drawn else empty(figure)


def _places(rivals: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The places where the lines of each rival begin, at the baseline, and end: two rivals stand on either
    side of it, of more each has the baseline beside it."""
    if len(rivals) <= 2:
        return {arm: (0, 2 * i - 1) for i, arm in enumerate(rivals)}
    return {arm: (2 * i, 2 * i + 1) for i, arm in enumerate(rivals)}


def _pair_lines(
    values: Sequence[tuple[float, float]],
    ends: tuple[float, float],
    arm: str,
    panel: int,
    dotted: bool = False,
) -> go.Scatter:
    return go.Scatter(
        x=[x for _ in values for x in (*ends, None)],
        y=[y for ours, theirs in values for y in (percent_of(theirs), percent_of(ours), None)],
        mode="lines+markers", marker={"size": 4}, opacity=0.35 if dotted else 0.7, showlegend=False,
        line={"color": look(arm).color, "width": 1, "dash": "dot" if dotted else "solid"},
        hoverinfo="y", **on_panel(panel),
    )  # fmt: skip


def budget(evidence: Evidence) -> go.Figure:
    """The best that k trials of an arm can be expected to have, with 95 % bands."""
    title = "Expected best of k trials, 95 % band (exploratory; a pruned one counts as chance)"
    figure = panels(title, "")
    for curve in evidence.budgets:
        ink = look(curve.arm).color
        x = [*curve.trials, *reversed(curve.trials)]
        band = [round(y, 2) for y in (*curve.high, *reversed(curve.low))]
        figure.add_trace(
            go.Scatter(
                x=x, y=band, fill="toself", fillcolor=ink, opacity=0.15, line={"width": 0}, mode="lines",
                hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=list(curve.trials), y=[round(y, 2) for y in curve.expected], name=look(curve.arm).label,
                mode="lines+markers", line={"color": ink},
                marker={"size": 5, "symbol": look(curve.arm).symbol},
            )
        )  # fmt: skip
    set_axis(figure, "xaxis", 1, "trials of the arm, k", type="log", dtick="D2")
    set_axis(figure, "yaxis", 1, "expected best validation accuracy, %")
    return figure if evidence.budgets else empty(figure)


FIGURES: dict[str, Callable[[SearchView], go.Figure]] = {
    "archsearch-1-degradation": lambda view: degradation(view.evidence, view.trials, view.sentence),
    "archsearch-2-beats": lambda view: table_figure(duel_table(view.evidence)),
    "archsearch-3-pairs": lambda view: pairs(view.evidence.baseline, view.trials),
    "archsearch-4-conv-gradients": lambda view: deep_layers(view.evidence.baseline, view.trials),
    "archsearch-4-gradients": lambda view: gradients(view.trials),
    "archsearch-5-cost": lambda view: cost(view.trials),
    "archsearch-6-budget": lambda view: budget(view.evidence),
    "archsearch-7-fairness": lambda view: table_figure(
        account_table(view.evidence.ledger, view.evidence.unequal)
    ),
    "archsearch-8-curves": lambda view: curves(view.evidence.baseline, view.trials),
}
"""To add a figure, add a line: its name, which says its place, and what draws it."""
