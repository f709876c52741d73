"""What a figure holds, read as a person would see it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import plotly.graph_objects as go


def named(figure: go.Figure) -> dict[str, Any]:
    """Traces by their names."""
    return {trace.name: trace for trace in figure.data if trace.name}


def legend(figure: go.Figure) -> list[str]:
    """The entries of the legend."""
    return [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]


def texts(figure: go.Figure) -> str:
    """All that is to be read in a figure: titles, axes, labels, cells, names and notes."""
    layout = figure.layout
    found = [layout.title.text, *(note.text for note in layout.annotations), *legend(figure)]
    for axis in (layout[name] for name in layout if re.match("[xy]axis", name)):
        found += [axis.title.text, *(axis.ticktext or ())]
    for trace in figure.data:
        if isinstance(trace, go.Table):
            found += [*trace.header.values, *(cell for column in trace.cells.values for cell in column)]
    return "\n".join(text.replace("<br>", " ") for text in found if text)


def outside(figure: go.Figure) -> list[str]:
    """Points and ends of error bars that no reader sees, since they lie beyond the range of their axis."""
    found = []
    for trace in figure.data:
        for letter in "xy" if isinstance(trace, go.Scatter) else "":
            axis = figure.layout[f"{letter}axis{(trace[f'{letter}axis'] or letter)[1:]}"]
            if axis.range is None or axis.type == "category":
                continue
            (low, high), logarithmic = axis.range, axis.type == "log"
            for value in _with_errors(trace) if letter == "y" else trace.x:
                at = value if value is None or not logarithmic else math.log10(value)
                if at is not None and not low - 1e-9 <= at <= high + 1e-9:
                    found.append(f"{letter} = {value} of {trace.name or trace.mode}")
    return found


def _with_errors(trace: Any) -> Iterator[float | None]:
    values: Sequence[float | None] = trace.y or ()
    yield from values
    for sign, array in ((1, trace.error_y.array), (-1, trace.error_y.arrayminus)):
        for value, error in zip(values, array if array is not None else (), strict=False):
            yield None if value is None else value + sign * error
