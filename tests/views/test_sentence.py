from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.duels import Duel, Score
from search.analysis.evidence import gather
from search.stats.paired import MOST_PAIRS
from search.views.sentence import cut_short, sentence
from tests.support.made_trials import deep_pairs, made, records

PRUNED, RUNNING, FAIL = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL


def of(trials: list[FrozenTrial], baseline: str = "plain") -> str:
    return sentence(gather(records(trials), baseline))


def score(pairs: int, mean: float | None = None, wins: int = 0) -> Score:
    return Score(pairs=pairs, wins=wins, ties=0, losses=pairs - wins, mean=mean, median=mean)


def duel(
    word: str,
    low: float | None = None,
    high: float | None = None,
    band: str = "9-14",
    arm: str = "preact",
    pairs: int = 12,
    cut: Score | None = None,
    **values: Any,
) -> Duel:
    middle = None if low is None or high is None else (low + high) / 2
    known = {"holm_p": None, "more_pairs": None, "best": None, "best_baseline": None}
    ahead = {"ahead_of_best_baseline": None, "ahead_of_any_baseline": None}
    return Duel(
        arm=arm, band=band, final=score(pairs, middle), low=low, high=high, word=word,
        cut_short=cut or score(0), **(known | ahead | values),
    )  # fmt: skip


def told(*duels: Duel, baseline: str = "plain") -> str:
    evidence = gather(records([made(0, "plain"), made(1, "preact"), made(2, "residual")]), baseline)
    arms = [baseline, *dict.fromkeys(duel.arm for duel in duels)]
    return sentence(replace(evidence, arms=tuple(arms), duels=duels))


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (0.3, "At 21-32 convs pre-activation beats plain by 30 points [30, 30] (40 pairs) (exploratory)."),
        (
            -0.3,
            "At 21-32 convs pre-activation loses to plain by 30 points [30, 30] (40 pairs) (exploratory).",
        ),
        (0.0, "Pre-activation equals plain within a point at 21-32 convs (exploratory)."),
    ],
)
def test_many_pairs_earn_a_word(gain: float, says: str) -> None:
    assert of(deep_pairs(40, gain)) == says


def test_few_pairs_earn_no_word_however_large_their_difference() -> None:
    assert of(deep_pairs(5)) == (
        "Pre-activation: undecided (mean +30 points in 5 pairs at 21-32 convs, about 1 more pair needed) "
        "(exploratory)."
    )
    assert of(deep_pairs(1)) == (
        "Pre-activation: undecided (1 pair; a word needs at least 6 at one depth) (exploratory)."
    )


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ([], "No pair has been trained to the end yet."),
        ([made(0, "plain", state=RUNNING)], "No pair has been trained to the end yet."),
        (
            [made(0, "plain"), made(1, "preact", state=RUNNING)],
            "Only plain stacks have been trained: there is nothing to compare them with.",
        ),
        (
            [made(0, "residual"), made(1, "preact")],
            "No plain stack has been trained: there is nothing to compare residual and pre-activation with.",
        ),
        ([made(0, "plain", state=FAIL), made(1, "preact")], "No pair has been trained to the end yet."),
        (
            [made(0, "plain", state=PRUNED), made(1, "preact", state=PRUNED)],
            "No pair has been trained to the end yet.",
        ),
    ],
    ids=["empty", "running", "plain alone", "no plain", "failed", "pruned"],
)
def test_a_study_in_any_state_has_a_true_sentence(trials: list[FrozenTrial], says: str) -> None:
    assert of(trials) == says


@pytest.mark.parametrize(
    ("word", "vague", "clear", "says"),
    [
        ("loses", (-30.0, -5.0), (-12.0, -10.0), "loses to plain by 11 points [10, 12] (12 pairs)"),
        ("beats", (5.0, 30.0), (10.0, 12.0), "beats plain by 11 points [10, 12] (12 pairs)"),
    ],
)
def test_the_strongest_is_the_one_whose_near_bound_is_farthest_from_zero(
    word: str, vague: tuple[float, float], clear: tuple[float, float], says: str
) -> None:
    duels = duel(word, *vague, band="9-14"), duel(word, *clear, band="15-20")
    for order in (duels, duels[::-1]):
        text = told(*order)
        assert text == f"At 15-20 convs pre-activation {says}, also at 9-14 convs (exploratory)."


def test_a_depth_of_its_own_is_told_before_all_deep_ones_together() -> None:
    text = told(duel("beats", 20, 30, band="21+"), duel("beats", 2, 3, band="33-44"))
    assert (
        text == "At 33-44 convs pre-activation beats plain by 2.5 points [2.0, 3.0] (12 pairs) (exploratory)."
    )
    alone = told(duel("beats", 20, 30, band="21+"), duel("undecided", -1, 3, band="33-44"))
    assert alone.startswith("At 21 or more convs pre-activation beats plain by 25 points [20, 30]")


