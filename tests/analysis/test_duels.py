"""Pairs within groups, against whichever arm is the baseline."""

from __future__ import annotations

import itertools
import math

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.duels import Duel, at_common_epoch, duels_of, final_difference
from search.stats.trimmed import compare_shifts
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
    assert (duel.word, duel.band, duel.arm, duel.final.pairs) == (word, "21+", "preact", 40)
    assert (duel.final.wins, duel.final.ties, duel.final.losses) == {
        "beats": (40, 0, 0), "loses": (0, 0, 40), "equal": (0, 40, 0),
    }[word]  # fmt: skip
    assert duel.low is not None
    assert duel.high is not None
    assert duel.low < 100 * gain < duel.high
    assert duel.more_pairs is None


@pytest.mark.parametrize(
    ("pairs", "gain", "word"),
    [(1, 0.3, "too few"), (3, 0.3, "too few"), (4, 0.3, "leads"), (5, 0.3, "leads"), (4, -0.3, "trails"),
     (5, 0.0, "undecided"), (6, 0.3, "leads"), (7, 0.3, "beats"), (8, -0.3, "loses")],
)  # fmt: skip
def test_few_pairs_lead_and_beat_nobody(pairs: int, gain: float, word: str) -> None:
    scores = [0.5 + gain + (0.01 * i if gain > 0 else -0.01 * i if gain else 0) for i in range(pairs)]
    [duel] = duels(draws({"plain": [0.5] * pairs, "preact": scores}))
    assert duel.word == word
    assert (duel.low is None) == (pairs < 7)


def test_a_pair_lost_is_no_lead_and_a_tie_is_no_win() -> None:
    scores = {"plain": [0.5] * 5, "preact": [0.6, 0.6, 0.6, 0.6, 0.4]}
    assert [duel.word for duel in duels(draws(scores))] == ["undecided"]
    assert [duel.word for duel in duels(draws(scores | {"preact": [0.6, 0.6, 0.6, 0.6, 0.5]}))] == ["leads"]
    assert [duel.word for duel in duels(draws(scores | {"preact": [0.6, 0.6, 0.6, 0.5, 0.5]}))] == [
        "undecided"
    ]


def test_one_collapse_among_many_gains_decides_nothing() -> None:
    """The mean of these differences is far from clear of zero."""
    gains = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.3, 0.4, 0.5, 0.6, 0.4, -0.41]
    [duel] = duels(draws({"plain": [0.45] * 12, "preact": [max(0.04, 0.45 + g) for g in gains]}))
    assert duel.word == "beats"
    assert duel.final.losses == 1
    assert duel.gain == pytest.approx(42)
    assert duel.low is not None
    assert duel.low > 20


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
    below = [0.02, 0.5, 0.48, 0.47, 0.5, 0.49, 0.46, 0.45, 0.5, 0.44]
    scores = {"plain": below, "residual": [0.6] * 10, "preact": [0.9 + i / 200 for i in range(10)]}
    trials = draws(scores)
    found = {duel.arm: duel for duel in duels(trials, "residual")}
    assert list(found) == ["plain", "preact"]
    assert (found["plain"].word, found["preact"].word) == ("loses", "beats")
    assert found["plain"].final.mean == pytest.approx(10 * sum(below) - 60)
    assert found["preact"].final.mean == pytest.approx(32.25)
    plain = found["plain"]
    assert (plain.best, plain.best_baseline) == pytest.approx((50, 60))
    assert plain.ahead_of_best_baseline == plain.ahead_of_any_baseline == pytest.approx(-10)
    [theirs] = [duel for duel in duels(trials, "plain") if duel.arm == "residual"]
    assert theirs.final.mean == pytest.approx(-(plain.final.mean or 0))
    assert (theirs.low, theirs.high) == pytest.approx((-(plain.high or 0), -(plain.low or 0)), abs=0.01)


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


