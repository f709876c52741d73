from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from search.design.plan import Plan
from search.stats.paired import compare_family
from tests.support.arms import OURS
from tests.support.plans import RATES, choice, plan

OWN = plan([choice(arm, depth, lr) for depth in (9, 21) for arm, lr in RATES.items()])


def test_every_arm_is_trained_under_its_own_recipe_and_both_under_each_others() -> None:
    runs = [run for run in OWN.runs() if (run.replicate, run.depth) == (0, 9)]
    assert [(run.arm, run.best_of) for run in runs] == [
        ("plain", ("plain",)), ("residual", ("plain",)), ("preact", ("plain",)),
        ("plain", ("residual",)), ("residual", ("residual",)),
        ("plain", ("preact",)), ("preact", ("preact",)),
    ]  # fmt: skip


def test_one_recipe_is_trained_once_however_many_arms_it_is_the_best_of() -> None:
    shared = plan([choice("plain", 9, 0.1), choice("residual", 9, 0.1), choice("preact", 9, 0.3)])
    runs = [(run.arm, run.best_of) for run in shared.runs() if run.replicate == 0]
    assert runs == [
        *((arm, ("plain", "residual")) for arm in OURS), ("plain", ("preact",)), ("preact", ("preact",))
    ]  # fmt: skip
    assert shared.seconds() == 3 * 5 * 2.0


def test_twins_share_a_number_and_nothing_else_does() -> None:
    groups: dict[int, list[Any]] = {}
    for run in OWN.runs():
        groups.setdefault(run.twins, []).append(run)
    assert sorted(groups) == list(range(3 * 6))
    for runs in groups.values():
        assert len({(run.depth, run.replicate, run.best_of) for run in runs}) == 1
        assert len({run.arm for run in runs}) == len(runs)
        assert "plain" in {run.arm for run in runs}


def test_more_seeds_begin_with_the_same_runs() -> None:
    """Queued trials must keep their numbers."""
    more = OWN.with_seeds(5)
    few = list(OWN.runs())
    assert list(itertools.islice(more.runs(), len(few))) == few
    assert more.seeds == (3, 5)
    assert OWN.with_seeds(2) is OWN


def test_a_plan_survives_json() -> None:
    stored = json.loads(json.dumps(OWN.with_seeds(5).to_json()))
    assert Plan.from_json(stored) == OWN.with_seeds(5)
    assert set(stored["hypotheses"]) == {"beats", "twins", "degradation", "interaction"}
    assert "exceeds 1 point " in stored["hypotheses"]["beats"]


def test_a_plan_without_a_baseline_is_an_old_one_and_is_read_as_plain() -> None:
    """The first confirmations knew no other: what they stored is neither read nor written otherwise."""
    old = plan([choice("plain", 9)], trials=7, margin=1.5, seeds=(3, 5), epochs=2, steps=60)
    hypotheses = old.hypotheses()
    stored = {
        "search": "digits", "trials": 7, "margin": 1.5, "seeds": [3, 5], "epochs": 2, "steps": 60,
        "choices": [
            {
                "arm": "plain", "depth": 9, "trial": 9, "trial_depth": 9, "val_accuracy": 0.9,
                "candidates": 3, "params": {"lr_sgd": 0.1, "blocks_1": 4}, "seconds": 2.0,
            }
        ],
        "hypotheses": hypotheses,
    }  # fmt: skip
    assert old.to_json() == stored
    assert Plan.from_json(stored) == old
    assert Plan.from_json(stored).baseline == "plain"


def test_another_baseline_is_kept_in_json() -> None:
    other = replace(OWN, baseline="residual")
    stored = json.loads(json.dumps(other.to_json()))
    assert stored["baseline"] == "residual"
    assert Plan.from_json(stored) == other


def test_under_another_baseline_all_are_trained_under_its_recipe_and_it_under_theirs() -> None:
    other = replace(OWN, baseline="residual")
    assert other.rivals == ["plain", "preact"]
    runs = [run for run in other.runs() if (run.replicate, run.depth) == (0, 9)]
    assert [(run.arm, run.best_of) for run in runs] == [
        ("plain", ("plain",)), ("residual", ("plain",)),
        ("plain", ("residual",)), ("residual", ("residual",)), ("preact", ("residual",)),
        ("residual", ("preact",)), ("preact", ("preact",)),
    ]  # fmt: skip


