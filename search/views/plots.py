"""The look of figures: panels, axes, tables. Features of plotly.js 2.35 only, which the dashboard has."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

import plotly.graph_objects as go  # type: ignore[import-untyped]

from search.views.tables import TextTable

Item = TypeVar("Item")
HEIGHT = 450
"""Height of the dashboard's panels, in pixels."""
WRAP = 84
"""Characters of a title's line."""
LINE = 17
"""Height of a title's line, in pixels."""
MOST_ROWS = 60
"""Rows that a table shows: further ones would not be read."""
DEPTHS = (2, 4, 8, 14, 20, 32, 44, 56, 110, 200, 400)
"""Ticks of an axis of depths."""
TICKS_APART = 0.07
"""Share of such an axis between two ticks, below which their labels would touch."""
LEGEND_BELOW = 55
"""Pixels from the lower axis to the legend; tick labels and the axis' title are between them."""
ACCURACY = {"range": [0, 103]}
"""Settings of an axis of accuracies in %."""
CAUSE_COLORS = {
    "fine": "#999999", "slow": "#F0E442", "vanished": "#56B4E9", "exploded": "#E69F00",
    "collapsed": "#CC79A7", "diverged": "#000000", "unknown": "#DDDDDD",
}  # fmt: skip
"""Colours of Okabe & Ito's palette, which colour-blind people can tell apart; the arms have others of it."""


def panels(title: str, *subtitles: str) -> go.Figure:
    """One or two pairs of axes side by side, the legend below."""
    lines = textwrap.wrap(title, WRAP)
    above, below = 46 + LINE * len(lines), 95
    layout: dict[str, Any] = {
        "template": "plotly_white",
        "height": HEIGHT,
        "modebar": {"orientation": "v"},  # above, it would cover the title
        "title": {
            "text": "<br>".join(lines), "font": {"size": 12},
            "x": 0.01, "xanchor": "left", "y": 0.96, "yanchor": "top",
        },
        "margin": {"l": 55, "r": 38, "t": above, "b": below},
        "legend": {
            "orientation": "h", "x": 0, "y": -LEGEND_BELOW / (HEIGHT - above - below), "yanchor": "top",
            "font": {"size": 11}, "tracegroupgap": 0,
        },
        "annotations": [],
    }  # fmt: skip
    for i, subtitle in enumerate(subtitles):
        left = i / 2 + 0.05 * i if len(subtitles) > 1 else 0
        right = left + 0.45 if len(subtitles) > 1 else 1
        layout[axis_name("xaxis", i + 1)] = {"domain": [left, right], "anchor": axis("y", i + 1)}
        layout[axis_name("yaxis", i + 1)] = {"anchor": axis("x", i + 1)}
        layout["annotations"].append(
            {
                "text": subtitle, "x": (left + right) / 2, "y": 1.0, "xref": "paper", "yref": "paper",
                "xanchor": "center", "yanchor": "bottom", "showarrow": False, "font": {"size": 12},
            }
        )  # fmt: skip
    return go.Figure(layout=layout)  # in one go: each update would copy the template


def side_by_side(i: int, count: int) -> float:
    """The factor of depth by which the i-th of `count` arms stands beside the others."""
    return float(1.03 ** (i - (count - 1) / 2))


def axis(letter: str, panel: int) -> str:
    """The name of a panel's axis as traces, shapes and annotations have it."""
    return letter if panel == 1 else f"{letter}{panel}"


def axis_name(name: str, panel: int) -> str:
    """The name of a panel's axis as the layout has it."""
    return name if panel == 1 else f"{name}{panel}"


def on_panel(panel: int) -> dict[str, str]:
    """Settings that put a trace on a panel."""
    return {"xaxis": axis("x", panel), "yaxis": axis("y", panel)}


def at_panel(panel: int) -> dict[str, str]:
    """Settings that put a shape or an annotation on a panel."""
    return {"xref": axis("x", panel), "yref": axis("y", panel)}


def set_axis(figure: go.Figure, name: str, panel: int, title: str, **values: Any) -> None:
    """Gives a panel's axis its title and further settings."""
    figure.update_layout({axis_name(name, panel): {"title": {"text": title, "standoff": 8}, **values}})


def set_depth_axis(
    figure: go.Figure, depths: Sequence[int], panel: int, ticks: Sequence[int] = DEPTHS
) -> None:
    """Makes an axis of depths, logarithmic: eight convs more matter to a net of eight, not to one of a
    hundred. The panel's traces must be in the figure: all of them lie within the axis."""
    depths = depths or [4, 56]
    traces = [trace for trace in figure.data if (trace.xaxis or "x") == axis("x", panel)]
    drawn = [x for trace in traces for x in trace.x if x is not None]
    low = min([max(min(depths), 1) / 1.15, *(x / 1.05 for x in drawn)])
    high = max([max(depths) * 1.15, *(x * 1.05 for x in drawn)])
    shown: list[int] = []
    for depth in ticks:
        apart = not shown or math.log(depth / shown[-1]) >= TICKS_APART * math.log(high / low)
        if low <= depth <= high and apart:
            shown.append(depth)
    limits = [math.log10(low), math.log10(high)]
    set_axis(figure, "xaxis", panel, "depth, convs", type="log", range=limits, tickvals=shown)


def empty(figure: go.Figure, text: str = "nothing finished yet") -> go.Figure:
    """The figure, on which it is written why it shows nothing."""
    figure.add_annotation(
        text=text,
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 18, "color": "#777"},
    )
    return figure


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """The items, evenly thinned out to `most` of them at most; the same ones at every call."""
    step = max(1, math.ceil(len(items) / most))
    return list(items[::step])


def percent_of(share: float | None) -> float | None:
    """A share in %, with tenths; None for what is no number."""
    return None if share is None or not math.isfinite(share) else round(100 * share, 1)


def table_figure(table: TextTable) -> go.Figure:
    """A table of text as a figure; marked columns are in another colour."""
    figure = panels(table.title)
    rows, columns = table.rows[:MOST_ROWS], range(len(table.columns))
    align = ["left" if i < table.words else "right" for i in columns]
    fills = ["#FBE3D0" if column in table.marked else "#F4F6F8" for column in table.columns]
    look = {"align": align, "font": {"size": 10.5}}
    figure.add_trace(
        go.Table(
            header={"values": list(table.columns), "fill": {"color": "#DDE3EA"}, **look},
            cells={
                "values": [[row[i] for row in rows] for i in columns],
                "fill": {"color": [[fill] * len(rows) for fill in fills]},
                "height": 23,
                **look,
            },
            columnwidth=[_width(table, i) for i in columns],
        )
    )
    figure.update_layout(margin={"l": 10, "r": 38, "b": 10, "t": 45})
    return figure if rows else empty(figure)


def is_table(figure: go.Figure) -> bool:
    """Whether a figure is a table of text, which a page shows as such."""
    return any(isinstance(trace, go.Table) for trace in figure.data)


def _width(table: TextTable, column: int) -> int:
    """The width of a column: by the longest word of the header, which wraps, and the longest cell, which must
    not."""
    words = [len(word) for word in table.columns[column].split()]
    return max([*words, *(len(row[column]) for row in table.rows), 5]) + 2
