"""One thing changed in a trial: its block, depth, seed, or any value of its recipe."""

from __future__ import annotations

import argparse
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

from models.architecture import BLOCKS, INITS, MAX_WIDTH, NORMS
from search.errors import SpecError
from search.rules import SPACE, TRAIN, Rule
from search.space import Values
from search.spec import Range, Space, TrainSettings

WIDE = Range(low=1, high=128)
"""Blocks of a stage that a repeat may have, whatever the search had."""


@dataclass(frozen=True)
class Recipe:
    """Everything that one run is made of, images apart."""

    values: Values
    train: TrainSettings
    seed: int


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, the value as TOML has it; quotes may be left out. Raises SpecError."""
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


def changed(recipe: Recipe, space: Space, options: argparse.Namespace) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with what block, depth, seed and set of `options` ask for, and what that changed: new values
    by name. Raises SpecError where a rule is broken."""
    values, train, seed = dict(recipe.values), recipe.train, recipe.seed
    if options.block is not None:
        values["block"] = options.block
    if options.depth is not None:
        values |= _at_depth(values, space, options.depth)
    if options.seed is not None:
        seed = options.seed
    for key, value in assignments(options.set).items():
        if options.depth is not None and key.startswith("blocks_"):
            raise SpecError(f"--set {key} and --depth both say how many blocks there are: leave one out")
        if key in TRAIN:
            train = replace(train, **{key: _checked(key, value, TRAIN[key])})
        elif key in values and key != "block":
            values[key] = _checked(key, value, SPACE[key.rstrip("0123456789").rstrip("_")])
        else:
            known = [name for name in (*values, *TRAIN) if name != "block"]
            raise SpecError(f"--set {key} is not a value of a trial: known are {', '.join(known)}")
    unused = {"sgd": "lr_adamw", "adamw": "lr_sgd"}[values["optimizer"]]
    if unused in assignments(options.set):
        raise SpecError(f"--set {unused} changes nothing: the trial's optimizer is {values['optimizer']}")
    new = Recipe(values, train, seed)
    return new, _differences(recipe, new)


def _checked(key: str, value: Any, rule: Rule) -> Any:
    try:
        return rule(value)
    except ValueError as error:
        raise SpecError(f"--set {key} {error}, got {value!r}") from None


def _at_depth(values: Values, space: Space, text: str) -> Values:
    """+6 and -6 count from the trial's depth."""
    from search.recipes import share_out
    from search.spec import depth_of

    names = [f"blocks_{i}" for i in range(1, len(space.widths) + 1)]
    blocks = [values[name] for name in names]
    depth = depth_of(space, sum(blocks))
    try:
        wanted = int(text) + (depth if text[0] in "+-" else 0)
        return dict(zip(names, share_out(blocks, replace(space, blocks=WIDE), wanted), strict=True))
    except ValueError:
        raise SpecError(
            f"--depth must be a number of convs that blocks of two can make, as {depth}, or +2, -2, +4 ..., "
            f"got {text!r}"
        ) from None


def _differences(old: Recipe, new: Recipe) -> dict[str, Any]:
    found = {name: value for name, value in new.values.items() if value != old.values[name]}
    settings = {key: getattr(new.train, key) for key in TRAIN}
    found |= {key: value for key, value in settings.items() if value != getattr(old.train, key)}
    return found | ({"seed": new.seed} if new.seed != old.seed else {})


def distributions(values: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The widest of each name, so that all repeats fit into one study."""
    known: dict[str, BaseDistribution] = {
        "block": CategoricalDistribution(BLOCKS),
        "blocks": IntDistribution(1, 128),
        "width": IntDistribution(1, MAX_WIDTH),
        "norm": CategoricalDistribution(NORMS),
        "init": CategoricalDistribution(INITS),
        "zero_branch": CategoricalDistribution((False, True)),
        "optimizer": CategoricalDistribution(("sgd", "adamw")),
        "lr_sgd": FloatDistribution(1e-8, 100, log=True),
        "lr_adamw": FloatDistribution(1e-8, 100, log=True),
        "weight_decay": FloatDistribution(0, 10),
        "warmup": FloatDistribution(0, 0.9),
    }
    return {name: known[name.rstrip("0123456789").rstrip("_")] for name in values}
