from __future__ import annotations

import itertools
import json
from typing import Any

from search.design.plan import Plan
from tests.support.plans import ARMS, RATES, choice, plan

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
        *((arm, ("plain", "residual")) for arm in ARMS), ("plain", ("preact",)), ("preact", ("preact",))
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
    """So that queued trials keep their numbers."""
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


def test_the_deepest_are_held_against_the_depth_that_the_search_found_best() -> None:
    plain = [choice("plain", depth, val=val) for depth, val in ((9, 0.8), (15, 0.95), (21, 0.9), (33, 0.99))]
    assert plan(plain).shallow == 15
    assert plan(plain[:1]).shallow is None
