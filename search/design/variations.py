"""One thing changed in a trial: its block, depth, seed, or any value of its recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from models.rules import Flag, KeyOf, Number, OneOf, Rule, Whole, obey
from search.design.depths import depth_of, share_out
from search.design.space import Values, block_names, key_of
from search.errors import SpecError
from search.keys import keys_of
from search.spec.domains import Range
from search.spec.tables import Space, TrainSettings

WIDE = Range(low=1, high=128)
"""Blocks of a stage that a repeat may have, whatever the search had."""


@dataclass(frozen=True)
class Recipe:
    """Everything that one run is made of, images apart."""

    values: Values
    train: TrainSettings
    seed: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """The changes that a person asks for; None: no change."""

    block: str | None = None
    depth: str | None = None
    """The depth in convs; +6 and -6 count from the trial's own."""
    seed: int | None = None
    settings: Mapping[str, Any] | None = None
    """New values of recipe or [train], by key."""


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """The values in lines KEY=VALUE, as TOML has them; quotes may be left out. Raises SpecError."""
    found = {}
    for text in texts:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not (key and sign and value):
            raise SpecError(f"--set must be KEY=VALUE, got {text!r}")
        try:
            found[key] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found


def changed(recipe: Recipe, space: Space, change: Change) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with the change, and what that changed: new values by name. Raises SpecError where a rule is
    broken."""
    values, train = dict(recipe.values), recipe.train
    settings, train_keys = change.settings or {}, keys_of(TrainSettings)
    if change.block is not None:
        values["block"] = change.block
    if change.depth is not None:
        values |= _at_depth(values, space, change.depth)
    for key, value in settings.items():
        if change.depth is not None and key in block_names(space):
            raise SpecError(f"--set {key} and --depth both say how many blocks there are: leave one out")
        if key in train_keys:
            train = replace(train, **{key: _checked(key, value, train_keys[key].rule)})
        elif key in values and key != "block":
            each = key_of(key).each
            assert each is not None, "parameters are drawn"
            values[key] = _checked(key, value, each)
        else:
            known = [name for name in (*values, *train_keys) if name != "block"]
            raise SpecError(f"--set {key} is not a value of a trial: known are {', '.join(known)}")
    for key in settings:
        reader = key_of(key).optimizer if key in values else ""
        if reader and reader != values["optimizer"]:
            raise SpecError(f"--set {key} changes nothing: the trial's optimizer is {values['optimizer']}")
    new = Recipe(values, train, recipe.seed if change.seed is None else change.seed)
    return new, _differences(recipe, new)


def _checked(key: str, value: Any, rule: Rule) -> Any:
    try:
        return obey(f"--set {key}", value, rule)
    except ValueError as error:
        raise SpecError(str(error)) from None


def _at_depth(values: Values, space: Space, text: str) -> Values:
    names = block_names(space)
    blocks = [values[name] for name in names]
    space = replace(space, block=(values["block"],), blocks=WIDE)
    depth = depth_of(space, sum(blocks))
    try:
        wanted = int(text) + (depth if text[0] in "+-" else 0)
        return dict(zip(names, share_out(blocks, space, wanted), strict=True))
    except ValueError:
        block = depth_of(space, 1) - depth_of(space, 0)
        raise SpecError(
            f"--depth must be a number of convs that blocks of {block} can make, as {depth}, or +{block}, "
            f"-{block}, +{2 * block} ..., "
            f"got {text!r}"
        ) from None


def _differences(old: Recipe, new: Recipe) -> dict[str, Any]:
    found = {name: value for name, value in new.values.items() if value != old.values[name]}
    settings = {key: getattr(new.train, key) for key in keys_of(new.train)}
    found |= {key: value for key, value in settings.items() if value != getattr(old.train, key)}
    return found | ({"seed": new.seed} if new.seed != old.seed else {})


def widest_distributions(values: Values) -> dict[str, BaseDistribution]:
    """The widest distribution that each parameter's key allows, so that repeats fit into one study."""
    return {name: _widest(name) for name in values}


def _widest(name: str) -> BaseDistribution:
    key = key_of(name)
    match key.each:
        case Whole(low, int(high)):
            return IntDistribution(low, high)
        case Number(low, high):
            return FloatDistribution(low, high, log=key.log)
        case Flag():
            return CategoricalDistribution((False, True))
        case OneOf(allowed):
            return CategoricalDistribution(allowed)
        case KeyOf(registry):
            return CategoricalDistribution(tuple(registry))
    raise TypeError(f"{name} is drawn from no known kind of domain")
