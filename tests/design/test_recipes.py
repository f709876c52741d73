from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from models.cost import measure_cost
from search.data.datasets import load
from search.data.images import Parts
from search.design.depths import depth_of
from search.design.plan import Choice
from search.design.recipes import choose, confirmed_depths, make_plan
from search.design.space import make_architecture, values_of
from search.design.strata import strata_of_spec
from search.errors import SpecError
from search.spec.domains import Range
from search.spec.study import StudySpec
from search.spec.study_file import load_spec
from search.spec.tables import Space
from search.storage.trial_record import TrialRecord
from tests.support.made_trials import made
from tests.support.made_up import Bottleneck, Gated, Halved, installed

DIGITS = load_spec(Path("studies/digits.toml"))
SHAPE, CLASSES = (1, 8, 8), 10


class Narrow(Bottleneck):
    """Another arm with three convolutions in a block."""

    name = "narrow"


def space(**changes: Any) -> Space:
    return replace(DIGITS.space, **changes)


def run(number: int, arm: str, value: float, blocks: tuple[int, int, int], **attrs: Any) -> TrialRecord:
    """A digits trial of three stages, trained to the end."""
    trial = made(number, arm, value, group=number, **attrs)
    trial.params |= {f"blocks_{i}": count for i, count in enumerate(blocks, start=1)}
    trial.params |= {"width_1": 16, "width_2": 16, "width_3": 16, "norm": "batch", "init": "he"}
    trial.params |= {"zero_branch": True, "optimizer": "adamw", "lr_sgd": 0.1, "lr_adamw": 0.003}
    trial.params |= {"weight_decay": 1e-5, "warmup": 0.05}
    trial.user_attrs["depth"] = depth_of(DIGITS.space, sum(blocks))
    return TrialRecord(trial)


@cache
def digits_parts() -> Parts:
    return load(DIGITS.data)


def chosen(trials: Sequence[TrialRecord], arm: str, depth: int, **changes: Any) -> Choice | None:
    return choose(trials, replace(DIGITS, space=space(**changes)), arm, depth, SHAPE, CLASSES)


def test_the_best_validated_run_near_the_depth_is_chosen() -> None:
    trials = [
        run(0, "plain", 0.99, (1, 1, 1)),  # 9 convs: too shallow for 21
        run(1, "plain", 0.80, (3, 3, 3)),
        run(2, "plain", 0.90, (3, 4, 3)),
        run(3, "plain", 0.85, (2, 3, 3)),
        run(4, "residual", 0.99, (3, 3, 3)),
        run(5, "plain", 0.99, (3, 3, 3), state=TrialState.PRUNED),
    ]
    choice = chosen(trials, "plain", 21)
    assert choice is not None
    assert (choice.trial, choice.trial_depth, choice.candidates, choice.val_accuracy) == (2, 23, 3, 0.9)
    assert [choice.params[f"blocks_{i}"] for i in (1, 2, 3)] == [3, 3, 3]
    assert "block" not in choice.params
    assert choice.params["lr_adamw"] == 0.003
    assert choice.seconds == pytest.approx(2.0 * 21 / 23)


def test_where_few_are_near_the_next_in_depth_are_taken_as_well() -> None:
    trials = [run(i, "plain", 0.9 - i / 100, (n, n, n)) for i, n in enumerate((1, 2, 3, 4))]
    choice = chosen(trials, "plain", 57)
    assert choice is not None
    assert (choice.trial, choice.candidates) == (1, 3)
    assert chosen(trials, "residual", 57) is None


def test_a_recipe_too_large_at_the_depth_is_passed_over() -> None:
    wide = run(0, "plain", 0.99, (3, 3, 3))
    wide.trial.params |= {"width_1": 32, "width_2": 32, "width_3": 32}
    trials = [wide, run(1, "plain", 0.9, (3, 3, 3))]
    choice = chosen(trials, "plain", 21, max_params=100_000)
    assert choice is not None
    assert choice.trial == 1
    assert chosen(trials, "plain", 21, max_params=1000) is None


