from __future__ import annotations

import math
from typing import Any

import pytest

from models.rules import Flag, KeyOf, Number, OneOf, Rule, Whole, obey, short


@pytest.mark.parametrize(
    ("rule", "value", "kept"),
    [
        (Whole(1, 8), 1, 1),
        (Whole(1, 8), 8, 8),
        (Whole(2), 10**12, 10**12),
        (Number(0, 1), 0, 0.0),
        (Number(0, 1), 1, 1.0),
        (Number(0, 1, above=True), 1e-300, 1e-300),
        (Flag(), False, False),
        (OneOf("a", 2), 2, 2),
        (KeyOf({"a": 1}), "a", "a"),
    ],
)
def test_both_ends_are_allowed_and_numbers_are_kept_as_floats(rule: Rule, value: Any, kept: Any) -> None:
    found = rule(value)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        (Whole(1, 8), 0, "must be a whole number from 1 to 8"),
        (Whole(1, 8), 9, "must be a whole number from 1 to 8"),
        (Whole(1, 8), 2.0, "must be a whole number from 1 to 8"),
        (Whole(0, 1), True, "must be a whole number from 0 to 1"),
        (Whole(2), 1, "must be a whole number of at least 2"),
        (Whole(1), "3", "must be a whole number of at least 1"),
        (Number(0, 0.5), 0.51, "must be a number from 0 to 0.5"),
        (Number(0, 0.5), -1e-9, "must be a number from 0 to 0.5"),
        (Number(0, 0.5), math.nan, "must be a number from 0 to 0.5"),
        (Number(0, 1), True, "must be a number from 0 to 1"),
        (Number(0, 1), "1", "must be a number from 0 to 1"),
        (Number(0, 0.9, above=True), 0, "must be above 0 and at most 0.9"),
        (Flag(), 1, "must be true or false"),
        (Flag(), "true", "must be true or false"),
        (OneOf(1, 3), True, "must be one of 1, 3"),
        (OneOf(1, 3), 1.0, "must be one of 1, 3"),
        (OneOf("a", "b"), ["a"], "must be one of a, b"),
        (KeyOf({"a": 1, "b": 2}), "c", "must be one of a, b"),
    ],
)
def test_what_breaks_a_rule_is_told_the_rule(rule: Rule, value: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        rule(value)
    assert str(caught.value) == words


def test_a_registry_counts_as_it_is_when_the_value_is_checked() -> None:
    registry = {"a": 1}
    rule = KeyOf(registry)
    registry["b"] = 2
    assert rule("b") == "b"
    del registry["b"]
    with pytest.raises(ValueError, match="must be one of a"):
        rule("b")


def test_the_name_stands_before_the_rule_and_the_value_behind_it() -> None:
    with pytest.raises(ValueError, match=r"^space\.blocks must be a whole number from 1 to 8, got '9'$"):
        obey("space.blocks", "9", Whole(1, 8))
    assert obey("space.blocks", 8, Whole(1, 8)) == 8


def test_a_long_value_is_shown_in_80_characters() -> None:
    assert short("x" * 78) == repr("x" * 78)
    assert short("x" * 79) == f"'{'x' * 76}..."
    assert len(short("x" * 79)) == 80
