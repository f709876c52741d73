from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.duels import Duel, Score
from search.analysis.evidence import gather
from search.views.sentence import confirmable, cut_short, sentence
from tests.support.made_trials import deep_pairs, made, records, study_of
from tests.support.made_up import Bottleneck, installed

PRUNED, RUNNING, FAIL = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL
LOWER, UPPER = "9-21", "23-57"


def of(trials: list[FrozenTrial], baseline: str = "plain") -> str:
    return sentence(gather(records(trials), baseline))


def duel(
    word: str,
    gain: float | None = None,
    low: float | None = None,
    high: float | None = None,
    band: str = UPPER,
    arm: str = "preact",
    pairs: int = 12,
    wins: int = 0,
    **values: Any,
) -> Duel:
    nothing = Score(pairs=0, wins=0, ties=0, losses=0, mean=None, median=None)
    final = replace(nothing, pairs=pairs, wins=wins, losses=pairs - wins)
    known: dict[str, Any] = {
        "holm_p": None, "more_pairs": None, "best": None, "best_baseline": None, "cut_short": nothing,
        "ahead_of_best_baseline": None, "ahead_of_any_baseline": None, "half": band in (LOWER, UPPER),
    }  # fmt: skip
    return Duel(arm=arm, band=band, final=final, gain=gain, low=low, high=high, word=word, **(known | values))


def told(*duels: Duel, baseline: str = "plain", turn: int | None = None) -> str:
    evidence = gather(records([made(0, "plain"), made(1, "preact"), made(2, "residual")]), baseline)
    return sentence(
        replace(
            evidence, finished=100, arms=(baseline, *dict.fromkeys(duel.arm for duel in duels)),
            duels=duels, halves=(LOWER, UPPER), baseline_turns_down_at=turn,
        )
    )  # fmt: skip


RESIDUAL = duel("beats", 36, 24, 48, arm="residual", pairs=16)
PREACT = duel("beats", 35, 23.6, 48, pairs=16)


def test_what_was_asked_comes_first_and_from_the_strongest_evidence() -> None:
    """Where plain stacks turn down, by how much they are beaten there, and what is known above."""
    text = told(
        RESIDUAL,
        duel("undecided", 2.2, 0.4, 5.4, band=LOWER),
        PREACT,
        duel("leads", 3.0, 1.1, 9.0, band=LOWER, arm="residual", wins=8),
        turn=23,
    )
    assert text == (
        "Exploratory, 100 trials: plain stacks turn down from 23 convs on. There residual beats plain by "
        "36 points [24, 48], pre-activation by 35 [24, 48] (16 pairs each); up to 21 convs residual leads "
        "plain by 3.0 points (8 of 12 pairs won, none lost), pre-activation is undecided (+2.2 points "
        "[0.4, 5.4] in 12 pairs)."
    )


@pytest.mark.parametrize(
    ("turn", "opening"),
    [
        (None, "Exploratory, 100 trials: from 23 convs on residual beats plain"),
        (37, "Exploratory, 100 trials: plain stacks turn down from 37 convs on. From 23 convs on residual"),
    ],
)
def test_depths_are_named_where_the_turn_does_not_name_them(turn: int | None, opening: str) -> None:
    assert told(RESIDUAL, turn=turn).startswith(opening)


def test_a_shallow_word_goes_before_a_deep_doubt() -> None:
    text = told(
        duel("beats", 9, 8, 10, band=LOWER), duel("undecided", 30, -5, 60, arm="preact", pairs=5), turn=23
    )
    assert text == (
        "Exploratory, 100 trials: plain stacks turn down from 23 convs on. Up to 21 convs pre-activation "
        "beats plain by 9.0 points [8.0, 10] (12 pairs); from 23 convs on pre-activation is undecided "
        "(+30 points [−5.0, 60] in 5 pairs)."
    )


def test_a_loss_is_said_as_plainly_as_a_win() -> None:
    both = duel("loses", -30, -40, -20, band=LOWER), duel("trails", -3, band=UPPER, pairs=4)
    assert told(*both) == (
        "Exploratory, 100 trials: up to 21 convs pre-activation loses to plain by 30 points [20, 40] "
        "(12 pairs); from 23 convs on pre-activation trails behind plain by 3.0 points (4 of 4 pairs lost, "
        "none won)."
    )


def test_arms_of_one_word_share_it() -> None:
    equal = [duel("equal", 0.1, -0.4, 0.5, band=LOWER, arm=arm) for arm in ("residual", "preact")]
    assert told(RESIDUAL, PREACT, *equal).endswith("(16 pairs each); up to 21 convs they are level.")
    assert told(*equal) == (
        "Exploratory, 100 trials: up to 21 convs residual and pre-activation equal plain within a point."
    )
    [one] = equal[:1]
    assert told(RESIDUAL, PREACT, one, duel("too few", 2, band=LOWER, pairs=2)).endswith(
        "up to 21 convs residual equals plain within a point, pre-activation is undecided (+2.0 points in 2 "
        "pairs)."
    )
    few = duel("undecided", 18, band=LOWER, arm="residual", pairs=4), duel("too few", 2, band=LOWER, pairs=3)
    assert told(*few) == (
        "Exploratory, 100 trials: up to 21 convs residual and pre-activation are undecided (+18 points in 4 "
        "pairs, +2.0 in 3)."
    )
    leads = [duel("leads", 3, wins=6, arm=arm, pairs=9) for arm in ("residual", "preact")]
    assert told(*leads).endswith(
        "from 23 convs on residual and pre-activation lead plain by 3.0 points each (6 of 9 and 6 of 9 "
        "pairs won, none lost)."
    )


