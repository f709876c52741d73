"""What a sampler of a stratified design is shown: ranks within arm and stratum."""

from __future__ import annotations

import math

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.design.ranks import ranked
from search.storage.trial_record import PLACE

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


def trial(
    number: int,
    value: float | None,
    stratum: int = 0,
    arm: str = "plain",
    state: TrialState = COMPLETE,
    curve: list[float] | None = None,
) -> FrozenTrial:
    place = {"group": number, "arm": arm, "lead": True, "stratum": stratum}
    reports = dict(enumerate(curve or [], start=1))
    made = create_trial(state=state, value=value, system_attrs={PLACE: place}, intermediate_values=reports)
    made.number = number
    return made


def shown(trials: list[FrozenTrial], arm: str = "plain") -> dict[int, float | None]:
    return {one.number: one.value for one in ranked(trials, arm)}


def test_a_deep_one_may_be_better_than_a_shallow_one_of_more_accuracy() -> None:
    trials = [trial(0, 0.97, 0), trial(1, 0.99, 0), trial(2, 0.6, 1), trial(3, 0.2, 1)]
    assert shown(trials) == {0: 0.25, 1: 0.75, 2: 0.75, 3: 0.25}


def test_a_rank_is_the_share_that_it_is_better_than_and_equal_ones_share_it() -> None:
    values = [0.5, 0.5, 0.9, 0.1]
    assert shown([trial(i, value) for i, value in enumerate(values)]) == {0: 0.5, 1: 0.5, 2: 0.875, 3: 0.125}
    assert shown([trial(0, 0.3)]) == {0: 0.5}


def test_other_arms_failures_and_what_runs_are_left_out() -> None:
    unplaced = create_trial(value=0.7)
    trials = [
        trial(0, 0.5), trial(1, 0.9, arm="preact"), trial(2, None, state=FAIL),
        trial(3, None, state=RUNNING), unplaced,
    ]  # fmt: skip
    assert shown(trials) == {0: 0.5}


def test_a_stopped_one_counts_as_what_it_would_have_come_to() -> None:
    """Those that ended gained 0.3 from its last epoch on in the middle, so it comes to 0.5."""
    ended = [trial(i, 0.2 + 0.2 * i + 0.3, curve=[0.1, 0.2 + 0.2 * i, 0.4]) for i in range(3)]
    stopped = trial(9, 0.35, state=PRUNED, curve=[0.1, 0.35])
    assert shown([*ended, stopped]) == pytest.approx({0: 1 / 8, 9: 3 / 8, 1: 5 / 8, 2: 7 / 8})


def test_gains_are_those_of_the_stratum_and_else_of_the_arm() -> None:
    """Nothing of the deep stratum has ended: the shallow ones tell what an epoch is worth."""
    shallow = [trial(i, 0.9, 0, curve=[0.5, 0.9]) for i in range(2)]
    deep = [trial(5, 0.1, 1, state=PRUNED, curve=[0.1]), trial(6, 0.4, 1, curve=[0.2, 0.3])]
    assert shown([*shallow, *deep]) == {0: 0.5, 1: 0.5, 5: 0.75, 6: 0.25}


def test_what_was_never_trained_or_diverged_is_the_worst() -> None:
    infeasible = trial(0, None, state=PRUNED)
    diverged = trial(1, 0.5, state=PRUNED, curve=[0.5, math.nan])
    assert shown([infeasible, diverged, trial(2, 0.1)]) == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 5 / 6})


def test_the_trials_themselves_are_left_as_they_are() -> None:
    stopped = trial(0, 0.5, state=PRUNED, curve=[0.5])
    [copy] = ranked([stopped], "plain")
    assert (copy.state, copy.value) == (COMPLETE, 0.5)
    assert (stopped.state, copy is stopped) == (PRUNED, False)
