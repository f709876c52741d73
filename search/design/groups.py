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
    stratum: int | None = None
    """The index of its stratum of depth; None where the design has none."""

    def stored(self) -> dict[str, Any]:
        """The place as it is stored; `Position(**stored)` is it again."""
        return self._asdict()


class LeadNotDrawn(Exception):
    """A follower was asked for before its lead had all its parameters; try again in a moment."""

    def __init__(self, trial_id: int) -> None:
        super().__init__(trial_id)
        self.trial_id = trial_id


def position_of(trial: FrozenTrial, arms: Sequence[str]) -> Position | None:
    """The place of a trial: the one that it was given, or else by its turn alone, so that no worker's death
    can break a group. None for queued trials.

    Group g has turns g·A .. g·A + A-1 with A arms, its lead first; the lead's arm rotates from group to
    group.
    """
    record = TrialRecord(trial)
    if record.place is not None:
        return Position(**record.place)
    turn = record.turn
    if turn is None:
        return None
    group, position = divmod(turn, len(arms))
    return Position(group, arms[(group + position) % len(arms)], position == 0)


class _ShownStorage:
    """A storage that shows a study's trials as `show` gives them. Writing goes through."""

    def __init__(self, study: Study, show: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]) -> None:
        self._storage, self._study_id, self._show = storage_of(study), study_id_of(study), show

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        shown = self._show(self._storage.get_all_trials(study_id, deepcopy=deepcopy))
        return [trial for trial in shown if states is None or trial.state in states]

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._study_id  # a pruner asks at every epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def arm_view(study: Study, arm: str, also: Callable[[FrozenTrial], bool] = lambda trial: True) -> Study:
    """The study as if `arm` were its only block: what a sampler or pruner is handed. `also`: which ones of
    this arm's trials."""

    def show(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if trial.params.get("block") == arm and also(trial)]

    return view_of(study, show)


def view_of(study: Study, show: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]) -> Study:
    """The study as if its trials were what `show` makes of them, which must not change what it is given."""
    return Study(study_name=study.study_name, storage=_ShownStorage(study, show))  # type: ignore[arg-type]