def test_the_cap_is_held_against_the_arms_own_network() -> None:
    """Gates are parameters that its twins lack."""
    with installed(Gated):
        plain, gated = run(0, "plain", 0.9, (3, 3, 3)), run(1, "gated", 0.9, (3, 3, 3))
        least = {}
        for arm in ("plain", "gated"):
            values = values_of(plain.drawn, DIGITS.space) | {"block": arm}
            least[arm] = measure_cost(make_architecture(values, DIGITS.space, SHAPE, CLASSES)).params
        assert least["plain"] < least["gated"]
        assert chosen([plain], "plain", 21, max_params=least["plain"])
        assert chosen([gated], "gated", 21, max_params=least["gated"])
        assert chosen([gated], "gated", 21, max_params=least["gated"] - 1) is None


def test_a_plan_is_made_of_the_settings_and_the_trials() -> None:
    trials = [run(i, arm, 0.9, (3, 3, 3)) for i, arm in enumerate(("plain", "residual", "preact"))]
    plan = make_plan("digits", trials, DIGITS, digits_parts())
    assert (plan.depths, plan.seeds, plan.margin, plan.trials) == ([11, 17, 29, 45], (10,), 1.0, 3)
    assert (plan.epochs, plan.steps) == (15, 240)
    assert len(list(plan.runs())) == 4 * 3 * 10  # one recipe for all arms, so no run is made twice
    matched = replace(DIGITS, search=replace(DIGITS.search, design="matched"))
    assert make_plan("digits", trials, matched, digits_parts()).depths == [9, 15, 21, 33, 45]


def test_each_stratum_is_confirmed_under_the_recipes_found_in_it() -> None:
    """The best of all is too shallow for 29 convs, though near; where nothing ran to the end, the nearest are
    taken."""
    blocks = {21: (3, 3, 3), 23: (3, 3, 4), 29: (4, 4, 5), 37: (5, 6, 6)}
    trials = [
        run(number, arm, score, blocks[depth])
        for number, (arm, score, depth) in enumerate(
            [("plain", 0.9, 21), ("plain", 0.5, 23), ("plain", 0.4, 29), ("residual", 0.9, 37),
             ("preact", 0.9, 29)]
        )
    ]  # fmt: skip
    assert confirmed_depths(DIGITS) == {
        stratum.middle(DIGITS.space): stratum for stratum in strata_of_spec(DIGITS)
    }
    plan = make_plan("digits", trials, DIGITS, digits_parts())
    chosen_at = {depth: plan.choice("plain", depth) for depth in plan.depths}
    assert {depth: choice and choice.trial for depth, choice in chosen_at.items()} == {
        11: 0, 17: 0, 29: 1, 45: 0,
    }  # fmt: skip


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
        make_plan("x", trials, spec, digits_parts())


@pytest.fixture
def trained() -> list[TrialRecord]:
    return [run(i, arm, 0.9, (3, 3, 3)) for i, arm in enumerate(("plain", "residual", "preact"))]