def test_bands_are_in_the_table_and_not_in_the_sentence() -> None:
    assert told(RESIDUAL, duel("loses", -9, -10, -8, band="23-35", arm="residual")) == told(RESIDUAL)


def test_a_half_without_pairs_is_passed_over() -> None:
    none = duel("no pair", band=LOWER, pairs=0)
    assert told(RESIDUAL, none) == told(RESIDUAL)
    assert told(none) == "No pair has been trained to the end yet."


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ([], "No pair has been trained to the end yet."),
        ([made(0, "plain", state=RUNNING)], "No pair has been trained to the end yet."),
        ([made(0, "plain"), made(1, "preact", state=PRUNED)], "No pair has been trained to the end yet."),
        ([made(0, "plain"), made(1, "preact", state=FAIL)], "No pair has been trained to the end yet."),
        (
            [made(0, "plain", group=None), made(1, "preact", group=None)],
            'Each trial drew its arm by itself (search.design = "free"): there are no pairs to compare.',
        ),
        (
            [made(0, "plain")],
            "Only plain stacks have been trained: there is nothing to compare them with.",
        ),
        (
            [made(0, "residual"), made(1, "preact")],
            "No plain stack has been trained: there is nothing to compare residual and pre-activation with.",
        ),
    ],
)
def test_it_holds_for_a_search_in_any_state(trials: list[FrozenTrial], says: str) -> None:
    assert of(trials) == says


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (0.3, "from 21 convs on pre-activation beats plain by 30 points [30, 30] (40 pairs)."),
        (-0.3, "from 21 convs on pre-activation loses to plain by 30 points [30, 30] (40 pairs)."),
        (0.0, "from 21 convs on pre-activation equals plain within a point."),
    ],
)
def test_the_same_from_trials(gain: float, says: str) -> None:
    assert of(deep_pairs(40, gain)) == f"Exploratory, 80 trials: {says}"
    assert of(study_of(300)).startswith("Exploratory, 300 trials: plain stacks turn down from")


def test_another_baseline_is_named() -> None:
    text = told(duel("beats", 2.5, 2, 3), baseline="residual", turn=23)
    assert "residual networks turn down from 23 convs on. There pre-activation beats residual by 2.5" in text
    assert of([made(0, "residual")], "residual").startswith("Only residual networks have been trained")
    assert of([made(0, "plain")], "residual") == (
        "No residual network has been trained: there is nothing to compare plain with."
    )


def test_whole_pairs_of_equally_deep_arms_can_be_confirmed() -> None:
    def can(trials: list[FrozenTrial]) -> bool:
        return confirmable(gather(records(trials), "plain"))

    assert can([made(0, "plain"), made(1, "preact")])
    assert not can([made(0, "plain"), made(1, "preact", state=PRUNED)])
    assert not can([made(0, "plain"), made(1, "plain", group=1)])
    with installed(Bottleneck):
        assert not can([made(0, "plain"), made(1, "bottleneck")])


def test_pairs_that_were_cut_short_are_counted_once() -> None:
    """Depths of 27 and 41 convs are in a band of their own, and in that of all deep ones."""
    trials = []
    for group, blocks in enumerate((13, 20)):
        for arm, value in (("plain", 0.2), ("preact", 0.5)):
            trial = made(len(trials), arm, value, group=group, blocks=blocks, state=PRUNED)
            trial.intermediate_values = {1: value}
            trials.append(trial)
    evidence = gather(records(trials), "plain")
    assert [duel.band for duel in evidence.duels] == ["21+", "21-32", "33-44"]
    assert cut_short(evidence.duels) == (
        "Not counted: 2 pairs cut short by the pruner, where pre-activation led in 2 of 2."
    )


def test_every_arm_that_had_pairs_cut_short_is_named() -> None:
    def cut(pairs: int, wins: int) -> Score:
        return Score(pairs=pairs, wins=wins, ties=0, losses=pairs - wins, mean=None, median=None)

    duels = [
        duel("no pair", cut_short=cut(3, 1), arm="residual"),
        duel("no pair", cut_short=cut(1, 1), arm="preact"),
        duel("beats", 3.5, 3, 4, arm="halved"),
    ]
    assert cut_short(duels) == (
        "Not counted: 4 pairs cut short by the pruner, where residual led in 1 of 3 and pre-activation "
        "led in 1 of 1."
    )
    assert cut_short(duels[2:]) == ""


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("diverged", "All 2 trials diverged: the study's learning rates are too high."),
        ("infeasible", "All 2 trials had more parameters than space.max_params."),
        ("error", "All 2 trials ended with an error."),
    ],
)
def test_where_all_trials_came_to_nothing_that_is_the_answer(outcome: str, says: str) -> None:
    state = TrialState.COMPLETE if outcome == "diverged" else TrialState.FAIL
    trials = [made(i, arm, outcome=outcome, state=state) for i, arm in enumerate(("plain", "preact"))]
    assert sentence(gather(records(trials), "plain")) == says
    assert not confirmable(gather(records(trials), "plain"))
    mixed = [*trials, made(2, "plain", group=1)]
    assert "All 3" not in sentence(gather(records(mixed), "plain"))
