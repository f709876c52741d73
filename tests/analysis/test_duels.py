"""Pairs within groups, against whichever arm is the baseline."""

from __future__ import annotations

import itertools
import math

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.duels import Duel, at_common_epoch, duels_of, final_difference
from search.stats.paired import compare_family
from tests.support.made_trials import deep_pairs, made, records
from tests.support.made_up import Gated, Halved, installed

PRUNED, RUNNING, FAIL = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL


def duels(trials: list[FrozenTrial], baseline: str = "plain") -> list[Duel]:
    return list(duels_of(records(trials), baseline))


def cut(number: int, arm: str, curve: list[float], group: int = 0, **attrs: object) -> FrozenTrial:
    """A trial that was pruned after as many epochs as its curve has."""
    trial = made(number, arm, curve[-1], state=PRUNED, group=group, **attrs)  # type: ignore[arg-type]
    trial.intermediate_values = dict(enumerate(curve, start=1))
    return trial


def draws(scores: dict[str, list[float]], blocks: int = 3, first: int = 0) -> list[FrozenTrial]:
    """Trials of the scores of each arm, draw by draw."""
    numbers = itertools.count(first * 100)
    return [
        made(next(numbers), arm, value, group=first + i, blocks=blocks)
        for arm, values in scores.items()
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(("gain", "word"), [(0.3, "beats"), (-0.3, "loses"), (0.0, "equal")])
def test_many_pairs_earn_a_word(gain: float, word: str) -> None:
    [duel] = duels(deep_pairs(40, gain))
    assert (duel.word, duel.band, duel.arm, duel.final.pairs) == (word, "21-32", "preact", 40)
    assert (duel.final.wins, duel.final.ties, duel.final.losses) == {
        "beats": (40, 0, 0), "loses": (0, 0, 40), "equal": (0, 40, 0),
    }[word]  # fmt: skip
    assert duel.low is not None
    assert duel.high is not None
    assert duel.low < 100 * gain < duel.high
    assert duel.more_pairs is None


def test_few_pairs_earn_no_word_however_large_their_difference() -> None:
    [duel] = duels(deep_pairs(5))
    assert (duel.word, duel.more_pairs) == ("undecided", 1)
    [one] = duels(deep_pairs(1))
    assert (one.word, one.low, one.high, one.more_pairs) == ("undecided", None, None, None)


def test_differences_are_of_scores_in_points_and_equal_scores_tie() -> None:
    """Scores are validation accuracies; 0.3 and 0.1 + 0.2 differ by rounding alone."""
    ours, theirs = records([made(0, "preact", 0.9, train_accuracy=0.1), made(1, "plain", 0.8)])
    assert final_difference(ours, theirs) == 10.0
    assert final_difference(theirs, ours) == -10.0
    ours, theirs = records([made(0, "preact", 0.3), made(1, "plain", 0.1 + 0.2)])
    assert final_difference(ours, theirs) == 0.0
    ours, theirs = records([made(0, "preact", 0.9), made(1, "plain", 0.8, state=PRUNED)])
    assert final_difference(ours, theirs) is None


def test_a_pair_is_won_from_a_whole_point_on() -> None:
    [duel] = duels(draws({"plain": [0.5] * 4, "preact": [0.51, 0.5099, 0.49, 0.4901]}))
    assert (duel.final.wins, duel.final.ties, duel.final.losses) == (1, 2, 1)


def test_pairs_with_an_accuracy_of_zero_are_pairs() -> None:
    [duel] = duels([made(0, "plain", 0.0), made(1, "preact", 0.4)])
    assert (duel.final.pairs, duel.final.mean) == (1, 40.0)


def test_a_score_has_mean_and_median_of_the_differences() -> None:
    [duel] = duels(draws({"plain": [0.5, 0.5, 0.5], "preact": [0.6, 0.62, 0.9]}))
    assert (duel.final.mean, duel.final.median) == pytest.approx((62 / 3, 12.0))


def test_every_rival_is_held_against_the_baseline_whichever_it_is() -> None:
    """Plain becomes a rival like another: same pairs, signs and bests as they are from there."""
    scores = {"plain": [0.5, 0.52, 0.5, 0.5, 0.5, 0.51], "residual": [0.6] * 6, "preact": [0.95] * 6}
    trials = draws(scores)
    found = {duel.arm: duel for duel in duels(trials, "residual")}
    assert list(found) == ["plain", "preact"]
    assert (found["plain"].word, found["preact"].word) == ("loses", "beats")
    assert found["plain"].final.mean == pytest.approx(-(10 * 6 - 3) / 6)
    assert found["preact"].final.mean == pytest.approx(35)
    plain = found["plain"]
    assert (plain.best, plain.best_baseline) == pytest.approx((52, 60))
    assert plain.ahead_of_best_baseline == plain.ahead_of_any_baseline == pytest.approx(-8)
    [theirs] = [duel for duel in duels(trials, "plain") if duel.arm == "residual"]
    assert theirs.final.mean == pytest.approx(-(plain.final.mean or 0))
    assert (theirs.low, theirs.high) == pytest.approx((-(plain.high or 0), -(plain.low or 0)))


def test_four_rivals_are_told_apart_also_those_that_are_not_installed_here() -> None:
    gains = {"plain": 0.0, "residual": 0.1, "preact": 0.2, "gated": 0.3, "halved": 0.4}
    with installed(Halved, Gated):
        trials = draws({arm: [0.5 + gain + i / 1000 for i in range(6)] for arm, gain in gains.items()})
        here = duels(trials, "preact")
    for found in (here, duels(trials, "preact")):
        means = {duel.arm: duel.final.mean for duel in found}
        assert list(means) == ["plain", "residual", "gated", "halved"]
        assert list(means.values()) == pytest.approx([-20, -10, 10, 20])
    assert not duels([t for t in trials if t.user_attrs["arm"] != "preact"], "preact")


def test_holm_corrects_over_the_bands_of_an_arm_and_no_further() -> None:
    gains = [0.05, 0.06, 0.05, 0.07, 0.05, 0.06, 0.05, 0.08]
    vague = [0.05, -0.06, 0.05, -0.06, 0.05, -0.06, 0.05, -0.07]
    shallow = draws(
        {arm: [0.5 + gain for gain in gains] for arm in ("residual", "preact")} | {"plain": [0.5] * 8}
    )
    deep = draws({"plain": [0.5] * 8, "preact": [0.5 + gain for gain in vague]}, blocks=6, first=50)
    found = {(duel.arm, duel.band): duel for duel in duels(shallow + deep)}
    expected = compare_family({"1-8": [100 * gain for gain in gains], "9-14": [100 * gain for gain in vague]})
    assert found["preact", "1-8"].holm_p == expected["1-8"].holm_p == 4 / 2**8
    assert found["preact", "9-14"].holm_p == expected["9-14"].holm_p
    assert found["residual", "1-8"].holm_p == 2 / 2**8


def test_intervals_end_at_a_hundred_points() -> None:
    """No difference of accuracies is larger."""
    [duel] = duels(draws({"plain": [0.0, 1.0], "preact": [1.0, 0.0]}))
    assert (duel.low, duel.high) == (-100.0, 100.0)


def test_pairs_cut_short_are_compared_at_their_last_common_epoch_and_never_final() -> None:
    plain, ours = cut(0, "plain", [0.1, 0.2]), made(1, "preact", 0.9)
    ours.intermediate_values = {1: 0.3, 2: 0.5, 3: 0.9}
    assert at_common_epoch(*records([ours, plain])) == (0.5, 0.2)
    assert at_common_epoch(*records([plain, ours])) == (0.2, 0.5)
    [duel] = duels([plain, ours])
    assert (duel.final.pairs, duel.word, duel.final.mean) == (0, "no pair", None)
    assert (duel.cut_short.pairs, duel.cut_short.wins, duel.cut_short.mean) == (1, 1, 30.0)
    assert duel.best_baseline is None, "a pruned trial has no final score"
    [mirrored] = duels([plain, ours], "preact")
    assert (mirrored.arm, mirrored.cut_short.losses, mirrored.cut_short.mean) == ("plain", 1, -30.0)


def test_pairs_without_a_common_epoch_are_no_pairs() -> None:
    infeasible = made(0, "plain", state=PRUNED, outcome="infeasible", epochs=0)
    nan = cut(2, "plain", [math.nan], group=1)
    failed = made(4, "plain", state=FAIL, group=2)
    failed.intermediate_values = {1: 0.5}
    trials = [infeasible, made(1, "preact"), nan, cut(3, "preact", [0.5], group=1)]
    trials += [failed, cut(5, "preact", [0.5], group=2)]
    assert [duel.cut_short.pairs for duel in duels(trials)] == [0]
    both_ended = records([made(0, "plain"), made(1, "preact")])
    assert at_common_epoch(*both_ended) is None


def test_trials_of_different_draws_or_of_none_are_no_pairs() -> None:
    trials = [made(0, "plain", group=0), made(1, "preact", group=1)]
    assert duels(trials) == []
    apart = [made(0, "plain", group=None), made(1, "preact", group=None)]
    assert duels(apart) == []
    unfinished = [made(0, "plain"), made(1, "preact", state=RUNNING)]
    assert duels(unfinished) == []


def test_deep_bands_are_also_compared_together() -> None:
    deep = deep_pairs(3, blocks=13) + deep_pairs(4, blocks=20, first=50)
    found = duels(deep + deep_pairs(2, blocks=3, first=90))
    assert [(duel.band, duel.final.pairs) for duel in found] == [
        ("1-8", 2), ("21-32", 3), ("33-44", 4), ("21+", 7),
    ]  # fmt: skip
    assert [duel.band for duel in duels(deep_pairs(3, blocks=13))] == ["21-32"], "two bands are needed"


def test_a_pair_is_in_the_band_of_the_baseline() -> None:
    trials = [made(0, "plain", depth=20), made(1, "preact", depth=21)]
    assert [(duel.band, duel.final.pairs) for duel in duels(trials)] == [("15-20", 1)]
    assert [(duel.band, duel.final.pairs) for duel in duels(trials, "preact")] == [("21-32", 1)]


def test_deep_pairs_cut_short_are_in_both_bands_as_well() -> None:
    trials = []
    for group, blocks in enumerate((13, 20)):
        trials += [cut(2 * group, "plain", [0.2], group, blocks=blocks)]
        trials += [cut(2 * group + 1, "preact", [0.5], group, blocks=blocks)]
    assert [(duel.band, duel.cut_short.pairs) for duel in duels(trials)] == [
        ("21-32", 1), ("33-44", 1), ("21+", 2),
    ]  # fmt: skip


def test_the_best_of_a_depth_is_set_against_the_baseline_there_and_anywhere() -> None:
    trials = [
        made(0, "plain", 0.5, blocks=13),
        made(1, "preact", 0.8, blocks=13),
        made(2, "plain", 0.9, group=1),
        made(3, "plain", 0.99, group=2, state=PRUNED),
        made(4, "preact", 0.7, blocks=13, group=3),
        made(5, "preact", 0.95, blocks=20, group=4),
    ]
    [duel] = duels(trials)
    assert (duel.best, duel.best_baseline) == (80, 50)
    assert duel.ahead_of_best_baseline == pytest.approx(30)
    assert duel.ahead_of_any_baseline == pytest.approx(-10)