def test_the_plan_has_the_settings_of_the_study(trained: list[TrialRecord]) -> None:
    """Margin, seeds, baseline, epochs: none of them at its default."""
    spec = replace(
        DIGITS,
        confirm=replace(DIGITS.confirm, margin=2.5, seeds=7, depths=(20,)),
        search=replace(DIGITS.search, baseline="residual"),
        train=replace(DIGITS.train, epochs=30, batch_size=100),
    )
    unfinished = run(3, "plain", 0.99, (3, 3, 3), state=TrialState.RUNNING)
    pruned = run(4, "plain", 0.99, (3, 3, 3), state=TrialState.PRUNED)
    plan = make_plan("mine", [*trained, unfinished, pruned], spec, digits_parts())
    assert (plan.search, plan.margin, plan.seeds, plan.baseline) == ("mine", 2.5, (7,), "residual")
    assert (plan.depths, plan.arms, plan.rivals) == (
        [21],
        ["plain", "residual", "preact"],
        ["plain", "preact"],
    )
    assert (plan.epochs, plan.steps) == (30, 30 * (1079 // 100))
    assert plan.trials == 4, "that have finished"


def test_arms_that_are_added_are_confirmed_as_well(trained: list[TrialRecord]) -> None:
    with installed(Halved, Gated):
        arms = ("gated", "plain", "residual", "halved", "preact")
        trials = [run(i, arm, 0.9, (3, 3, 3)) for i, arm in enumerate(arms)]
        spec = replace(DIGITS, space=space(block=arms), search=replace(DIGITS.search, baseline="gated"))
        plan = make_plan("x", trials, spec, digits_parts())
        assert plan.arms == list(arms)
        assert plan.rivals == ["plain", "residual", "halved", "preact"]


def test_of_equal_runs_the_first_is_chosen_and_training_accuracy_does_not_count() -> None:
    trials = [
        run(5, "plain", 0.9, (3, 3, 3)), run(2, "plain", 0.9, (3, 3, 3), train_accuracy=0.1),
        run(3, "plain", 0.8, (3, 3, 3), train_accuracy=1.0),
    ]  # fmt: skip
    choice = chosen(trials, "plain", 21)
    assert choice is not None
    assert choice.trial == 2


def test_recipes_are_parameters_of_the_space_and_nothing_that_is_fixed() -> None:
    [trial] = [run(0, "plain", 0.9, (3, 3, 3))]
    choice = chosen([trial], "plain", 21, norm=("batch",), warmup=(0.05,))
    assert choice is not None
    assert choice.params == {
        "blocks_1": 3, "blocks_2": 3, "blocks_3": 3, "width_1": 16, "width_2": 16, "width_3": 16,
        "init": "he", "zero_branch": True, "optimizer": "adamw", "lr_sgd": 0.1, "lr_adamw": 0.003,
        "weight_decay": 1e-5,
    }  # fmt: skip


def test_the_estimate_scales_by_epochs_and_depth() -> None:
    """A run that ended after 5 of 15 epochs in 3 s, at 19 convs: 9 s in full, more at 21 convs."""
    choice = chosen([run(0, "plain", 0.9, (3, 3, 2), epochs=5, train_seconds=3.0)], "plain", 21)
    assert choice is not None
    assert choice.seconds == pytest.approx(3.0 * 3 * 21 / 19)
    unknown = chosen([run(0, "plain", 0.9, (3, 3, 3), epochs=0, train_seconds=None)], "plain", 21)
    assert unknown is not None
    assert unknown.seconds == 0


@pytest.mark.parametrize("baseline", ["plain", "residual", "preact"])
def test_without_the_baseline_nothing_can_be_confirmed(trained: list[TrialRecord], baseline: str) -> None:
    others = tuple(arm for arm in DIGITS.space.block if arm != baseline)
    spec = replace(DIGITS, space=space(block=others), search=replace(DIGITS.search, baseline=baseline))
    with pytest.raises(SpecError, match=f"space.block must have {baseline} and another arm to compare"):
        make_plan("x", trained, spec, digits_parts())


def test_blocks_of_three_convolutions_are_confirmed_among_their_like() -> None:
    with installed(Bottleneck, Narrow):
        arms = ("bottleneck", "narrow")
        three = space(block=arms, widths=((8,), (8,), (8,)), max_params=None)
        trials = [run(i, arm, 0.9, (1, 2, 3)) for i, arm in enumerate(arms)]
        for trial in trials:
            trial.trial.user_attrs["depth"] = 3 + 3 * 6
        spec = replace(DIGITS, space=three, search=replace(DIGITS.search, baseline="narrow"))
        assert make_plan("x", trials, spec, digits_parts()).depths == [15, 24, 42, 66]
        spec = replace(spec, search=replace(spec.search, design="matched"))
        plan = make_plan("x", trials, spec, digits_parts())
        assert plan.depths == [15, 21, 33, 45], "12 is the shallowest, and far from 8"
        choice = plan.choice("bottleneck", 21)
        assert choice is not None
        assert [choice.params[f"blocks_{i}"] for i in (1, 2, 3)] == [1, 2, 3]


def test_arms_of_unequal_blocks_are_not_confirmed(trained: list[TrialRecord]) -> None:
    """A free search may have had them: as many blocks are another depth."""
    with installed(Bottleneck):
        spec = replace(DIGITS, space=space(block=("plain", "bottleneck")))
        with pytest.raises(SpecError, match=r"as many convs in a block, .* got plain 2, bottleneck 3"):
            make_plan("x", [*trained, run(3, "bottleneck", 0.9, (3, 3, 3))], spec, digits_parts())
