"""One thing changed in a trial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from models.architecture import MAX_WIDTH
from models.arms.arm import ARMS
from models.inits import INITS
from models.norms import NORMS
from models.rules import Number, Whole
from search.design.space import key_of
from search.design.variations import Change, Recipe, assignments, changed, widest_distributions
from search.errors import SpecError
from search.spec.domains import Range
from search.spec.tables import Space, TrainSettings
from tests.support.made_up import Bottleneck, installed

SPACE = Space(blocks=Range(low=1, high=4), widths=((4, 6), (8, 12)))
VALUES = {
    "block": "residual", "blocks_1": 2, "blocks_2": 4, "width_1": 4, "width_2": 12, "norm": "batch",
    "init": "he", "zero_branch": False, "optimizer": "sgd", "lr_sgd": 0.03, "lr_adamw": 0.002,
    "weight_decay": 1e-5, "warmup": 0.05,
}  # fmt: skip
RECIPE = Recipe(VALUES, TrainSettings(epochs=6, batch_size=32), 5)
DEPTH = 14
"""Convs: stem, six blocks of two, and one transition."""


def change(**asked: Any) -> tuple[Recipe, dict[str, Any]]:
    return changed(RECIPE, SPACE, Change(**asked))


def test_nothing_asked_changes_nothing() -> None:
    assert change() == (RECIPE, {})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"block": "plain"}, {"block": "plain"}),
        ({"block": "residual"}, {}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": 5}, {}),
        ({"settings": {"epochs": 60}}, {"epochs": 60}),
        ({"settings": {"epochs": 6, "batch_size": 16}}, {"batch_size": 16}),
        ({"settings": {"clip": 1}}, {"clip": 1.0}),
        ({"settings": {"flip": True}}, {"flip": True}),
        ({"settings": {"width_2": 64, "norm": "none"}}, {"width_2": 64, "norm": "none"}),
        ({"settings": {"blocks_1": 9}}, {"blocks_1": 9}),
        ({"settings": {"lr_sgd": 1}}, {"lr_sgd": 1.0}),
        ({"settings": {"optimizer": "adamw", "lr_adamw": 0.1}}, {"optimizer": "adamw", "lr_adamw": 0.1}),
        (
            {"block": "preact", "seed": 7, "settings": {"warmup": 0}},
            {"block": "preact", "seed": 7, "warmup": 0.0},
        ),
    ],
)
def test_what_is_asked_is_changed_and_told_where_it_differs(
    asked: dict[str, Any], found: dict[str, Any]
) -> None:
    recipe, changes = change(**asked)
    assert changes == found
    train = {key: value for key, value in found.items() if hasattr(RECIPE.train, key)}
    values = {key: value for key, value in found.items() if key in VALUES}
    seed = found.get("seed", RECIPE.seed)
    assert recipe == Recipe(VALUES | values, replace(RECIPE.train, **train), seed)
    assert RECIPE.values == VALUES, "the trial's own stay"


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        ("14", (2, 4)),
        ("+2", (2, 5)),
        ("+6", (3, 6)),
        ("-6", (1, 2)),
        ("6", (1, 1)),
        ("26", (4, 8)),
        ("218", (36, 72)),
    ],
)
def test_depth_is_in_convs_or_counts_from_the_trials_own(depth: str, blocks: tuple[int, int]) -> None:
    """Its blocks are shared out over the stages in the same proportions; a repeat may be deeper than the
    space."""
    recipe, changes = change(depth=depth)
    found = {"blocks_1": recipe.values["blocks_1"], "blocks_2": recipe.values["blocks_2"]}
    assert 2 + 2 * sum(found.values()) == int(depth) + (DEPTH if depth[0] in "+-" else 0)
    assert tuple(found.values()) == blocks
    assert changes == {name: value for name, value in found.items() if value != VALUES[name]}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"depth": "15"},
            "--depth must be a number of convs that blocks of 2 can make, "
            r"as 14, or \+2, -2, \+4 \.\.\., got '15'",
        ),
        ({"depth": "+1"}, "got '\\+1'"),
        ({"depth": "-60"}, "--depth must be a number of convs"),
        ({"depth": "4"}, "--depth must be a number of convs"),  # a stage has one block at least
        ({"depth": ""}, "got ''"),
        ({"depth": "2000"}, "--depth must be a number of convs"),
        ({"depth": "deep"}, "got 'deep'"),
        ({"depth": "8", "settings": {"blocks_2": 1}}, "--set blocks_2 and --depth both say how many blocks"),
        (
            {"settings": {"lr": 1}},
            "--set lr is not a value of a trial: known are blocks_1, blocks_2, width_1",
        ),
        ({"settings": {"block": "plain"}}, "--set block is not a value of a trial"),
        ({"settings": {"seed": 1}}, "--set seed is not a value of a trial"),
        (
            {"settings": {"epochs": "many"}},
            "--set epochs must be a whole number from 1 to 100000, got 'many'",
        ),
        ({"settings": {"width_1": 0}}, "--set width_1 must be a whole number from 1 to 4096, got 0"),
        ({"settings": {"norm": "layer"}}, "--set norm must be "),
        ({"settings": {"lr_adamw": 0.1}}, "--set lr_adamw changes nothing: the trial's optimizer is sgd"),
        (
            {"settings": {"optimizer": "adamw", "lr_sgd": 0.1}},
            "--set lr_sgd changes nothing: the trial's optimizer is adamw",
        ),
    ],
)
def test_what_breaks_a_rule_is_told(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        change(**asked)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1", 1),
        ("x=1.5", 1.5),
        ("x=1e-3", 1e-3),
        ("x=true", True),
        ("x = adamw", "adamw"),
        ('x="adamw"', "adamw"),
        ("x=a=b", "a=b"),
        ("x=[1]", [1]),
    ],
)
def test_assignments_are_toml_and_quotes_may_be_left_out(text: str, value: object) -> None:
    found = assignments([text, "y=2"])
    assert found == {"x": value, "y": 2}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize("text", ["epochs", "epochs=", "=3", "", "  = "])
def test_what_is_no_assignment_is_told(text: str) -> None:
    with pytest.raises(SpecError, match=f"^--set must be KEY=VALUE, got '{text}'$"):
        assignments([text])


def test_every_parameter_may_have_whatever_its_key_allows() -> None:
    expected: dict[str, BaseDistribution] = {
        "block": CategoricalDistribution(tuple(ARMS)),
        "blocks_1": IntDistribution(1, 128),
        "blocks_2": IntDistribution(1, 128),
        "width_1": IntDistribution(1, MAX_WIDTH),
        "width_2": IntDistribution(1, MAX_WIDTH),
        "norm": CategoricalDistribution(tuple(NORMS)),
        "init": CategoricalDistribution(tuple(INITS)),
        "zero_branch": CategoricalDistribution((False, True)),
        "optimizer": CategoricalDistribution(("sgd", "adamw")),
        "lr_sgd": FloatDistribution(1e-8, 100, log=True),
        "lr_adamw": FloatDistribution(1e-8, 100, log=True),
        "weight_decay": FloatDistribution(0, 10),
        "warmup": FloatDistribution(0, 0.9),
    }
    assert widest_distributions(VALUES) == expected


def test_distributions_hold_every_value_that_a_key_allows_and_none_beyond() -> None:
    for name, distribution in widest_distributions(VALUES).items():
        rule = key_of(name).each
        assert rule is not None
        if isinstance(rule, Whole | Number):
            assert isinstance(distribution, IntDistribution | FloatDistribution)
            assert (distribution.low, distribution.high) == (rule.low, rule.high), name
            allowed: list[Any] = [distribution.low, distribution.high]
        else:
            assert isinstance(distribution, CategoricalDistribution)
            allowed = list(distribution.choices)
        for value in allowed:
            assert rule(value) == value
            assert distribution._contains(distribution.to_internal_repr(value)), (name, value)


def test_depth_is_counted_in_the_blocks_of_the_trials_own_arm() -> None:
    """A free search may have arms with more convolutions in a block than the first."""
    with installed(Bottleneck):
        mixed = replace(SPACE, block=("plain", "bottleneck"))
        three = replace(RECIPE, values=VALUES | {"block": "bottleneck"})
        recipe, changes = changed(three, mixed, Change(depth="+6"))
        assert changes == {"blocks_1": 3, "blocks_2": 5}, "two blocks more of three convs each"
        recipe, _ = changed(RECIPE, mixed, Change(block="bottleneck", depth="20"))
        assert recipe.values["blocks_1"] + recipe.values["blocks_2"] == 6
        with pytest.raises(SpecError, match=r"blocks of 3 can make, as 20, or \+3, -3, \+6 \.\.\., got '21'"):
            changed(three, mixed, Change(depth="21"))
