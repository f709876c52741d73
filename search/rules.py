"""What the values of a study file may be: one rule for each key, wherever the key is set.

A rule takes a value and gives it back, or raises ValueError with the words that follow the key's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.architecture import BLOCKS, HEADS, INITS, MAX_WIDTH, NORMS, PADDINGS, TRANSITIONS
from search.spec import Domain, Range

Rule = Callable[[Any], Any]


def one_of(*allowed: Any) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if not any(value == choice and type(value) is type(choice) for choice in allowed):
            raise ValueError(f"must be one of {', '.join(str(choice).lower() for choice in allowed)}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return parse


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def choices(parse: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def parse_all(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        found = tuple(parse(item) for item in values)
        if not 1 <= len(set(found)) == len(found) <= 100:
            raise ValueError("must list 1 to 100 choices, none of them twice")
        return found

    return parse_all


def domain(parse: Callable[[Any], Any]) -> Callable[[Any], Domain]:
    def parse_domain(value: Any) -> Domain:
        if not isinstance(value, dict):
            return choices(parse)(value)
        if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
            raise ValueError("must be a value, a list, or a range {low = .., high = .., log = true}")
        low, high, log = parse(value["low"]), parse(value["high"]), flag(value.get("log", False))
        if not low < high:
            raise ValueError("must have low below high")
        if log and low <= 0:
            raise ValueError("must have low above 0 with log = true")
        return Range(low=low, high=high, log=log)

    return parse_domain


SPACE: dict[str, Rule] = {
    "block": one_of(*BLOCKS),
    "blocks": whole(1, 128),
    "width": whole(1, MAX_WIDTH),
    "norm": one_of(*NORMS),
    "init": one_of(*INITS),
    "zero_branch": flag,
    "optimizer": one_of("sgd", "adamw"),
    "lr_sgd": number(1e-8, 100),
    "lr_adamw": number(1e-8, 100),
    "weight_decay": number(0, 10),
    "warmup": number(0, 0.9),
}
"""Of one trial's value; `blocks` and `width` of a stage."""
FIXED: dict[str, Rule] = {
    "max_params": whole(1, 10**10),
    "kernel": one_of(1, 3, 5, 7),
    "padding": one_of(*PADDINGS),
    "stem_pool": flag,
    "transition": one_of(*TRANSITIONS),
    "head": one_of(*HEADS),
}
"""The same for all trials of a study."""
TRAIN: dict[str, Rule] = {
    "epochs": whole(1, 100_000),
    "batch_size": whole(1, 65_536),
    "precision": one_of("auto", "float32", "bfloat16"),
    "momentum": number(0, 0.9999),
    "clip": number(1e-6, 1e6),
    "label_smoothing": number(0, 0.9),
    "crop": whole(0, 64),
    "flip": flag,
    "schedule": one_of("cosine", "step"),
}
