"""Trials as figures, of a search and of a confirmation alike: their start, their price, their curves."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go  # type: ignore[import-untyped]

from models.arms.arm import look
from search.analysis.bands import halves_of
from search.analysis.trials import arms_of, draws_of, of_arm
from search.storage.trial_record import TrialRecord
from search.views.plots import (
    ACCURACY,
    CAUSE_COLORS,
    empty,
    on_panel,
    panels,
    percent_of,
    set_axis,
    set_depth_axis,
    thinned,
)
from search.views.tables import CAUSES
from search.views.words import percent

DOTS = 900
"""Most runs that are drawn in a figure."""


def gradients(trials: Sequence[TrialRecord]) -> go.Figure:
    """Measures at the start of training; colour: how the trial ended, symbol: its arm."""
    title = "Signal at the start of training: gradients that arrive, images told apart"
    figure = panels(title, "gradient of first over last conv", "cosine between images' features")
    known = thinned([trial for trial in trials if trial.grad_ratio is not None], DOTS)
    for cause in CAUSES:
        here = [trial for trial in known if trial.cause == cause]
        for arm in arms_of(here):
            own = of_arm(here, arm)
            for panel, name, digits in ((1, "grad_ratio", 2), (2, "feature_cosine", 3)):
                values = [getattr(trial, name) for trial in own]
                figure.add_trace(
                    go.Scatter(
                        x=[trial.depth for trial in own],
                        y=[None if value is None else round(value, digits) for value in values],
                        text=[f"#{trial.number}" for trial in own],
                        mode="markers", showlegend=False, hoverinfo="x+y+text", **on_panel(panel),
                        marker={
                            "color": CAUSE_COLORS[cause], "symbol": look(arm).symbol, "size": 7,
                            "opacity": 0.8, "line": {"width": 0.5, "color": "#333333"},
                        },
                    )
                )  # fmt: skip
        if here:
            figure.add_trace(_key(cause, CAUSE_COLORS[cause], "circle"))
    for arm in arms_of(known):
        figure.add_trace(_key(look(arm).label, "#FFFFFF", look(arm).symbol))
    for panel, measure in ((1, "log10 of gradient ratio"), (2, "mean cosine")):
        set_depth_axis(figure, [trial.depth for trial in known], panel)
        set_axis(figure, "yaxis", panel, measure)
    return figure if known else empty(figure, "nothing measured yet")


def layers(twins: Sequence[TrialRecord], title: str) -> go.Figure:
    """The gradient norm of every block conv, of trials that differ in the arm alone: what the shortcut does
    to the signal, conv by conv."""
    measured = [trial for trial in twins if trial.gradients]
    figure = panels(title, "at the start of training", "in the end")
    for trial in measured:
        for panel, when in ((1, "start"), (2, "end")):
            logs = trial.gradients.get(when, [])
            figure.add_trace(
                go.Scatter(
                    x=list(range(1, len(logs) + 1)), y=[float(f"{10**x:.3g}") for x in logs],
                    mode="lines+markers", line={"color": look(trial.arm).color, "width": 2},
                    marker={"size": 5, "symbol": look(trial.arm).symbol}, showlegend=panel == 1,
                    name=f"{look(trial.arm).label}, #{trial.number}: {percent(trial.val_accuracy)} %",
                    **on_panel(panel),
                )
            )  # fmt: skip
    for panel in (1, 2):
        set_axis(figure, "xaxis", panel, "conv, from the image on")
        name = "gradient norm" if panel == 1 else ""
        when = "start" if panel == 1 else "end"
        logs = [x for trial in measured for x in trial.gradients.get(when, [])] or [0.0]
        step = max(1, round((max(logs) - min(logs)) / 5))
        set_axis(figure, "yaxis", panel, name, type="log", exponentformat="power", dtick=step)
    return figure if measured else empty(figure, "no gradients were kept")


def deep_layers(baseline: str, trials: Sequence[TrialRecord]) -> go.Figure:
    """The gradients of the twins that show best what the shortcut does."""
    twins = deep_twins(baseline, trials)
    deep = f", {twins[0].depth} convs" if twins else ""
    return layers(
        twins, f"Why: gradient norm conv by conv, of the deep twins that ended farthest apart{deep}"
    )


def deep_twins(baseline: str, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The twins to look at conv by conv: those whose ends are farthest apart, of the upper depths where
    there are any."""
    _, upper = halves_of(trials)
    measured = [trial for trial in trials if trial.gradients]
    deep = [trial for trial in measured if upper.has(trial)]
    return _telling_draw(baseline, deep) or _telling_draw(baseline, measured)


