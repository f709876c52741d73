from __future__ import annotations

import dataclasses
import json

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.duels import at_common_epoch, duels_of
from search.analysis.evidence import gather, middle
from search.views.findings import VERSION
from search.views.sentence import cut_short
from tests.support.made_trials import deep_pairs, made, shape_of, study_of

PRUNED, RUNNING, FAIL = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL


def cut(number: int, arm: str, curve: list[float], **values: object) -> FrozenTrial:
    trial = made(number, arm, curve[-1], state=PRUNED, **values)  # type: ignore[arg-type]
    trial.intermediate_values = dict(enumerate(curve, start=1))
    return trial


def test_a_large_difference_in_many_pairs_beats() -> None:
    evidence = gather(deep_pairs(14))
    [duel] = evidence.duels
    assert (duel.word, duel.band, duel.final.pairs, duel.final.wins) == ("beats", "21-32", 14, 14)
    assert duel.low is not None
    assert duel.high is not None
    assert duel.low < 30 < duel.high
    assert evidence.sentence == (
        "At 21-32 convs pre-activation beats plain by 30 points [30, 30] (14 pairs) (exploratory)."
    )


@pytest.mark.parametrize(
    ("gain", "word", "says"),
    [
        (0.3, "beats", "At 21-32 convs pre-activation beats plain by 30 points ["),
        (-0.3, "loses", "At 21-32 convs pre-activation loses to plain by 30 points ["),
        (0.0, "equal", "Pre-activation equals plain within a point at 21-32 convs (exploratory)."),
    ],
)
def test_words_for_many_pairs(gain: float, word: str, says: str) -> None:
    evidence = gather(deep_pairs(40, gain))
    assert [duel.word for duel in evidence.duels] == [word]
    assert evidence.sentence.startswith(says)
    assert "(exploratory)" in evidence.sentence


def test_few_pairs_earn_no_word_however_large_their_difference() -> None:
    sentence = gather(deep_pairs(5)).sentence
    assert sentence == (
        "Pre-activation: undecided (mean +30 points in 5 pairs at 21-32 convs, about 1 more pair needed) "
        "(exploratory)."
    )


def test_one_pair_has_no_interval() -> None:
    evidence = gather(deep_pairs(1))
    assert (evidence.duels[0].low, evidence.duels[0].high, evidence.duels[0].more_pairs) == (None, None, None)
    assert evidence.sentence == (
        "Pre-activation: undecided (1 pair; a word needs at least 6 at one depth) (exploratory)."
    )


def test_a_loss_at_another_depth_is_told_beside_the_win() -> None:
    trials = deep_pairs(12) + deep_pairs(12, gain=-0.2, blocks=3, first=100)
    assert "beats plain by 30 points" in gather(trials).sentence
    assert "loses at 1-8 convs" in gather(trials).sentence


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ([], "No pair has been trained to the end yet."),
        ([made(0, "plain", state=RUNNING)], "No pair has been trained to the end yet."),
        ([made(0, "plain"), made(1, "preact", state=RUNNING)], "Only plain stacks have been trained"),
        ([made(0, "residual"), made(1, "preact")], "No plain stack has been trained: there is nothing to"),
        ([made(0, "plain", state=FAIL), made(1, "preact")], "No pair has been trained to the end yet."),
        ([cut(0, "plain", [0.1]), cut(1, "preact", [0.5])], "No pair has been trained to the end yet."),
    ],
    ids=["empty", "running", "plain alone", "no plain", "failed", "pruned"],
)
def test_a_study_in_any_state_has_a_true_sentence(trials: list[FrozenTrial], says: str) -> None:
    evidence = gather(trials)
    assert evidence.sentence.startswith(says)
    json.dumps(dataclasses.asdict(evidence), allow_nan=False)


def test_pairs_cut_short_are_compared_at_their_last_common_epoch_and_never_final() -> None:
    plain, ours = cut(0, "plain", [0.1, 0.2]), made(1, "preact", 0.9)
    ours.intermediate_values = {1: 0.3, 2: 0.5, 3: 0.9}
    assert at_common_epoch(ours, plain) == (0.5, 0.2)
    [duel] = duels_of([plain, ours])
    assert (duel.final.pairs, duel.word, duel.final.mean) == (0, "no pair", None)
    assert (duel.cut_short.pairs, duel.cut_short.wins, duel.cut_short.mean) == (1, 1, 30.0)
    assert duel.best_plain is None  # a pruned trial has no final score


def test_pairs_without_a_common_epoch_are_no_pairs() -> None:
    infeasible = made(0, "plain", state=PRUNED, outcome="infeasible", epochs=0)
    nan = cut(2, "plain", [float("nan")], group=1)
    trials = [infeasible, made(1, "preact"), nan, cut(3, "preact", [0.5], group=1)]
    assert [duel.cut_short.pairs for duel in duels_of(trials)] == [0]


def test_deep_bands_are_also_compared_together() -> None:
    trials = deep_pairs(3, blocks=13) + deep_pairs(4, blocks=20, first=50)
    assert [(duel.band, duel.final.pairs) for duel in duels_of(trials)] == [
        ("21-32", 3), ("33-44", 4), ("21+", 7),
    ]  # fmt: skip


