"""Rules: what a value may be, wherever it is set. The one kit with which values are checked.

A rule takes a value and gives it back, or raises ValueError with the words that follow the value's name:
"must be a whole number from 1 to 8". `obey` puts the name before them and the value behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Rule = Callable[[Any], Any]


@dataclass(frozen=True, init=False)
class OneOf:
    """One of a few values, of the same type: 1 is not True."""

    allowed: tuple[Any, ...]

    def __init__(self, *allowed: Any) -> None:
        object.__setattr__(self, "allowed", allowed)

    def __call__(self, value: Any) -> Any:
        if not any(value == choice and type(value) is type(choice) for choice in self.allowed):
            raise ValueError(f"must be one of {', '.join(map(str, self.allowed))}")
        return value


@dataclass(frozen=True)
class KeyOf:
    """A name in a registry, as it is when the value is checked."""

    registry: Mapping[str, Any]

    def __call__(self, value: Any) -> Any:
        return OneOf(*self.registry)(value)


@dataclass(frozen=True)
class Whole:
    """A whole number; both ends are allowed, and without `high` there is no upper one."""

    low: int
    high: int | None = None

    def __call__(self, value: Any) -> int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        if not fits or not self.low <= value <= (math.inf if self.high is None else self.high):
            upper = f"of at least {self.low}" if self.high is None else f"from {self.low} to {self.high}"
            raise ValueError(f"must be a whole number {upper}")
        return int(value)


@dataclass(frozen=True)
class Number:
    """A number, kept as a float; both ends are allowed unless `above` leaves the lower one out."""

    low: float
    high: float
    above: bool = False

    def __call__(self, value: Any) -> float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or not self.low <= value <= self.high or (self.above and value == self.low):
            lower = f"above {self.low:g} and at most" if self.above else f"a number from {self.low:g} to"
            raise ValueError(f"must be {lower} {self.high:g}")
        return float(value)


@dataclass(frozen=True)
class Flag:
    """True or false, nothing that merely counts as one of them."""

    def __call__(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value


def optional(rule: Rule) -> Rule:
    """The rule, but None is allowed as well."""
    return lambda value: None if value is None else rule(value)


def obey(name: str, value: Any, rule: Rule) -> Any:
    """The value as the rule gives it back. Raises ValueError naming the value, the rule and what was
    found."""
    try:
        return rule(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}, got {short(value)}") from None


def short(value: object) -> str:
    """The value as an error shows it: 80 characters at most."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