def _key(name: str, ink: str, shape: str) -> go.Scatter:
    """An entry of the legend alone."""
    marker = {"color": ink, "symbol": shape, "size": 9, "line": {"width": 1, "color": "#333333"}}
    return go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)


def cost(trials: Sequence[TrialRecord]) -> go.Figure:
    """Accuracy against price. The front holds the runs that no other beats at the same price or less."""
    figure = panels("Accuracy against price, runs to the end; line: best for its price, luck included", "")
    ends = [trial for trial in trials if trial.ran_to_the_end and trial.macs]
    for arm in arms_of(ends):
        own = thinned(of_arm(ends, arm), DOTS)
        figure.add_trace(
            go.Scatter(
                x=[_millions(trial.macs) for trial in own],
                y=[percent_of(trial.score) for trial in own],
                text=[f"#{trial.number}" for trial in own], mode="markers", name=look(arm).label,
                marker={"color": look(arm).color, "symbol": look(arm).symbol, "size": 6, "opacity": 0.6},
            )
        )  # fmt: skip
    front: list[TrialRecord] = []
    for trial in sorted(ends, key=lambda trial: (trial.macs or 0, -trial.score)):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    figure.add_trace(
        go.Scatter(
            x=[_millions(trial.macs) for trial in front],
            y=[percent_of(trial.score) for trial in front],
            mode="lines", name="best for the price",
            line={"color": "#000000", "width": 1, "shape": "hv"}, hoverinfo="skip",
        )
    )  # fmt: skip
    set_axis(figure, "xaxis", 1, "million multiply-adds (MACs) per image", type="log", dtick="D2")
    set_axis(figure, "yaxis", 1, "validation accuracy, %", **ACCURACY)
    return figure if ends else empty(figure)


def _millions(count: int | None) -> float:
    """A count in millions, to three significant digits."""
    return float(f"{(count or 0) / 1e6:.3g}")


def curves(baseline: str, trials: Sequence[TrialRecord]) -> go.Figure:
    """Accuracy by epoch of the draw whose arms differ most, of those whose baseline was trained to the
    end."""
    draw = _telling_draw(baseline, trials)
    depth = f" of {draw[0].depth} convs" if draw else ""
    return curves_of(draw, f"Accuracy by epoch{depth}: the draw whose arms ended farthest apart")


def curves_of(twins: Sequence[TrialRecord], title: str) -> go.Figure:
    """Accuracy by epoch of twins."""
    figure = panels(title, "training", "validation")
    draw = [trial for trial in twins if trial.curve]
    for trial in draw:
        for panel, name in ((1, "train_accuracy"), (2, "val_accuracy")):
            shares = trial.curve.get(name, [])
            epochs = trial.curve.get("epoch") or range(1, len(shares) + 1)
            figure.add_trace(
                go.Scatter(
                    x=list(epochs), y=[percent_of(share) for share in shares], mode="lines",
                    line={"color": look(trial.arm).color, "width": 2}, showlegend=panel == 1,
                    name=f"{look(trial.arm).label}, #{trial.number}", **on_panel(panel),
                )
            )  # fmt: skip
    for panel in (1, 2):
        set_axis(figure, "xaxis", panel, "epoch")
        set_axis(figure, "yaxis", panel, "accuracy, %" if panel == 1 else "", **ACCURACY)
    return figure if draw else empty(figure, "no curves yet")


def _telling_draw(baseline: str, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials of a draw that were trained to the end and have a curve, in the order of their arms."""
    found: list[list[TrialRecord]] = []
    for draw in draws_of(trials):
        ends = [
            draw[arm] for arm in arms_of(list(draw.values())) if draw[arm].ran_to_the_end and draw[arm].curve
        ]
        if len(ends) > 1 and baseline in [trial.arm for trial in ends]:
            found.append(ends)
    return max(found, key=lambda ends: max(t.score for t in ends) - min(t.score for t in ends), default=[])
