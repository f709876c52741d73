from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from search.analysis.accounts import Account
from search.analysis.verdicts import OWN, Contrast, Standing, Verdicts, Versus, judge
from search.design.plan import Plan, PlannedRun
from search.stats.paired import Comparison, compare_family
from search.views.confirmation_tables import (
    champion_table,
    confirmed,
    contrast_table,
    fairness_table,
    plan_table,
    spent,
    standing_table,
    twin_table,
    verdict_table,
)
from tests.support.made_trials import records
from tests.support.plans import RATES, choice, ended_runs, plan

DEPTHS = (9, 21, 45)
PLAN = plan([choice(arm, depth, lr) for depth in DEPTHS for arm, lr in RATES.items()], seeds=(10,))


def judged(given: Plan, score: Any, most: int | None = None, test_reads: int = 7) -> Verdicts:
    return judge(given, records(ended_runs(given, score)[:most]), test_reads)


def noisy(run: PlannedRun) -> float:
    """Plain collapses at 45 convs; a seed moves all its runs alike, and each a little on its own."""
    rng = random.Random(f"{run.replicate} {run.arm} {run.depth} {run.best_of}")
    seed = random.Random(run.replicate).gauss(0, 0.02)
    return 0.92 - 0.4 * (run.arm == "plain" and run.depth == 45) + seed + rng.gauss(0, 0.001)


@pytest.fixture(scope="module")
def full() -> Verdicts:
    return judged(PLAN, noisy)


def result(low: float, high: float, word: str = "undecided", depths: int = 1, **values: Any) -> Comparison:
    """A comparison of ten pairs, changed where told."""
    mean = (low + high) / 2
    found = compare_family({depth: [mean + (i - 4.5) / 9 for i in range(10)] for depth in range(depths)})[0]
    return replace(found, word=word, mean=mean, interval=type(found.interval)(low, high), **values)


def with_versus(verdicts: Verdicts, *versus: Versus) -> Verdicts:
    return replace(verdicts, versus=versus)


def test_the_sentence_tells_every_depth_of_every_arm(full: Verdicts) -> None:
    assert confirmed(full) == (
        "Confirmed (test images, 10 seeds): residual beats plain at 45 convs by 40 points [40, 40], equals "
        "plain at 9 and 21 convs; pre-activation beats plain at 45 convs by 40 points [40, 40], equals plain "
        "at 9 and 21 convs."
    )


def test_losses_and_doubts_are_told_too(full: Verdicts) -> None:
    versus = [
        Versus("residual", 9, OWN, 10, result(-12, -10, "loses")),
        Versus("residual", 21, OWN, 10, result(-31, -20, "loses")),
        Versus("residual", 33, OWN, 10, result(-1, 5)),
        Versus("residual", 45, OWN, 10, None),
        Versus("residual", 9, "plain", 10, result(8, 9, "beats")),
        Versus("preact", 9, OWN, 10, result(2, 3, "beats")),
    ]
    assert confirmed(with_versus(full, *versus)).endswith(
        ": residual loses to plain at 9 convs by 11 points [10, 12] and at 21 by 26 [20, 31], is undecided "
        "at 33 and 45 convs; pre-activation beats plain at 9 convs by 2.5 points [2.0, 3.0]."
    )


def test_what_is_unfinished_says_so(full: Verdicts) -> None:
    part = judged(PLAN, noisy, most=42)
    assert confirmed(part).startswith("So far, 42 of 210 runs (test images, 10 seeds): ")
    assert confirmed(judged(PLAN, noisy, most=0)) == "Nothing is confirmed yet: no pair has ended."


def test_nothing_is_called_confirmed_where_nothing_is_decided(full: Verdicts) -> None:
    doubt, twins = Versus("preact", 9, OWN, 10, result(-1, 5)), result(8, 9, "beats")
    text = confirmed(with_versus(full, doubt, Versus("preact", 9, "plain", 10, twins)))
    assert text == "Nothing is confirmed (test images, 10 seeds): pre-activation is undecided at 9 convs."
    equal = Versus("preact", 21, OWN, 10, result(-0.5, 0.5, "equal"))
    assert confirmed(with_versus(full, doubt, equal)).startswith("Confirmed (test images, 10 seeds): ")


