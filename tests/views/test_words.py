from __future__ import annotations

import shlex

import pytest

from search.stats.paired import MOST_PAIRS
from search.views.words import (
    accuracy,
    arms_listed,
    capitalized,
    command_line,
    convs,
    figure_text,
    listed,
    many,
    percent,
    plural,
    points,
    small,
    span,
)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (None, True, "-"),
        (0.0, True, "0.0"),
        (0.04, True, "0.0"),
        (-0.04, True, "0.0"),
        (-0.26, True, "−0.3"),
        (3.14, True, "+3.1"),
        (9.94, True, "+9.9"),
        (9.95, True, "+10"),
        (-9.95, True, "−10"),
        (30.6, True, "+31"),
        (-100.0, True, "−100"),
        (30.6, False, "31"),
        (-4.22, False, "4.2"),
    ],
)
def test_points_are_whole_from_ten_on_and_else_tenths(value: float | None, signed: bool, text: str) -> None:
    assert points(value, signed) == text


def test_an_interval_has_no_plus_and_a_real_minus() -> None:
    assert span(-2.34, 12.4) == "[−2.3, 12]"
    assert span(0.01, 5) == "[0.0, 5.0]"
    assert span(None, 5) == span(1, None) == ""


def test_a_share_is_told_in_percent_and_an_accuracy_is_percent_already() -> None:
    assert (percent(0.123), percent(0.0), percent(None)) == ("12.3", "0.0", "-")
    assert (accuracy(12.34), accuracy(0.0), accuracy(None)) == ("12.3", "0.0", "-")


def test_a_p_value_is_never_told_as_zero() -> None:
    assert (small(0.0004), small(0.001), small(0.04951)) == ("< 0.001", "0.001", "0.050")


def test_an_estimate_of_pairs_has_an_end() -> None:
    assert (many(7), many(MOST_PAIRS), many(MOST_PAIRS + 1)) == ("~7", f"~{MOST_PAIRS}", "> 1,000")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (12.34, "12.3"), (99.99, "100.0"), (100.0, "100"), (1234.5, "1,234"), (7, "7")],
)
def test_figures_have_tenths_below_a_hundred_and_counts_have_none(value: float | None, text: str) -> None:
    assert figure_text(value) == text


def test_bands_of_depths_are_read_out() -> None:
    assert convs("21-32") == "21-32 convs"
    assert convs("21+") == "21 or more convs"


def test_counts_lists_and_sentences() -> None:
    assert [plural(count, "pair") for count in (0, 1, 2, 1200)] == [
        "0 pairs",
        "1 pair",
        "2 pairs",
        "1,200 pairs",
    ]
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert arms_listed(["residual", "preact", "ghost"]) == "residual, pre-activation and ghost"
    assert (capitalized("pre-Activation"), capitalized("")) == ("Pre-Activation", "")


def test_a_command_line_can_be_typed_and_holds_no_password() -> None:
    url = "postgresql+psycopg://me:secret@host/x"
    line = command_line("run", ["--name=a b", "--trials=3"], url)
    assert "secret" not in line
    assert shlex.split(line) == [
        "python", "-m", "search.run", "--name=a b", "--trials=3",
        "--storage", "postgresql+psycopg://me:***@host/x",
    ]  # fmt: skip
    assert command_line("confirm", [], None) == "python -m search.confirm"
