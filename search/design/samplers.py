"""Samplers: one for each trial, seeded; in a matched design, one for each arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.design.groups import LeadNotDrawn, arm_view, first_turn, position_of
from search.design.seeds import draw_seed
from search.spec.study import StudySpec
from search.storage.internals import trial_id_of
from search.storage.trial_record import TrialRecord

MAKERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
}
"""Makers of samplers from a seed, for each name in search.spec.tables.SAMPLERS."""


class SeededSampler(BaseSampler):
    """A fresh sampler for every trial, seeded by the trial's number."""

    def __init__(self, make: Callable[[int], BaseSampler], study_seed: int) -> None:
        self._make, self._study_seed = make, study_seed
        self._sampler = make(study_seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler = self._make(draw_seed(self._study_seed, trial.number))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


class MatchedSampler(SeededSampler):
    """Leads are drawn from the trials of their own arm; followers copy their lead, but for the block."""

    def __init__(
        self,
        arms: Sequence[str],
        names: frozenset[str],
        make: Callable[[int], BaseSampler],
        study_seed: int,
    ) -> None:
        """`names`: the parameters that a drawn trial has."""
        super().__init__(make, study_seed)
        self._arms, self._names = tuple(arms), names

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        position = position_of(trial, self._arms)
        if position:
            self._arm = position.arm
        else:
            queued = TrialRecord(trial).queued
            self._arm = queued.get("block", self._arms[trial.number % len(self._arms)])
        self._copied: dict[str, Any] = {}
        if position and not position.lead:
            self._copied = self._lead_params(study, trial, position.group)
        self._view = arm_view(study, self._arm)
        super().before_trial(self._view, trial)

    def _lead_params(self, study: Study, trial: FrozenTrial, group: int) -> dict[str, Any]:
        turn = first_turn(group, self._arms)
        for other in study.get_trials(deepcopy=False):
            if TrialRecord(other).turn == turn:
                if self._names <= other.params.keys() or other.state.is_finished():
                    return other.params
                break
        raise LeadNotDrawn(trial_id_of(trial))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._copied:
            return {}
        space = super().infer_relative_search_space(self._view, trial)
        return {name: distribution for name, distribution in space.items() if name != "block"}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._view, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name == "block":
            return self._arm
        if param_name in self._copied:
            return self._copied[param_name]
        return super().sample_independent(self._view, trial, param_name, param_distribution)


def make_sampler(spec: StudySpec, names: frozenset[str]) -> BaseSampler:
    """The sampler of a study. `names`: the parameters that a drawn trial has."""
    make, seed = MAKERS[spec.search.sampler], spec.search.seed
    if spec.search.design == "free":
        return SeededSampler(make, seed)
    return MatchedSampler(spec.space.block, names, make, seed)