def test_seeds_that_were_added_after_looking_are_told() -> None:
    assert "(test images, 1 seed):" in confirmed(judged(replace(PLAN, seeds=(1,)), noisy))
    more = PLAN.with_seeds(11)
    assert confirmed(judged(more, noisy)).startswith(
        "Confirmed (test images, 10, then 11 seeds after looking): "
    )


def test_verdicts_are_of_own_recipes_and_twins_have_a_table_of_theirs(full: Verdicts) -> None:
    table, rival = verdict_table(full), "pre-activation"
    own = [("residual", "own"), (rival, "own")]
    twins = [("residual", "plain's"), ("residual", "residual's"), (rival, "plain's"), (rival, "pre-act.'s")]
    for found, pairs in ((table, own), (twin_table(full), twins)):
        assert [row[:3] for row in found.rows] == [(*pair, str(depth)) for pair in pairs for depth in DEPTHS]
    assert table.rows[2][3:5] == ("beats", "+40")
    assert table.rows[2][6:] == ("0.006", "1.00", "10/0/0")


def test_twins_that_are_the_same_pairs_again_are_not_listed_again() -> None:
    """One recipe is the best of all arms: own pairs are twins."""
    shared = plan([choice(arm, 9) for arm in RATES], seeds=(6,))
    verdicts = judged(shared, lambda run: 0.9 + 0.001 * run.replicate + 0.05 * (run.arm != "plain"))
    assert [row[:3] for row in verdict_table(verdicts).rows] == [
        ("residual", "own", "9"), ("pre-activation", "own", "9"),
    ]  # fmt: skip
    assert twin_table(verdicts).rows == ()


def test_a_row_says_how_many_pairs_and_seeds_are_lacking(full: Verdicts) -> None:
    rows = verdict_table(
        with_versus(
            full,
            Versus("residual", 9, OWN, 12, result(-1, 5, more_pairs=4)),
            Versus("residual", 21, OWN, 10, result(-1, 5, "beats", more_pairs=4)),
            Versus("residual", 33, OWN, 10, result(2, 2, pairs=1, more_pairs=None)),
            Versus("residual", 45, OWN, 10, None),
        )
    ).rows
    assert [row[3] for row in rows] == ["undecided ~4", "beats", "undecided", "no pair"]
    assert [row[5] for row in rows] == ["[−1.0, 5.0]", "[−1.0, 5.0]", "-", "-"]
    assert [row[8].partition(", ")[2] for row in rows] == ["10 of 12", "", "1 of 10", ""]
    assert rows[3][8] == "0 of 10"


def test_the_margin_and_the_baseline_stand_above_the_verdicts(full: Verdicts) -> None:
    assert verdict_table(replace(full, margin=2.5)).title == (
        "Against plain on test images, mean points of fresh seeds; within 2.5 is equal"
    )


def test_the_way_of_a_recipe_from_its_trial_to_test_is_told() -> None:
    standing = Standing(
        arm="preact", depth=45, search_trial=12, search_depth=41, candidates=5, selected_val=91.25, runs=10,
        val=88.84, test=87.6, test_sd=1.26, train=93.4, failed=2, fisher_p=0.0123, grad_ratio=-1.04,
        feature_cosine=0.456, causes={"slow": 2, "fine": 8, "odd": 1}, outline="", params=None, macs=None,
    )  # fmt: skip
    bare = replace(
        standing, runs=0, val=None, test=None, test_sd=None, train=None, failed=0, fisher_p=None,
        grad_ratio=None, feature_cosine=None, causes={},
    )  # fmt: skip
    same = replace(standing, fisher_p=1.0)
    verdicts = replace(judged(PLAN, noisy, most=0), standings=(standing, bare, same))
    first, second, third = standing_table(verdicts).rows
    assert first == (
        "pre-activation", "45", "#12, 41 convs", "91.2", "88.8", "87.6 ± 1.3", "93.4", "2 of 10, p 0.012",
        "−1.0", "0.46", "8 fine, 2 slow",
    )  # fmt: skip
    assert second == (
        "pre-activation", "45", "#12, 41 convs", "91.2", "-", "-", "-", "0 of 0", "-", "-", "-",
    )  # fmt: skip
    assert third[7] == "2 of 10"