def test_no_loss_is_passed_over_and_depths_come_in_their_order() -> None:
    text = told(
        duel("beats", 20, 30, band="9-14"),
        duel("beats", 8, 10, band="45-56"),
        duel("beats", 9, 10, band="21-32"),
        duel("loses", -5, -4, band="1-8"),
        duel("equal", -0.5, 0.5, band="15-20"),
    )
    assert text == (
        "At 9-14 convs pre-activation beats plain by 25 points [20, 30] (12 pairs), "
        "also at 21-32 and 45-56 convs, loses at 1-8 convs, equal at 15-20 convs (exploratory)."
    )


def test_equal_depths_are_listed_once() -> None:
    text = told(duel("equal", -0.5, 0.5, band="15-20"), duel("equal", -0.4, 0.5, band="1-8"))
    assert text == "Pre-activation equals plain within a point at 1-8 and 15-20 convs (exploratory)."


def test_arms_come_in_order_of_their_news() -> None:
    undecided = duel("undecided", -1, 4, arm="residual", more_pairs=3)
    beats = duel("beats", 20, 30, arm="preact")
    loses = duel("loses", -9, -8, arm="gated")
    equal = duel("equal", -0.1, 0.1, arm="halved")
    nothing = duel("no pair", arm="other", pairs=0)
    clauses = told(nothing, undecided, equal, loses, beats).split("; ")
    words = [
        "pre-activation beats",
        "gated loses to",
        "halved equals",
        "residual: undecided",
        "other: no pair to",
    ]
    assert [word in clause for word, clause in zip(words, clauses, strict=True)] == [True] * 5


def test_what_is_undecided_tells_of_the_depth_that_lacks_least() -> None:
    text = told(
        duel("undecided", -1, 4, band="9-14", pairs=5, more_pairs=40),
        duel("undecided", -1, 9, band="15-20", pairs=7, more_pairs=3),
        duel("undecided", -1, 2, band="21+", pairs=9, more_pairs=1),
    )
    assert text == (
        "Pre-activation: undecided (mean +4.0 points in 7 pairs at 15-20 convs, about 3 more pairs needed) "
        "(exploratory)."
    )
    endless = told(duel("undecided", -1, 1, pairs=8, more_pairs=MOST_PAIRS + 1))
    assert "more than 1,000 more pairs needed" in endless


def test_pairs_that_were_cut_short_are_counted_once() -> None:
    deep = [duel("no pair", band=band, pairs=0, cut=score(1, 5.0, wins=1)) for band in ("21-32", "33-44")]
    both = duel("no pair", band="21+", pairs=0, cut=score(2, 5.0, wins=2))
    assert cut_short([*deep, both]) == (
        "Not counted: 2 pairs cut short by the pruner, where pre-activation led in 2 of 2."
    )


def test_pairs_at_27_and_41_convs_are_two_pairs() -> None:
    """The same from trials: both depths are in a band of their own and in that of all deep ones."""
    trials = []
    for group, blocks in enumerate((13, 20)):
        for arm, value in (("plain", 0.2), ("preact", 0.5)):
            trial = made(len(trials), arm, value, group=group, blocks=blocks, state=PRUNED)
            trial.intermediate_values = {1: value}
            trials.append(trial)
    evidence = gather(records(trials), "plain")
    assert [duel.band for duel in evidence.duels] == ["21-32", "33-44", "21+"]
    assert cut_short(evidence.duels).startswith("Not counted: 2 pairs cut short by the pruner")


def test_every_arm_that_had_pairs_cut_short_is_named() -> None:
    duels = [
        duel("no pair", cut=score(3, -1.0, wins=1), arm="residual"),
        duel("no pair", cut=score(1, 2.0, wins=1), arm="preact"),
        duel("beats", 3, 4, arm="halved"),
    ]
    assert cut_short(duels) == (
        "Not counted: 4 pairs cut short by the pruner, where residual led in 1 of 3 and pre-activation "
        "led in 1 of 1."
    )
    assert cut_short(duels[2:]) == ""


def test_another_baseline_is_named() -> None:
    assert told(duel("beats", 2, 3), baseline="residual") == (
        "At 9-14 convs pre-activation beats residual by 2.5 points [2.0, 3.0] (12 pairs) (exploratory)."
    )
    assert told(duel("equal", 0, 0.2), baseline="residual").startswith(
        "Pre-activation equals residual within"
    )
    only = [made(0, "residual")]
    assert of(only, "residual").startswith("Only residual networks have been trained")
    assert of([made(0, "plain")], "residual") == (
        "No residual network has been trained: there is nothing to compare plain with."
    )
