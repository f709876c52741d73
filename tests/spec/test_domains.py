from __future__ import annotations

from typing import Any

import pytest

from models.rules import Number, OneOf, Whole
from search.spec.domains import Choices, Domain, PerStage, Range, RangeOrChoices, is_fixed, smallest

WHOLE, RATE = Whole(1, 128), Number(0, 1)


@pytest.mark.parametrize(
    ("value", "kept"),
    [(3, (3,)), ([3], (3,)), ([3, 1], (3, 1)), ((2, 1), (2, 1)), (list(range(1, 101)), tuple(range(1, 101)))],
)
def test_choices_keep_their_order_and_one_value_is_a_choice(value: Any, kept: tuple[int, ...]) -> None:
    assert Choices(WHOLE)(value) == kept
    assert RangeOrChoices(WHOLE)(value) == kept


@pytest.mark.parametrize("value", [[], [1, 1], list(range(1, 102))])
def test_choices_are_some_and_none_of_them_twice(value: Any) -> None:
    with pytest.raises(ValueError, match="must list 1 to 100 choices, none of them twice"):
        Choices(WHOLE)(value)
    with pytest.raises(ValueError, match="must be a whole number from 1 to 128"):
        Choices(WHOLE)([1, 129])
    with pytest.raises(ValueError, match="none of them twice"):
        Choices(RATE)([0, 0.0])


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"low": 1, "high": 9}, Range(low=1, high=9)),
        ({"low": 1, "high": 128, "log": True}, Range(low=1, high=128, log=True)),
        ({"low": 2, "high": 3, "log": False}, Range(low=2, high=3)),
    ],
)
def test_a_table_is_a_range_of_whole_numbers_where_the_key_is(value: Any, kept: Range) -> None:
    found = RangeOrChoices(WHOLE)(value)
    assert found == kept
    assert isinstance(found, Range)
    assert isinstance(found.low, int)
    real = RangeOrChoices(Number(0, 200))(value)
    assert isinstance(real, Range)
    assert isinstance(real.low, float), "else it would be drawn as a whole number"
    assert isinstance(real.high, float)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"low": 0.1}, "must be a value, a list, or a range"),
        ({"low": 0.1, "high": 0.2, "step": 1}, "must be a value, a list, or a range"),
        ({}, "must be a value, a list, or a range"),
        ({"low": 0.2, "high": 0.2}, "must have low below high"),
        ({"low": 0, "high": 0.2, "log": True}, "must have low above 0 with log = true"),
        ({"low": 0.1, "high": 0.2, "log": 1}, "must be true or false"),
        ({"low": 0.1, "high": 2}, "must be a number from 0 to 1"),
        ({"low": -1, "high": 1}, "must be a number from 0 to 1"),
        ("fast", "must be a number from 0 to 1"),
    ],
)
def test_a_range_has_two_ends_that_the_key_allows(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RangeOrChoices(RATE)(value)


def test_every_stage_has_choices_of_its_own() -> None:
    assert PerStage(WHOLE)([8, [4, 6], [16]]) == ((8,), (4, 6), (16,))
    assert len(PerStage(WHOLE)([8] * 8)) == 8
    for value in ([], [8] * 9, 8, "8", {"low": 1, "high": 2}):
        with pytest.raises(ValueError, match="must list 1 to 8 stages, each a width or a list of widths"):
            PerStage(WHOLE)(value)
    with pytest.raises(ValueError, match="must be a whole number"):
        PerStage(WHOLE)([8, [0]])


@pytest.mark.parametrize(
    ("domain", "fixed", "least"),
    [
        ((3,), True, 3), ((3, 1, 2), False, 1), (Range(low=0.5, high=2), False, 0.5),
        (("he", "default"), False, "he"), ((True, False), False, False),
    ],
)  # fmt: skip
def test_what_is_fixed_and_what_is_smallest(domain: Domain, fixed: bool, least: object) -> None:
    assert is_fixed(domain) == fixed
    assert smallest(domain) == least


def test_a_rule_for_choices_takes_any_rule() -> None:
    assert Choices(OneOf("a", "b"))("b") == ("b",)
    with pytest.raises(ValueError, match="must be one of a, b"):
        Choices(OneOf("a", "b"))(["a", "c"])