def test_hypotheses_over_depths_are_told_with_their_measure(full: Verdicts) -> None:
    contrasts = (
        Contrast("degradation", "plain", 9, 45, result(-41, -39, "loses", p=0.0004)),
        Contrast("interaction", "preact", 9, 45, None),
        Contrast("interaction", "residual", 9, 45, result(7, 7, pairs=1, p=1.0)),
    )
    assert contrast_table(replace(full, contrasts=contrasts)).rows == (
        ("plain", "degradation: training accuracy", "9 → 45", "−40", "[−41, −39]", "< 0.001", "10"),
        ("pre-activation", "interaction: test accuracy kept beyond plain", "9 → 45", "-", "-", "-", "0"),
        ("residual", "interaction: test accuracy kept beyond plain", "9 → 45", "+7.0", "-", "1.000", "1"),
    )


def test_the_price_is_told_with_what_was_lost_and_looked_at(full: Verdicts) -> None:
    assert spent(full) == "210 of 210 runs, 420 s of training; test images were looked at 7 times."
    worse = replace(full, finished=1209, planned=2000, without_score=3, seconds=1234.6, test_reads=1206)
    assert spent(worse) == (
        "1,209 of 2,000 runs, 3 of them without a score, 1,235 s of training; test images were looked at "
        "1,206 times."
    )


def test_what_each_arm_was_given_is_of_its_own_recipes(full: Verdicts) -> None:
    table = fairness_table(full)
    assert table.title == "What each arm was given, runs under their own best recipe alone"
    assert [row[:3] for row in table.rows] == [
        (arm, "30", "30") for arm in ("plain", "residual", "pre-activation")
    ]
    account = replace(full.ledger[0], epochs=1)
    assert isinstance(account, Account)
    assert fairness_table(replace(full, unequal=("epochs",))).marked == ["epochs (unequal)"]


@pytest.mark.parametrize("count", [0, 1, 2, 8, 30, 210])
def test_a_confirmation_in_any_state_has_its_tables(count: int) -> None:
    verdicts = judged(PLAN, noisy, most=count)
    tables = verdict_table, champion_table, twin_table, standing_table, contrast_table
    for table in (make(verdicts) for make in tables):
        assert {len(row) for row in table.rows} <= {len(table.columns)}, table.title
        assert "| " in table.markdown()
    assert confirmed(verdicts)


def test_the_plan_is_shown_before_it_is_trained() -> None:
    given = replace(PLAN, choices=tuple(c for c in PLAN.choices if (c.arm, c.depth) != ("preact", 21)))
    changed = tuple(
        replace(c, trial=31, trial_depth=43, val_accuracy=0.876, candidates=4) if c.depth == 45 else c
        for c in given.choices
    )
    table = plan_table(replace(given, choices=changed, trials=1099))
    assert table.title == "Recipes of digits, by validation accuracy among 1,099 trials"
    assert table.columns == ("convs", "plain", "residual", "pre-activation")
    assert table.rows == (
        ("9", *["#9, 9 convs, 90.0 %, best of 3"] * 3),
        ("21", *["#21, 21 convs, 90.0 %, best of 3"] * 2, "none"),
        ("45", *["#31, 43 convs, 87.6 %, best of 4"] * 3),
    )


def test_another_baseline_is_named() -> None:
    verdicts = judged(replace(PLAN, baseline="residual"), noisy)
    assert (
        ": plain loses to residual at 45 convs by 40 points [40, 40], equals residual at 9 and"
        in confirmed(verdicts)
    )
    table = verdict_table(verdicts)
    assert table.title.startswith("Against residual on test images, mean points")
    assert {row[0] for row in table.rows} == {"plain", "pre-activation"}
    assert {row[1] for row in table.rows} == {"own"}
    assert {row[1] for row in twin_table(verdicts).rows} == {"residual's", "plain's", "pre-act.'s"}
    assert [row[1] for row in contrast_table(verdicts).rows if row[1].startswith("interaction")] == [
        "interaction: test accuracy kept beyond residual"
    ] * 2
