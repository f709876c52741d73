from __future__ import annotations

import math
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from models.arms.arm import ARMS, PALETTE
from search.views.plots import (
    CAUSE_COLORS,
    DEPTHS,
    HEIGHT,
    MOST_ROWS,
    WRAP,
    at_panel,
    empty,
    is_table,
    on_panel,
    panels,
    percent_of,
    set_axis,
    set_depth_axis,
    side_by_side,
    table_figure,
    thinned,
)
from search.views.tables import CAUSES, TextTable
from tests.support.arms import OURS
from tests.support.figures import outside


def depth_axis(depths: list[int], drawn: list[float | None] | None = None, panel: int = 1) -> go.Figure:
    figure = panels("", "left", "right")
    figure.add_trace(go.Scatter(x=drawn or [], y=[1] * len(drawn or []), **on_panel(panel)))
    set_depth_axis(figure, depths, panel)
    return figure


def test_a_long_title_takes_lines_and_the_panels_make_room() -> None:
    short, long = panels("a title"), panels("word " * 80)
    lines = long.layout.title.text.split("<br>")
    assert len(lines) == 5
    assert all(len(line) <= WRAP for line in lines)
    assert long.layout.margin.t - short.layout.margin.t == 17 * 4
    assert long.layout.height == short.layout.height == HEIGHT


@pytest.mark.parametrize("words", [1, 100])
def test_the_legend_is_below_the_axis_whatever_the_title_takes(words: int) -> None:
    """The distance is at least 50 pixels: labels of ticks and the axis' title are between them."""
    layout = panels("word " * words).layout
    assert -layout.legend.y * (HEIGHT - layout.margin.t - layout.margin.b) >= 50


def test_two_panels_stand_side_by_side_and_one_takes_all() -> None:
    two, one = panels("", "left", "right").layout, panels("", "alone").layout
    assert two.xaxis.domain[1] < two.xaxis2.domain[0]
    assert (two.xaxis2.anchor, two.yaxis2.anchor) == ("y2", "x2")
    assert [note.text for note in two.annotations] == ["left", "right"]
    assert one.xaxis.domain == (0, 1)
    assert "xaxis2" not in one


def test_what_goes_on_a_panel_names_its_axes() -> None:
    assert on_panel(1) == {"xaxis": "x", "yaxis": "y"}
    assert at_panel(2) == {"xref": "x2", "yref": "y2"}
    figure = panels("", "left", "right")
    set_axis(figure, "yaxis", 2, "accuracy, %", range=[0, 7])
    assert (figure.layout.yaxis2.title.text, figure.layout.yaxis2.range) == ("accuracy, %", (0, 7))
    assert figure.layout.yaxis.title.text is None


def test_arms_stand_around_their_depth() -> None:
    for count in (1, 2, 3, 5):
        shifts = [side_by_side(i, count) for i in range(count)]
        assert math.prod(shifts) == pytest.approx(1)
        assert shifts == sorted(set(shifts))


@pytest.mark.parametrize(
    ("depths", "drawn"),
    [([9], [11.2]), ([9, 45], [9 / 1.2, 45 * 1.2]), ([120], [88.8, None]), ([3, 3], [6.4])],
    ids=["middle of a band", "many arms", "last band", "first band"],
)
def test_an_axis_of_depths_holds_all_that_is_drawn(depths: list[int], drawn: list[float | None]) -> None:
    for panel in (1, 2):
        assert not outside(depth_axis(depths, drawn, panel))


def test_an_axis_of_depths_does_not_care_for_the_other_panel() -> None:
    figure = depth_axis([9, 10], [400.0], panel=2)
    set_depth_axis(figure, [9, 10], 1)
    assert 10 ** figure.layout.xaxis.range[1] == pytest.approx(11.5)


def test_an_axis_of_depths_has_ticks_that_do_not_touch() -> None:
    assert list(depth_axis([8, 45]).layout.xaxis.tickvals) == [8, 14, 20, 32, 44]
    wide = depth_axis([3, 400]).layout.xaxis
    ticks, (low, high) = wide.tickvals, wide.range
    assert set(ticks) < set(DEPTHS)
    gaps = [math.log10(b / a) / (high - low) for a, b in pairwise(ticks)]
    assert min(gaps) >= 0.07


def test_an_axis_of_depths_of_nothing_is_an_axis() -> None:
    assert depth_axis([]).layout.xaxis.type == "log"


def test_thinning_takes_evenly_and_the_same_ones() -> None:
    assert thinned(range(10), 4) == [0, 3, 6, 9]
    assert thinned(range(10), 10) == list(range(10))
    assert thinned([], 4) == []
    assert len(thinned(range(1801), 900)) <= 900


def test_shares_are_in_percent_and_what_is_no_number_is_left_out() -> None:
    assert [percent_of(share) for share in (0.12345, 0.0, None, math.nan, math.inf)] == [
        12.3,
        0.0,
        None,
        None,
        None,
    ]


def test_a_table_as_a_figure_holds_every_cell() -> None:
    table = TextTable(
        "title", ("arm", "n (unequal)", "m"), (("plain", "1", "2"), ("residual", "3", "4")), words=1
    )
    [trace] = table_figure(table).data
    assert list(trace.header.values) == ["arm", "n (unequal)", "m"]
    assert [list(column) for column in trace.cells.values] == [["plain", "residual"], ["1", "3"], ["2", "4"]]
    assert list(trace.header.align) == ["left", "right", "right"]
    fills = [column[0] for column in trace.cells.fill.color]
    assert fills[0] == fills[2] != fills[1], "the marked column"
    assert list(trace.columnwidth) == [10, 11, 7], "by the longest cell and the longest word of the header"


def test_a_table_as_a_figure_ends_where_nobody_would_read_on() -> None:
    rows = tuple((str(i),) for i in range(MOST_ROWS + 5))
    [trace] = table_figure(TextTable("t", ("n",), rows)).data
    assert list(trace.cells.values[0]) == [str(i) for i in range(MOST_ROWS)]


def test_an_empty_figure_says_why() -> None:
    assert [note.text for note in empty(panels("t")).layout.annotations] == ["nothing finished yet"]
    assert [note.text for note in table_figure(TextTable("t", ("n",), ())).layout.annotations] == [
        "nothing finished yet"
    ]
    assert is_table(table_figure(TextTable("t", ("n",), ())))
    assert not is_table(panels("t"))


def test_every_cause_has_a_colour_of_its_own_that_no_arm_has_or_will_get() -> None:
    assert set(CAUSE_COLORS) == set(CAUSES)
    inks = [*CAUSE_COLORS.values(), *(ARMS[arm].color for arm in OURS), *PALETTE]
    assert len(set(inks)) == len(inks)
