"""Values of a key of the search space: choices, a range, or choices for every stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.architecture import MAX_STAGES
from models.rules import Flag, Rule

MOST_CHOICES = 100


@dataclass(frozen=True, kw_only=True)
class Range:
    """Whole numbers if both ends are, else floats. Both ends included."""

    low: float
    high: float
    log: bool = False


Domain = Range | tuple[Any, ...]
"""A range, or choices; one choice is a fixed value."""


@dataclass(frozen=True)
class Choices:
    """A rule: a list of values, none of them twice, or a single value."""

    each: Rule

    def __call__(self, value: Any) -> tuple[Any, ...]:
        found = tuple(self.each(item) for item in (value if isinstance(value, list | tuple) else [value]))
        if not 1 <= len(set(found)) == len(found) <= MOST_CHOICES:
            raise ValueError(f"must list 1 to {MOST_CHOICES} choices, none of them twice")
        return found


@dataclass(frozen=True)
class RangeOrChoices:
    """A rule: choices, or a table {low, high, log}."""

    each: Rule

    def __call__(self, value: Any) -> Domain:
        if not isinstance(value, dict):
            return Choices(self.each)(value)
        if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
            raise ValueError("must be a value, a list, or a range {low = .., high = .., log = true}")
        low, high, log = self.each(value["low"]), self.each(value["high"]), Flag()(value.get("log", False))
        if not low < high:
            raise ValueError("must have low below high")
        if log and low <= 0:
            raise ValueError("must have low above 0 with log = true")
        return Range(low=low, high=high, log=log)


@dataclass(frozen=True)
class PerStage:
    """A rule: for every stage a value, or a list of choices."""

    each: Rule

    def __call__(self, value: Any) -> tuple[tuple[Any, ...], ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_STAGES:
            raise ValueError(f"must list 1 to {MAX_STAGES} stages, each a width or a list of widths")
        return tuple(Choices(self.each)(stage) for stage in value)


@dataclass(frozen=True)
class NumberOrSteps:
    """A rule: how many there are, or a list with the beginning of each, rising."""

    count: Rule
    each: Rule

    def __call__(self, value: Any) -> int | tuple[int, ...]:
        if not isinstance(value, list | tuple):
            try:
                return self.count(value)  # type: ignore[no-any-return]
            except ValueError as error:
                raise ValueError(f"{error}, or a list that says where each begins") from None
        found = Choices(self.each)(value)
        self.count(len(found))
        if list(found) != sorted(found):
            raise ValueError("must list numbers that rise")
        return found


def is_fixed(domain: Domain) -> bool:
    """Whether there is nothing to draw."""
    return isinstance(domain, tuple) and len(domain) == 1


def smallest(domain: Domain) -> Any:
    """The least of its numbers; of choices that are none, the first."""
    if isinstance(domain, Range):
        return domain.low
    return min(domain) if all(isinstance(value, int | float) for value in domain) else domain[0]
