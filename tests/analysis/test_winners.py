from __future__ import annotations

import json

import pytest
from optuna.trial import TrialState

from search.analysis.bands import depth_band
from search.analysis.winners import MOST, winners_of
from tests.support.made_trials import deep_pairs, made, records

PRUNED = TrialState.PRUNED


def test_a_winner_is_ahead_of_its_own_twin_by_more_than_a_tie() -> None:
    trials = [
        made(0, "plain", 0.5), made(1, "residual", 0.9), made(2, "preact", 0.509),
        made(3, "plain", 0.95, group=1), made(4, "residual", 0.94, group=1),
        made(5, "plain", 0.2, group=2, state=PRUNED), made(6, "residual", 0.99, group=2),
        made(7, "preact", 0.99, group=3),
        made(8, "plain", 0.1, group=None), made(9, "preact", 0.9, group=None),
    ]  # fmt: skip
    [winner] = winners_of(records(trials), "plain")
    assert (winner.arm, winner.trial, winner.twin, winner.depth) == ("residual", 1, 0, 7)
    assert (winner.val, winner.twin_val, winner.difference) == pytest.approx((90, 50, 40))
    assert winner.architecture.startswith("residual, 7 convs [16")


def test_a_run_that_did_not_learn_wins_nothing() -> None:
    """Twice chance is 20 % of ten classes; made runs train two points worse than they validate."""
    trials = [made(0, "plain", 0.1), made(1, "residual", 0.215), made(2, "preact", 0.225)]
    assert [winner.trial for winner in winners_of(records(trials), "plain")] == [2]


def test_deep_bands_come_first_and_of_each_the_most_accurate() -> None:
    trials = []
    for group, (depth, value) in enumerate([(7, 0.99), (41, 0.7), (41, 0.9), (27, 0.8), (7, 0.98)]):
        trials += [
            made(2 * group, "plain", 0.5, group=group, depth=depth),
            made(2 * group + 1, "preact", value, group=group, depth=depth),
        ]
    found = winners_of(records(trials), "plain")
    assert [(winner.depth, round(winner.val)) for winner in found] == [
        (41, 90), (41, 70), (27, 80), (7, 99), (7, 98),
    ]  # fmt: skip


def test_each_arm_has_its_best_of_a_band_named() -> None:
    trials = [made(0, "plain", 0.5), made(1, "residual", 0.8)]
    for group in range(1, MOST + 2):
        trials += [
            made(2 * group, "plain", 0.5, group=group),
            made(2 * group + 1, "preact", 0.9, group=group),
        ]
    found = winners_of(records(trials), "plain")
    assert [winner.arm for winner in found] == ["preact"] * MOST + ["residual"]


def test_as_many_are_named_of_a_band_as_one_reads() -> None:
    shallow = [
        made(200 + i, arm, 0.5 + 0.3 * (arm != "plain"), group=200 + i // 2)
        for i, arm in enumerate(["plain", "preact"] * (MOST + 3))
    ]
    found = winners_of(records(deep_pairs(3 * MOST) + shallow), "plain")
    assert [depth_band(winner.depth) for winner in found] == ["21-32"] * MOST + ["1-8"] * MOST


def test_price_and_weights_are_told_where_they_are_known() -> None:
    ours = made(1, "preact", 0.9, macs=5000)
    ours.system_attrs["artifacts:k1"] = json.dumps({"filename": "weights.pt", "artifact_id": "k1"})
    [winner] = winners_of(records([made(0, "plain", 0.5), ours]), "plain")
    assert (winner.params, winner.macs, winner.weights) == (1234, 5000, "k1")
    assert winner.outline == "16×3, none"


def test_winners_beat_whatever_is_the_baseline() -> None:
    trials = records([made(0, "plain", 0.9), made(1, "residual", 0.5), made(2, "preact", 0.4)])
    assert [winner.arm for winner in winners_of(trials, "residual")] == ["plain"]
    assert winners_of(trials, "halved") == ()


def test_one_that_cannot_be_built_here_has_a_name() -> None:
    ours = made(1, "preact", 0.9)
    ours.user_attrs["architecture"] = "{}"
    [winner] = winners_of(records([made(0, "plain", 0.5), ours]), "plain")
    assert winner.architecture == "preact, 7 convs"