def test_four_rivals_are_each_twins_of_the_baseline_and_not_of_each_other() -> None:
    arms = ("plain", "residual", "preact", "unheard", "other")
    five = plan([choice(arm, 9, 0.1 + i) for i, arm in enumerate(arms)], baseline="preact", seeds=(1,))
    assert five.rivals == ["plain", "residual", "unheard", "other"]
    by_recipe: dict[tuple[str, ...], list[str]] = {}
    for run in five.runs():
        by_recipe.setdefault(run.best_of, []).append(run.arm)
    assert by_recipe == {
        ("plain",): ["plain", "preact"], ("residual",): ["residual", "preact"], ("preact",): list(arms),
        ("unheard",): ["preact", "unheard"], ("other",): ["preact", "other"],
    }  # fmt: skip


def test_runs_come_seed_by_seed_and_carry_their_recipe() -> None:
    runs = list(OWN.runs())
    assert [run.replicate for run in runs] == sorted(run.replicate for run in runs)
    assert [run.depth for run in runs[:14]] == [9] * 7 + [21] * 7
    for run in runs:
        found = OWN.choice(run.best_of[0], run.depth)
        assert found is not None
        assert run.params == found.params
    assert OWN.choice("plain", 11) is None


def test_the_estimate_adds_up_each_runs_own_seconds() -> None:
    """Recipes differ in price, and one recipe may be dearer at another depth."""
    choices = [
        replace(choice("plain", 9, 0.1), seconds=1.0), replace(choice("residual", 9, 0.2), seconds=10.0),
        replace(choice("plain", 21, 0.1), seconds=100.0),
        replace(choice("residual", 21, 0.2), seconds=1000.0),
    ]  # fmt: skip
    assert plan(choices, seeds=(3,)).seconds() == 3 * 2 * 1111.0
    assert plan(choices, seeds=(3, 5)).seconds() == 5 * 2 * 1111.0


@pytest.mark.parametrize("depths", [1, 2, 5, 10])
def test_fewer_than_the_least_seeds_cannot_beat_at_any_depth(depths: int) -> None:
    """The difference is as large as can be at one depth, and none at the others."""
    least = plan([choice("plain", 9 + 2 * i) for i in range(depths)]).least_seeds()
    for seeds, word in ((least - 1, "undecided"), (least, "beats")):
        family = {0: [90.0] * seeds} | {i: [0.0] * seeds for i in range(1, depths)}
        assert compare_family(family)[0].word == word


def test_a_plan_of_one_depth_has_no_hypotheses_on_depth() -> None:
    one = plan([choice(arm, 9, 0.1) for arm in OURS], seeds=(5,))
    assert one.shallow is None
    assert set(one.hypotheses()) == {"beats", "twins"}
    assert "None" not in str(one.hypotheses())


def test_hypotheses_name_the_arms_the_depths_and_the_margin() -> None:
    texts = replace(OWN, baseline="residual", margin=2.5).hypotheses()
    assert "At each depth, plain and preact against residual" in texts["beats"]
    assert "exceeds 2.5 points (" in texts["beats"]
    assert "residual's best and the rival's best" in texts["twins"]
    assert texts["degradation"].startswith("Residual networks of 21 convs train worse than those of 9")
    assert texts["interaction"].startswith("From 9 to 21 convs, residual loses more test accuracy than plain")
    assert OWN.hypotheses()["degradation"].startswith("Plain stacks of 21 convs")


def test_the_deepest_are_held_against_the_depth_that_the_search_found_best() -> None:
    val = {9: 0.8, 15: 0.95, 21: 0.95, 33: 0.99}
    plain = [choice("plain", depth, val=accuracy) for depth, accuracy in val.items()]
    others = [choice("residual", depth, val=1 - accuracy) for depth, accuracy in val.items()]
    assert plan(plain + others).shallow == 15, "of equal ones, the shallower"
    assert plan(plain + others, baseline="residual").shallow == 9
    assert plan(plain[:1]).shallow is None
    assert plan(plain[:1] + others).shallow is None, "the baseline's depths count"