def test_holm_corrects_over_the_two_halves_of_an_arm_and_no_further() -> None:
    gains = [0.05, 0.06, 0.05, 0.07, 0.05, 0.06, 0.05, 0.08]
    vague = [0.05, -0.06, 0.05, -0.06, 0.05, -0.06, 0.05, -0.07]
    shallow = draws(
        {arm: [0.5 + gain for gain in gains] for arm in ("residual", "preact")} | {"plain": [0.5] * 8}
    )
    deep = draws({"plain": [0.5] * 8, "preact": [0.5 + gain for gain in vague]}, blocks=12, first=50)
    found = {(duel.arm, duel.band): duel for duel in duels(shallow + deep)}
    expected = compare_shifts({"1-20": [100 * gain for gain in gains], "21+": [100 * gain for gain in vague]})
    assert found["preact", "1-20"].holm_p == expected["1-20"].holm_p
    assert found["preact", "21+"].holm_p == expected["21+"].holm_p
    alone = found["residual", "1-20"].holm_p
    assert alone is not None
    assert expected["1-20"].holm_p == 2 * alone


def test_intervals_end_at_a_hundred_points() -> None:
    """No difference of accuracies is larger."""
    [duel] = duels(draws({"plain": [0.0, 1.0] * 5, "preact": [1.0, 0.0] * 5}))
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


def test_a_half_is_followed_by_its_bands_if_it_has_several() -> None:
    deep = deep_pairs(3, blocks=13) + deep_pairs(4, blocks=20, first=50)
    found = duels(deep + deep_pairs(2, blocks=3, first=90))
    assert [(duel.band, duel.half, duel.final.pairs) for duel in found] == [
        ("1-20", True, 2), ("21+", True, 7), ("21-32", False, 3), ("33-44", False, 4),
    ]  # fmt: skip
    assert [duel.band for duel in duels(deep_pairs(3, blocks=13))] == ["21+"], "two bands are needed"


def stratified(pairs: int, gain: float, stratum: str, blocks: int, first: int) -> list[FrozenTrial]:
    trials = deep_pairs(pairs, gain, blocks=blocks, first=first)
    for trial in trials:
        trial.user_attrs["stratum"] = stratum
    return trials


def test_a_stratum_has_a_word_of_its_own_from_eight_pairs_on_where_its_half_has_one() -> None:
    trials = [
        *stratified(7, 0.3, "9-13", 5, 0),
        *stratified(7, 0.3, "15-21", 9, 100),
        *stratified(8, 0.3, "23-35", 14, 200),
        *stratified(7, 0.3, "37-57", 20, 300),
    ]
    assert [(duel.band, duel.word) for duel in duels(trials)] == [
        ("9-21", "beats"), ("9-13", "too few"), ("15-21", "too few"),
        ("23-57", "beats"), ("23-35", "beats"), ("37-57", "too few"),
    ]  # fmt: skip
    mixed = trials[:28] + stratified(8, 0.3, "23-35", 14, 200) + stratified(8, -0.3, "37-57", 20, 300)
    assert [(duel.band, duel.word) for duel in duels(mixed)][3:] == [
        ("23-57", "undecided"), ("23-35", "leads"), ("37-57", "trails"),
    ]  # fmt: skip
    assert all(duel.holm_p is None for duel in duels(mixed)[4:]), "no word to earn"


def test_a_pair_is_in_the_half_of_the_baseline() -> None:
    trials = [made(0, "plain", depth=20), made(1, "preact", depth=21)]
    assert [(duel.band, duel.final.pairs) for duel in duels(trials)] == [("1-20", 1)]
    assert [(duel.band, duel.final.pairs) for duel in duels(trials, "preact")] == [("21+", 1)]


def test_deep_pairs_cut_short_are_in_both_bands_as_well() -> None:
    trials = []
    for group, blocks in enumerate((13, 20)):
        trials += [cut(2 * group, "plain", [0.2], group, blocks=blocks)]
        trials += [cut(2 * group + 1, "preact", [0.5], group, blocks=blocks)]
    assert [(duel.band, duel.cut_short.pairs) for duel in duels(trials)] == [
        ("21+", 2), ("21-32", 1), ("33-44", 1),
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
    assert (duel.best, duel.best_baseline) == (95, 50)
    assert duel.ahead_of_best_baseline == pytest.approx(45)
    assert duel.ahead_of_any_baseline == pytest.approx(5)
