"""Groups of a matched design: one draw trained as every arm, the lead first; and studies in which only some
trials exist, so that samplers and pruners never compare across arms."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.storage.internals import storage_of, study_id_of
from search.storage.trial_record import TrialRecord


class Position(NamedTuple):
    """The place of a trial in a matched design."""

    group: int
    arm: str
    lead: bool
    """Whether its parameters come from the sampler; followers copy the lead's."""


class LeadNotDrawn(Exception):
    """A follower was asked for before its lead had all its parameters; try again in a moment."""

    def __init__(self, trial_id: int) -> None:
        super().__init__(trial_id)
        self.trial_id = trial_id


def position_of(trial: FrozenTrial, arms: Sequence[str]) -> Position | None:
    """The place of a trial, by its turn alone: no worker's death can break a group. None for queued trials.

    Group g has turns g·A .. g·A + A-1 with A arms, its lead first; the lead's arm rotates from group to
    group.
    """
    turn = TrialRecord(trial).turn
    if turn is None:
        return None
    group, position = divmod(turn, len(arms))
    return Position(group, arms[(group + position) % len(arms)], position == 0)


def first_turn(group: int, arms: Sequence[str]) -> int:
    """The turn of a group's lead."""
    return group * len(arms)


class _PartStorage:
    """A storage in which only some trials exist. Writing goes through."""

    def __init__(self, study: Study, is_there: Callable[[FrozenTrial], bool]) -> None:
        self._storage, self._study_id, self._is_there = storage_of(study), study_id_of(study), is_there

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if self._is_there(trial)]

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._study_id  # a pruner asks at every epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def arm_view(study: Study, arm: str, also: Callable[[FrozenTrial], bool] = lambda trial: True) -> Study:
    """The study as if `arm` were its only block: what a sampler or pruner is handed. `also`: which ones of
    this arm's trials."""
    storage = _PartStorage(study, lambda trial: trial.params.get("block") == arm and also(trial))
    return Study(study_name=study.study_name, storage=storage)  # type: ignore[arg-type]
