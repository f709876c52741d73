from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.data.config import DataConfig
from search.data.datasets import load
from search.design.depths import depth_of, reachable_depths, share_out
from search.design.recipes import choose, make_plan
from search.errors import SpecError
from search.spec.domains import Range
from search.spec.study import StudySpec
from search.spec.study_file import load_spec
from search.spec.tables import Space
from tests.support.made_trials import made

DIGITS = load_spec(Path("studies/digits.toml"))
SHAPE, CLASSES = (1, 8, 8), 10


def space(**changes: Any) -> Space:
    return replace(DIGITS.space, **changes)


def run(number: int, arm: str, value: float, blocks: tuple[int, int, int], **attrs: Any) -> FrozenTrial:
    """A digits trial of three stages, trained to the end."""
    trial = made(number, arm, value, group=number, **attrs)
    trial.params |= {f"blocks_{i}": count for i, count in enumerate(blocks, start=1)}
    trial.params |= {"width_1": 16, "width_2": 16, "width_3": 16, "norm": "batch", "init": "he"}
    trial.params |= {"zero_branch": True, "optimizer": "adamw", "lr_sgd": 0.1, "lr_adamw": 0.003}
    trial.params |= {"weight_decay": 1e-5, "warmup": 0.05}
    trial.user_attrs["depth"] = depth_of(DIGITS.space, sum(blocks))
    return trial


def test_depths_that_a_space_reaches() -> None:
    assert reachable_depths(DIGITS.space) == list(range(9, 58, 2))
    assert reachable_depths(space(blocks=(1, 4), widths=((8,), (8,)))) == [6, 12, 18]
    assert reachable_depths(space(transition="stride", widths=((8,),), blocks=(3,))) == [7]


def test_a_ladder_steps_on_the_nearest_reachable_depths() -> None:
    assert ladder_of(DIGITS.space, (8, 14, 20, 32, 44)) == [9, 15, 21, 33, 45]
    assert ladder_of(DIGITS.space, (20, 21, 22)) == [21, 23]
    assert ladder_of(DIGITS.space, (2, 6, 200)) == []


@pytest.mark.parametrize("blocks", [(1, 1, 1), (9, 1, 1), (2, 7, 3), (9, 9, 9)])
@pytest.mark.parametrize("depth", [9, 21, 45, 57])
def test_blocks_are_shared_out_to_the_exact_depth(blocks: tuple[int, ...], depth: int) -> None:
    found = share_out(blocks, DIGITS.space, depth)
    assert depth_of(DIGITS.space, sum(found)) == depth
    assert all(1 <= count <= 9 for count in found)


def test_proportions_are_kept_where_they_can_be() -> None:
    assert share_out((1, 2, 1), DIGITS.space, depth_of(DIGITS.space, 12)) == [3, 6, 3]
    assert share_out((2, 3, 4), DIGITS.space, depth_of(DIGITS.space, 9)) == [2, 3, 4]


def test_no_other_plan_is_nearer_to_the_proportions() -> None:
    blocks, depth = (5, 2, 1), depth_of(DIGITS.space, 13)

    def cost(plan: tuple[int, ...]) -> float:
        return sum(math.log(count * 8 / (share * 13)) ** 2 for count, share in zip(plan, blocks, strict=True))

    plans = [(a, b, 13 - a - b) for a in range(1, 10) for b in range(1, 10) if 1 <= 13 - a - b <= 9]
    assert tuple(share_out(blocks, DIGITS.space, depth)) == min(plans, key=cost)


def test_a_depth_out_of_reach_is_refused() -> None:
    for depth in (8, 20, 7, 59):
        with pytest.raises(ValueError, match="no network of the space"):
            share_out((1, 1, 1), DIGITS.space, depth)
    assert share_out((1, 1, 1), space(blocks=(1, 4)), 21) == [1, 4, 4]


def test_the_best_validated_run_near_the_depth_is_chosen() -> None:
    trials = [
        run(0, "plain", 0.99, (1, 1, 1)),  # 9 convs: too shallow for 21
        run(1, "plain", 0.80, (3, 3, 3)),
        run(2, "plain", 0.90, (3, 4, 3)),
        run(3, "plain", 0.85, (2, 3, 3)),
        run(4, "residual", 0.99, (3, 3, 3)),
        run(5, "plain", 0.99, (3, 3, 3), state=TrialState.PRUNED),
    ]
    choice = choose(trials, DIGITS.space, "plain", 21, 15, SHAPE, CLASSES)
    assert choice is not None
    assert (choice.trial, choice.trial_depth, choice.candidates, choice.val_accuracy) == (2, 23, 3, 0.9)
    assert [choice.params[f"blocks_{i}"] for i in (1, 2, 3)] == [3, 3, 3]
    assert "block" not in choice.params
    assert choice.params["lr_adamw"] == 0.003
    assert choice.seconds == pytest.approx(2.0 * 21 / 23)


def test_where_few_are_near_the_next_in_depth_are_taken_as_well() -> None:
    trials = [run(i, "plain", 0.9 - i / 100, (n, n, n)) for i, n in enumerate((1, 2, 3, 4))]
    choice = choose(trials, DIGITS.space, "plain", 57, 15, SHAPE, CLASSES)
    assert choice is not None
    assert (choice.trial, choice.candidates) == (1, 3)
    assert choose(trials, DIGITS.space, "residual", 57, 15, SHAPE, CLASSES) is None


def test_a_recipe_too_large_at_the_depth_is_passed_over() -> None:
    wide = run(0, "plain", 0.99, (3, 3, 3))
    wide.params |= {"width_1": 32, "width_2": 32, "width_3": 32}
    trials = [wide, run(1, "plain", 0.9, (3, 3, 3))]
    choice = choose(trials, space(max_params=100_000), "plain", 21, 15, SHAPE, CLASSES)
    assert choice is not None
    assert choice.trial == 1
    assert choose(trials, space(max_params=1000), "plain", 21, 15, SHAPE, CLASSES) is None


def test_a_plan_is_made_of_the_settings_and_the_trials() -> None:
    trials = [run(i, arm, 0.9, (3, 3, 3)) for i, arm in enumerate(("plain", "residual", "preact"))]
    plan = make_plan("digits", trials, DIGITS, load(DataConfig(name="digits", val_fraction=0.25)))
    assert (plan.depths, plan.seeds, plan.margin, plan.trials) == ([9, 15, 21, 33, 45], (10,), 1.0, 3)
    assert (plan.epochs, plan.steps) == (15, 240)
    assert len(list(plan.runs())) == 5 * 3 * 10  # one recipe for all arms, so no run is made twice


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (replace(DIGITS, space=space(block=("plain",))), "must have plain and another arm"),
        (replace(DIGITS, space=space(block=("residual", "preact"))), "must have plain and another arm"),
        (replace(DIGITS, confirm=replace(DIGITS.confirm, depths=(200,))), "9 to 57 convs"),
        (replace(DIGITS, space=space(blocks=Range(low=1, high=2))), "no preact trial of 'x' was trained"),
    ],
)
def test_what_cannot_be_confirmed_is_told(spec: StudySpec, says: str) -> None:
    trials = [run(0, "plain", 0.9, (1, 1, 1)), run(1, "residual", 0.9, (1, 1, 1))]
    with pytest.raises(SpecError, match=says):
        make_plan("x", trials, spec, load(DataConfig(name="digits", val_fraction=0.25)))