def test_the_best_of_a_depth_is_set_against_plain_there_and_anywhere() -> None:
    trials = [
        made(0, "plain", 0.5, blocks=13),
        made(1, "preact", 0.8, blocks=13),
        made(2, "plain", 0.9, group=1),
    ]
    [duel] = duels_of(trials)
    assert duel.ahead_of_best_plain == pytest.approx(30)
    assert duel.ahead_of_any_plain == pytest.approx(-10)


def test_plain_turns_down_where_it_trains_worse_for_good() -> None:
    def plain(blocks: int, accuracy: float, count: int = 3) -> list[FrozenTrial]:
        return [made(i, "plain", accuracy, blocks=blocks) for i in range(count)]

    down = plain(3, 0.99) + plain(5, 0.98) + plain(8, 0.8) + plain(13, 0.3)
    assert gather(down).plain_turns_down_at == 15
    assert gather(plain(3, 0.99) + plain(8, 0.5) + plain(13, 0.99)).plain_turns_down_at is None  # recovers
    assert gather(plain(3, 0.99) + plain(13, 0.3, count=2)).plain_turns_down_at is None  # too few
    assert gather(plain(3, 0.1)).plain_turns_down_at is None


def test_the_interval_of_a_median_needs_six_runs() -> None:
    assert middle([]) is None
    assert middle([1.0] * 5) is not None
    assert dataclasses.astuple(middle([1, 2, 3, 4, 5]) or ()) == (3, None, None)
    assert dataclasses.astuple(middle([1, 2, 3, 4, 5, 6]) or ()) == (3.5, 1, 6)
    assert dataclasses.astuple(middle(range(1, 11)) or ()) == (5.5, 2, 9)  # type: ignore[arg-type]


def test_failures_causes_noise_and_the_ledger() -> None:
    trials = [
        made(
            0,
            "plain",
            0.1,
            outcome="diverged",
            train_accuracy=0.9,
            cause="diverged",
            macs=100,
            fingerprint="a",
        ),
        made(1, "plain", 0.9, cause="fine", macs=100, fingerprint="b", group=1),
        made(2, "plain", 0.92, cause="fine", macs=100, fingerprint="b", replicate_of=1, group=2),
        made(3, "residual", 0.9, macs=300, fingerprint="c"),
    ]
    evidence = gather(trials)
    assert [(f.arm, f.failed, f.to_the_end) for f in evidence.failures] == [
        ("plain", 1, 3),
        ("residual", 0, 1),
    ]
    assert evidence.failures[0].outcomes == {"diverged": 1, "complete": 2}
    assert evidence.levels[0].causes == {"diverged": 1, "fine": 2}
    assert evidence.levels[1].causes == {"unknown": 1}
    assert evidence.noise is not None
    assert evidence.noise.sd == pytest.approx(2**0.5)
    assert evidence.unequal == ("trials", "epochs", "seconds", "mean_macs")


def test_a_pruned_trial_is_spent_and_never_the_best() -> None:
    trials = [made(0, "plain", 0.5), made(1, "plain", 0.99, state=PRUNED, group=1)]
    [budget] = gather(trials).budgets
    assert budget.trials == (1, 2)
    assert budget.expected == (30.0, 50.0)  # of one: 50 or chance, 10


def test_pairs_that_a_pruner_cut_short_are_told_apart() -> None:
    trials = [cut(0, "plain", [0.1]), cut(1, "preact", [0.5])]
    assert cut_short(gather(trials).duels) == (
        "Not counted: 1 pair cut short by the pruner, where pre-activation led in 1 of 1."
    )
    assert cut_short(gather(deep_pairs(3)).duels) == ""


def test_trials_that_lack_attributes_break_nothing() -> None:
    bare = made(0, "plain")
    bare.user_attrs = {"arm": "plain", "depth": 7}
    lost = made(1, "plain", state=FAIL)
    lost.user_attrs = {"outcome": "lost"}
    assert gather([bare, lost, made(2, "preact")]).finished == 3


def test_the_schema_is_frozen() -> None:
    """A change here is a change for whoever reads `--json`: raise VERSION."""
    score = dict.fromkeys(("pairs", "wins", "ties", "losses", "mean", "median"))
    median = dict.fromkeys(("median", "low", "high"))
    duel = dict.fromkeys(
        ("arm", "band", "low", "high", "holm_p", "word", "more_pairs", "best", "best_plain",
         "ahead_of_best_plain", "ahead_of_any_plain")
    )  # fmt: skip
    level = dict.fromkeys(("arm", "band", "trials", "to_the_end", "best"))
    assert VERSION == 2
    assert shape_of(dataclasses.asdict(gather(study_of(60)))) == {
        **dict.fromkeys(("sentence", "exploratory", "finished", "to_the_end", "noise")),
        "arms": [None],
        "plain_turns_down_at": None,
        "duels": [duel | {"final": score, "cut_short": score}],
        "levels": [level | {"val": median, "train": median, "causes": {"fine": None}}],
        "failures": [
            dict.fromkeys(("arm", "failed", "to_the_end", "p_against_plain"))
            | {"outcomes": {"complete": None, "pruned": None}}
        ],
        "budgets": [{"arm": None} | {key: [None] for key in ("trials", "expected", "low", "high")}],
        "ledger": [
            dict.fromkeys(("arm", "trials", "to_the_end", "epochs", "seconds", "mean_params", "mean_macs"))
        ],
        "unequal": shape_of(dataclasses.asdict(gather(study_of(60))))["unequal"],
    }
