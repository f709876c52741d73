"""Verdicts as figures: by depth, against the baseline, twin by twin, and from selection to test."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go  # type: ignore[import-untyped]

from models.arms.arm import look
from search.analysis.scored_runs import Scored, own_runs, scored_runs, test_score, train_score
from search.analysis.verdicts import OWN, Verdicts
from search.design.plan import Plan, PlannedRun
from search.stats.paired import bootstrap_interval
from search.storage.trial_record import TrialRecord
from search.views.confirmation_tables import confirmed, contrast_table, fairness_table, verdict_table
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
)
from search.views.trial_figures import gradients


@dataclass(frozen=True)
class ConfirmationView:
    """All that figures of a confirmation may draw from."""

    verdicts: Verdicts
    plan: Plan
    scored: Scored


def confirmation_figures(
    verdicts: Verdicts, plan: Plan, trials: Sequence[TrialRecord]
) -> dict[str, go.Figure]:
    """Every figure by its name, in the order in which they are to be read."""
    view = ConfirmationView(verdicts, plan, scored_runs(plan, trials))
    return {name: draw(view) for name, draw in FIGURES.items()}


def by_depth(verdicts: Verdicts, plan: Plan, scored: Scored) -> go.Figure:
    """Every run a dot; means with 95 % intervals. Training beside test accuracy: what fails in training was
    not overfitted."""
    figure = panels(confirmed(verdicts), "training", "test")
    for i, arm in enumerate(plan.arms):
        shift = side_by_side(i, len(plan.arms))
        for panel, score in ((1, train_score), (2, test_score)):
            runs = {d: [score(t) for t in own_runs(scored, arm, d).values()] for d in plan.depths}
            runs = {depth: shares for depth, shares in runs.items() if shares}
            figure.add_trace(
                go.Scatter(
                    x=[round(d * shift, 1) for d, shares in runs.items() for _ in shares],
                    y=[percent_of(share) for shares in runs.values() for share in shares],
                    mode="markers", marker={"color": look(arm).color, "size": 4, "opacity": 0.35},
                    hoverinfo="x+y", showlegend=False, **on_panel(panel),
                )
            )  # fmt: skip
            figure.add_trace(_means(runs, arm, panel, shift))
    for panel in (1, 2):
        set_depth_axis(figure, [trial.depth for _, trial in scored], panel, plan.depths)
        set_axis(figure, "yaxis", panel, "accuracy, %" if panel == 1 else "", **ACCURACY)
    return figure if scored else empty(figure)


def _means(runs: dict[int, list[float]], arm: str, panel: int, shift: float) -> go.Scatter:
    means = {depth: 100 * statistics.fmean(shares) for depth, shares in runs.items()}
    bounds = {d: bootstrap_interval([100 * s for s in shares]) for d, shares in runs.items()}
    high = [min(bounds[d].high, 100) - m if len(runs[d]) > 1 else 0 for d, m in means.items()]
    low = [m - max(bounds[d].low, 0) if len(runs[d]) > 1 else 0 for d, m in means.items()]
    return go.Scatter(
        x=[round(depth * shift, 1) for depth in means],
        y=[round(mean, 2) for mean in means.values()],
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
            "array": [round(x, 2) for x in high], "arrayminus": [round(x, 2) for x in low],
        },
        mode="lines+markers", line={"color": look(arm).color, "width": 2},
        marker={"size": 8, "symbol": look(arm).symbol}, legendgroup=arm, showlegend=panel == 1,
        name=look(arm).label, **on_panel(panel),
    )  # fmt: skip


def against_baseline(verdicts: Verdicts, plan: Plan) -> go.Figure:
    """Means with 95 % intervals against the baseline; the band is the margin."""
    baseline, rivals = look(plan.baseline).label, plan.rivals
    title = f"Test accuracy against {baseline}: mean over seeds with 95 % interval; grey: the margin"
    figure = panels(title, "each under its own best recipe", f"twins, under {baseline}'s best recipe")
    for panel, recipe in ((1, OWN), (2, plan.baseline)):
        figure.add_shape(
            type="rect", x0=0, x1=1, xref=f"x{panel if panel > 1 else ''} domain",
            y0=-verdicts.margin, y1=verdicts.margin, yref=at_panel(panel)["yref"],
            fillcolor="#999999", opacity=0.25, line={"width": 0}, layer="below",
        )  # fmt: skip
        for i, arm in enumerate(rivals):
            found = [
                (v.depth, v.result)
                for v in verdicts.versus
                if (v.arm, v.recipe) == (arm, recipe) and v.result is not None and v.result.pairs > 1
            ]
            figure.add_trace(
                go.Scatter(
                    x=[round(depth * side_by_side(i, len(rivals)), 1) for depth, _ in found],
                    y=[round(result.mean, 2) for _, result in found],
                    error_y={
                        "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
                        "array": [round(r.interval.high - r.mean, 2) for _, r in found],
                        "arrayminus": [round(r.mean - r.interval.low, 2) for _, r in found],
                    },
                    text=[str(result) for _, result in found],
                    mode="lines+markers", line={"color": look(arm).color, "width": 1},
                    marker={"size": 8, "symbol": look(arm).symbol}, name=look(arm).label,
                    showlegend=panel == 1, **on_panel(panel),
                )
            )  # fmt: skip
        depths = sorted({versus.depth for versus in verdicts.versus})
        set_axis(figure, "xaxis", panel, "depth, convs", type="log", tickvals=depths)
        set_axis(figure, "yaxis", panel, f"points ahead of {baseline}" if panel == 1 else "", zeroline=True)
    return figure if any(versus.result for versus in verdicts.versus) else empty(figure)


def twins(plan: Plan, scored: Scored) -> go.Figure:
    """Every line leads from the baseline's run to its twin of another arm: equal weights, images and
    batches."""
    baseline, rivals = plan.baseline, plan.rivals
    figure = panels(
        f"Each line: one seed and recipe at one depth, from {look(baseline).label} to its twin", ""
    )
    groups: dict[int, dict[str, tuple[PlannedRun, TrialRecord]]] = {}
    for run, trial in scored:
        groups.setdefault(run.twins, {})[run.arm] = (run, trial)
    drawn = 0
    for i, arm in enumerate(rivals):
        pairs = [
            (group[baseline], group[arm]) for group in groups.values() if {baseline, arm} <= group.keys()
        ]
        drawn += len(pairs)
        places = {depth: place for place, depth in enumerate(plan.depths)}
        figure.add_trace(
            go.Scatter(
                x=[x for (run, _), _ in pairs for x in _ends(places[run.depth], i, len(rivals))],
                y=[
                    y
                    for (_, theirs), (_, ours) in pairs
                    for y in (percent_of(test_score(theirs)), percent_of(test_score(ours)), None)
                ],
                mode="lines+markers", marker={"size": 3}, line={"color": look(arm).color, "width": 1},
                opacity=0.6, hoverinfo="y", name=f"{look(baseline).label} to {look(arm).label}",
            )
        )  # fmt: skip
    ticks = {"tickvals": list(range(len(plan.depths))), "ticktext": [str(depth) for depth in plan.depths]}
    set_axis(figure, "xaxis", 1, "depth, convs", **ticks)
    set_axis(figure, "yaxis", 1, "test accuracy, %", **ACCURACY)
    return figure if drawn else empty(figure)


def _ends(place: int, arm: int, arms: int) -> tuple[float, float, None]:
    """The places at which a line begins and ends, the arms side by side within a depth."""
    width = 0.8 / arms
    left = place - 0.4 + arm * width
    return round(left + 0.1 * width, 3), round(left + 0.8 * width, 3), None


def selection(verdicts: Verdicts) -> go.Figure:
    """The winner's curse: the score that a recipe was chosen by, the same measure with fresh seeds, test."""
    title = "From the score that chose a recipe to the one that counts (means of fresh seeds)"
    figure = panels(title, "")
    steps = ("validation, in the search", "validation, retrained", "test")
    for arm in dict.fromkeys(standing.arm for standing in verdicts.standings):
        own = [s for s in verdicts.standings if s.arm == arm and s.val is not None and s.test is not None]
        figure.add_trace(
            go.Scatter(
                x=[x for _ in own for x in (*steps, None)],
                y=[y for s in own for y in (_tenth(s.selected_val), _tenth(s.val), _tenth(s.test), None)],
                text=[text for s in own for text in (*[f"{s.depth} convs"] * 3, None)],
                mode="lines+markers", marker={"size": 7, "symbol": look(arm).symbol}, name=look(arm).label,
                line={"color": look(arm).color, "width": 1.5},
            )
        )  # fmt: skip
    set_axis(figure, "xaxis", 1, "", type="category", range=[-0.3, 2.3])
    set_axis(figure, "yaxis", 1, "accuracy, %")
    return figure if any(standing.runs for standing in verdicts.standings) else empty(figure)


def _tenth(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


FIGURES: dict[str, Callable[[ConfirmationView], go.Figure]] = {
    "archsearch-1-degradation": lambda view: by_depth(view.verdicts, view.plan, view.scored),
    "archsearch-2-verdicts": lambda view: table_figure(verdict_table(view.verdicts)),
    "archsearch-3-differences": lambda view: against_baseline(view.verdicts, view.plan),
    "archsearch-4-twins": lambda view: twins(view.plan, view.scored),
    "archsearch-5-selection": lambda view: selection(view.verdicts),
    "archsearch-6-gradients": lambda view: gradients([trial for _, trial in view.scored]),
    "archsearch-7-depth": lambda view: table_figure(contrast_table(view.verdicts)),
    "archsearch-8-fairness": lambda view: table_figure(fairness_table(view.verdicts)),
}
"""To add a figure, add a line: its name, which says its place, and what draws it."""
