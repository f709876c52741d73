"""Keys of a study file, whichever table they are in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from models.rules import Flag, Whole
from search.keys import Key, added_defaults, checked, key, keys_of


@dataclass(frozen=True, kw_only=True)
class Table:
    first: int = key(Whole(1, 9), "It must be there.")
    second: bool = key(Flag(), "It came later.", False, added=True)
    third: int | None = key(Whole(0), "It came later too.", 3, added=True)
    fourth: int = key(Whole(0), "It was there at first.", 4)
    other: int = 5
    """No key."""


@dataclass(frozen=True, kw_only=True)
class Longer(Table):
    more: str


def test_keys_are_the_fields_that_have_one_in_order() -> None:
    assert list(keys_of(Table)) == ["first", "second", "third", "fourth"]
    assert keys_of(Table)["second"] == Key(rule=Flag(), meaning="It came later.", added=True)
    assert keys_of(Table(first=1)) == keys_of(Table) == keys_of(Longer)


def test_a_key_without_a_default_must_be_there() -> None:
    with pytest.raises(TypeError, match="first"):
        Table()
    assert Table(first=2) == Table(first=2, second=False, third=3, fourth=4)


def test_added_keys_are_left_out_at_their_defaults_alone() -> None:
    assert added_defaults(Table(first=1)) == {"second", "third"}
    assert added_defaults(Table(first=1, second=True)) == {"third"}
    assert added_defaults(Table(first=1, second=True, third=None)) == set()
    assert added_defaults(Longer(first=1, more="", fourth=9)) == {"second", "third"}


def test_values_are_given_back_as_their_rules_keep_them_and_mistakes_name_the_key() -> None:
    assert checked("t", keys_of(Table), {"second": True, "first": 9}) == {"second": True, "first": 9}
    with pytest.raises(ValueError, match=r"^t\.first must be a whole number from 1 to 9, got 10$"):
        checked("t", keys_of(Table), {"first": 10})
