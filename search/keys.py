"""Keys of a study file. Each is the field of a dataclass, and says there all that there is to say of it: the
rule for its value, its default, its meaning. Whatever reads, checks, draws, changes or explains keys asks
here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from models.rules import Rule, obey


@dataclass(frozen=True, kw_only=True)
class Key:
    """All that there is to say of a key."""

    rule: Rule
    """Makes of the value that TOML brings the value that is kept."""
    meaning: str
    """A sentence for a person, with the unit."""
    added: bool = False
    """Whether it came after the first studies were stored. A stored spec leaves it out at its default, so
    that they still are what they were."""
    each: Rule | None = None
    """The rule of a value that a trial draws; None where trials draw none."""
    stages: str = ""
    """The parameter's name where every stage draws its own, to which the stage's number is added."""
    log: bool = False
    """Whether its scale is logarithmic."""
    optimizer: str = ""
    """The optimizer that alone reads it, if one does."""


def key(rule: Rule, meaning: str, default: Any = MISSING, **further: Any) -> Any:
    """A field of a table, with fields of Key; without a default, the key must be there."""
    return field(default=default, metadata={"key": Key(rule=rule, meaning=meaning, **further)})


def keys_of(table: Any) -> dict[str, Key]:
    """The keys of a table, in order: a dataclass or one of its values."""
    return {found.name: found.metadata["key"] for found in fields(table) if "key" in found.metadata}


def added_defaults(table: Any) -> set[str]:
    """Keys of the value of a table that a stored spec leaves out: added later, and at their defaults."""
    return {
        found.name
        for found in fields(table)
        if "key" in found.metadata
        and found.metadata["key"].added
        and getattr(table, found.name) == found.default
    }


def checked(table: str, keys: Mapping[str, Key], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as their rules give them back. Raises ValueError naming table, key, rule and value."""
    return {name: obey(f"{table}.{name}", value, keys[name].rule) for name, value in values.items()}
