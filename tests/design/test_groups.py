from __future__ import annotations

import copy
from collections.abc import Sequence

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.design.groups import Position, arm_view, position_of, view_of
from search.storage.trial_record import PLACE, TURN

ARMS = ("plain", "residual", "preact")


def at(turn: int | None) -> FrozenTrial:
    attributes = {} if turn is None else {TURN: turn}
    return create_trial(value=0.0, system_attrs=attributes)


@pytest.mark.parametrize(
    ("turn", "position"),
    [
        (0, Position(0, "plain", True)),
        (1, Position(0, "residual", False)),
        (2, Position(0, "preact", False)),
        (3, Position(1, "residual", True)),
        (5, Position(1, "plain", False)),
        (7, Position(2, "plain", False)),
        (9, Position(3, "plain", True)),
        (None, None),
    ],
)
def test_a_turn_decides_group_arm_and_who_leads(turn: int | None, position: Position | None) -> None:
    assert position_of(at(turn), ARMS) == position


@pytest.mark.parametrize("arms", [ARMS, ARMS[:2], ARMS[:1], (*ARMS, "halved", "gated")])
def test_a_group_is_every_arm_once_and_its_lead_has_its_first_turn(arms: tuple[str, ...]) -> None:
    for group in range(2 * len(arms)):
        turns = range(group * len(arms), (group + 1) * len(arms))
        positions = [position_of(at(turn), arms) for turn in turns]
        assert [p.group for p in positions if p] == [group] * len(arms)
        assert {p.arm for p in positions if p} == set(arms)
        assert [p.lead for p in positions if p] == [True] + [False] * (len(arms) - 1)
        assert positions[0] is not None
        assert positions[0].arm == arms[group % len(arms)], "the lead rotates"


def test_a_place_that_was_given_goes_before_a_turn() -> None:
    place = Position(7, "preact", lead=False, stratum=2)
    assert position_of(create_trial(value=0.0, system_attrs={PLACE: place.stored()}), ARMS) == place
    attributes = {PLACE: place.stored(), TURN: 0}
    assert position_of(create_trial(value=0.0, system_attrs=attributes), ARMS) == place


def test_a_view_may_show_trials_as_others_and_leaves_the_study_alone() -> None:
    study = optuna.create_study(direction="maximize")
    for value in (1.0, 2.0, 3.0):
        study.add_trial(create_trial(value=value))

    def better(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        found = [copy.copy(trial) for trial in trials if trial.number > 0]
        for trial in found:
            trial.value = 10 * (trial.value or 0)
        return found

    view = view_of(study, better)
    assert [trial.value for trial in view.get_trials()] == [20, 30]
    assert [trial.value for trial in view.get_trials(states=(TrialState.COMPLETE,))] == [20, 30]
    assert view.get_trials(states=(TrialState.FAIL,)) == []
    assert [trial.value for trial in study.get_trials()] == [1, 2, 3]


def test_a_view_holds_the_trials_of_one_arm_and_writes_through() -> None:
    study = optuna.create_study(study_name="s")
    categories = optuna.distributions.CategoricalDistribution(list(ARMS))
    for i, arm in enumerate(("plain", "preact", "plain", "residual")):
        study.add_trial(
            create_trial(value=float(i), params={"block": arm}, distributions={"block": categories})
        )
    view = arm_view(study, "plain")
    assert (view.study_name, [trial.number for trial in view.get_trials()]) == ("s", [0, 2])
    assert [t.number for t in arm_view(study, "plain", lambda trial: trial.number > 0).get_trials()] == [2]
    view.set_user_attr("told", 1)
    assert study.user_attrs == {"told": 1}
