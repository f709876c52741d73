"""Evidence as figures, for the dashboard's panels (half a screen wide, 450 px tall) and for a page.

Each is less than 50 kB: the dashboard stores a figure in rows of 2 kB and reads them again at every look.
Medians and intervals are of all runs; dots and lines are thinned out where there are many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go  # type: ignore[import-untyped]
from optuna.trial import FrozenTrial

from search.drawing import (
    at_panel,
    empty,
    on_panel,
    panels,
    percent_of,
    set_axis,
    set_depth_axis,
    table,
    thinned,
)  # fmt: skip
from search.duels import DEEP, at_common_epoch, described
from search.evidence import Evidence, Level
from search.grids import CAUSES, beat_grid, ledger_grid
from search.palette import ARM_COLORS, CAUSE_COLORS, SYMBOLS
from search.scores import arms_of, final_score, groups_of, ran_to_the_end
from search.sentence import NAMES
from search.verdicts import Verdicts

DOTS, PAIRS = 900, 300
"""Runs drawn in a figure, pairs drawn of an arm."""
ACCURACY = {"range": [0, 103]}


def figures(evidence: Evidence, trials: Sequence[FrozenTrial]) -> dict[str, go.Figure]:
    """By id, in the order in which they are to be read."""
    known = described(trials)
    return {
        "archsearch-1-degradation": degradation(evidence, known),
        "archsearch-2-beats": table(beat_grid(evidence)),
        "archsearch-3-pairs": pairs(known),
        "archsearch-4-gradients": gradients(known),
        "archsearch-5-cost": cost(known),
        "archsearch-6-budget": budget(evidence),
        "archsearch-7-fairness": fairness(evidence),
    }


def degradation(evidence: Evidence, trials: Sequence[FrozenTrial]) -> go.Figure:
    """Training beside validation accuracy: what fails in training was not overfitted."""
    figure = panels(evidence.sentence, "training", "validation")
    ends = thinned([trial for trial in trials if ran_to_the_end(trial)], DOTS)
    for i, arm in enumerate(evidence.arms):
        own = [trial for trial in ends if trial.user_attrs["arm"] == arm]
        shift = 1.03 ** (i - (len(evidence.arms) - 1) / 2)  # arms side by side
        for panel in (1, 2):
            shares = [t.user_attrs.get("train_accuracy") if panel == 1 else final_score(t) for t in own]
            figure.add_trace(
                go.Scatter(
                    x=[round(t.user_attrs["depth"] * shift, 1) for t in own],
                    y=[percent_of(share) for share in shares],
                    mode="markers", marker={"color": ARM_COLORS[arm], "size": 4, "opacity": 0.35},
                    hoverinfo="x+y", showlegend=False, **on_panel(panel),
                )
            )  # fmt: skip
            figure.add_trace(_medians([level for level in evidence.levels if level.arm == arm], panel, shift))
    for panel in (1, 2):
        set_depth_axis(figure, trials, panel)
        set_axis(figure, "yaxis", panel, "accuracy, %" if panel == 1 else "", **ACCURACY)
        if evidence.plain_turns_down_at is not None:
            _mark_turn(figure, evidence.plain_turns_down_at, panel)
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
        mode="lines+markers", line={"color": ARM_COLORS[arm], "width": 2},
        marker={"size": 8, "symbol": SYMBOLS[arm]}, legendgroup=arm, showlegend=panel == 1,
        name=f"{NAMES[arm]}, {ended:,} of {total:,} ran to the end", **on_panel(panel),
    )  # fmt: skip


def _centre(band: str) -> float:
    """Geometric, as the axis is."""
    low, _, high = band.rstrip("+").partition("-")
    return math.sqrt(int(low) * int(high)) if high and int(low) > 1 else float(high or low) * 0.8


def _mark_turn(figure: go.Figure, depth: int, panel: int) -> None:
    color = ARM_COLORS["plain"]
    figure.add_shape(
        type="line", x0=depth, x1=depth, y0=0, y1=103, line={"color": color, "dash": "dot"}, **at_panel(panel)
    )
    figure.add_annotation(
        x=math.log10(depth), y=3, text="plain turns down", showarrow=False, xanchor="right", xshift=-3,
        font={"size": 11, "color": color}, **at_panel(panel),
    )  # fmt: skip


def pairs(trials: Sequence[FrozenTrial]) -> go.Figure:
    """Every line leads from the plain run of a draw to the same draw with shortcuts."""
    groups = [group for group in groups_of(trials) if "plain" in group and len(group) > 1]
    is_deep = {group["plain"].user_attrs["depth"] >= DEEP for group in groups}
    both = {False: f"up to {DEEP - 1} convs", True: f"{DEEP} convs or more"}
    shown = [deep for deep in both if deep in is_deep] or [False]
    title = "Each line: one draw, from plain to shortcuts. Dotted: cut short, at the last common epoch"
    figure = panels(title, *(both[deep] for deep in shown))
    places = {arm: 2 * i - 1 for i, arm in enumerate(a for a in arms_of(trials) if a != "plain")}
    drawn = 0
    for arm, place in places.items():
        own = thinned([(group[arm], group["plain"]) for group in groups if arm in group], PAIRS)
        for panel, deep in enumerate(shown, start=1):
            here = [pair for pair in own if (pair[1].user_attrs["depth"] >= DEEP) == deep]
            ended = [
                (final_score(ours), final_score(plain))
                for ours, plain in here
                if ran_to_the_end(ours) and ran_to_the_end(plain)
            ]
            cut = [values for pair in here if (values := at_common_epoch(*pair)) is not None]
            drawn += len(ended) + len(cut)
            figure.add_trace(_pair_lines(cut, place, arm, panel, dotted=True))
            figure.add_trace(_pair_lines(ended, place, arm, panel))
    names = {0: "plain", **{place: NAMES[arm] for arm, place in places.items()}}
    for panel in range(1, len(shown) + 1):
        ticks = {"tickvals": list(names), "ticktext": list(names.values()), "showgrid": False}
        set_axis(figure, "xaxis", panel, "", range=[-1.4, 1.4], zeroline=False, **ticks)
        set_axis(figure, "yaxis", panel, "validation accuracy, %" if panel == 1 else "", **ACCURACY)
    figure.update_layout(margin={"b": 45})
    return figure if drawn else empty(figure)


def _pair_lines(
    values: Sequence[tuple[float, float]], place: int, arm: str, panel: int, dotted: bool = False
) -> go.Scatter:
    return go.Scatter(
        x=[x for _ in values for x in (0, place, None)],
        y=[y for ours, plain in values for y in (percent_of(plain), percent_of(ours), None)],
        mode="lines+markers", marker={"size": 4}, opacity=0.35 if dotted else 0.7, showlegend=False,
        line={"color": ARM_COLORS[arm], "width": 1, "dash": "dot" if dotted else "solid"},
        hoverinfo="y", **on_panel(panel),
    )  # fmt: skip


def gradients(trials: Sequence[FrozenTrial]) -> go.Figure:
    """At the start of training; colour: how the trial ended, symbol: its arm."""
    title = "Signal at the start of training: gradients that arrive, images told apart"
    figure = panels(title, "gradient of first over last conv", "cosine between images' features")
    known = thinned([t for t in trials if t.user_attrs.get("grad_ratio") is not None], DOTS)
    for cause in CAUSES:
        here = [t for t in known if t.user_attrs.get("cause", "unknown") == cause]
        for arm in arms_of(here):
            own = [t for t in here if t.user_attrs["arm"] == arm]
            for panel, name, digits in ((1, "grad_ratio", 2), (2, "feature_cosine", 3)):
                values = [t.user_attrs.get(name) for t in own]
                figure.add_trace(
                    go.Scatter(
                        x=[t.user_attrs["depth"] for t in own],
                        y=[None if value is None else round(value, digits) for value in values],
                        mode="markers", showlegend=False, hoverinfo="x+y", **on_panel(panel),
                        marker={
                            "color": CAUSE_COLORS[cause], "symbol": SYMBOLS[arm], "size": 7, "opacity": 0.8,
                            "line": {"width": 0.5, "color": "#333333"},
                        },
                    )
                )  # fmt: skip
        if here:
            figure.add_trace(_key(cause, CAUSE_COLORS[cause], "circle"))
    for arm in arms_of(known):
        figure.add_trace(_key(NAMES[arm], "#FFFFFF", SYMBOLS[arm]))
    for panel, label in ((1, "log10 of gradient ratio"), (2, "mean cosine")):
        set_depth_axis(figure, known, panel)
        set_axis(figure, "yaxis", panel, label)
    return figure if known else empty(figure, "nothing measured yet")


def _key(name: str, color: str, symbol: str) -> go.Scatter:
    """An entry of the legend alone."""
    marker = {"color": color, "symbol": symbol, "size": 9, "line": {"width": 1, "color": "#333333"}}
    return go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)


def cost(trials: Sequence[FrozenTrial]) -> go.Figure:
    """The front holds the runs that no other beats at the same price or less."""
    figure = panels("Accuracy against price, runs to the end; line: best for its price, luck included", "")
    ends = [trial for trial in trials if ran_to_the_end(trial) and trial.user_attrs.get("macs")]
    for arm in arms_of(ends):
        own = thinned([trial for trial in ends if trial.user_attrs["arm"] == arm], DOTS)
        figure.add_trace(
            go.Scatter(
                x=[float(f"{t.user_attrs['macs'] / 1e6:.3g}") for t in own],
                y=[percent_of(final_score(t)) for t in own],
                text=[f"#{t.number}" for t in own], mode="markers", name=NAMES[arm],
                marker={"color": ARM_COLORS[arm], "symbol": SYMBOLS[arm], "size": 6, "opacity": 0.6},
            )
        )  # fmt: skip
    front: list[FrozenTrial] = []
    for trial in sorted(ends, key=lambda t: (t.user_attrs["macs"], -final_score(t))):
        if not front or final_score(trial) > final_score(front[-1]):
            front.append(trial)
    figure.add_trace(
        go.Scatter(
            x=[float(f"{t.user_attrs['macs'] / 1e6:.3g}") for t in front],
            y=[percent_of(final_score(t)) for t in front],
            mode="lines", name="best for the price",
            line={"color": "#000000", "width": 1, "shape": "hv"}, hoverinfo="skip",
        )
    )  # fmt: skip
    set_axis(figure, "xaxis", 1, "million multiply-adds (MACs) per image", type="log", dtick="D2")
    set_axis(figure, "yaxis", 1, "validation accuracy, %", **ACCURACY)
    return figure if ends else empty(figure)


def budget(evidence: Evidence) -> go.Figure:
    title = "Expected best of k trials, 95 % band (exploratory; a pruned one counts as chance)"
    figure = panels(title, "")
    for curve in evidence.budgets:
        color = ARM_COLORS[curve.arm]
        x = [*curve.trials, *reversed(curve.trials)]
        band = [round(y, 2) for y in (*curve.high, *reversed(curve.low))]
        figure.add_trace(
            go.Scatter(
                x=x, y=band, fill="toself", fillcolor=color, opacity=0.15, line={"width": 0}, mode="lines",
                hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=list(curve.trials), y=[round(y, 2) for y in curve.expected], name=NAMES[curve.arm],
                mode="lines+markers", line={"color": color}, marker={"size": 5, "symbol": SYMBOLS[curve.arm]},
            )
        )  # fmt: skip
    set_axis(figure, "xaxis", 1, "trials of the arm, k", type="log", dtick="D2")
    set_axis(figure, "yaxis", 1, "expected best validation accuracy, %")
    return figure if evidence.budgets else empty(figure)


def fairness(evidence: Evidence | Verdicts) -> go.Figure:
    grid = ledger_grid(evidence)
    return table(grid, marked=[column for column in grid.columns if column.endswith("(unequal)")])
