"""Samplers: one for each trial, seeded; in a matched design, one for each arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.design.depths import depth_of, reachable_depths, share_out
from search.design.groups import LeadNotDrawn, arm_view, position_of, view_of
from search.design.ranks import ranked
from search.design.seeds import draw_seed
from search.design.space import block_names, distributions, suggested_names, values_of
from search.design.strata import Stratum, strata_of_spec
from search.spec.study import StudySpec
from search.storage.internals import trial_id_of, with_good_ones
from search.storage.trial_record import TrialRecord

MAKERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
}
"""Makers of samplers from a seed, for each name in search.spec.tables.SAMPLERS."""

RANKED: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: with_good_ones(TPESampler(seed=seed), lambda trials: math.ceil(trials / 4)),
}
"""Makers of samplers where trials count by their ranks. The best quarter are TPE's good ones: with a tenth,
its default, an arm of thirty trials would learn from three, of four strata."""
MOST_DRAWS = 100
"""Draws until one of the right depth is made of the last."""


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
        self._view = self._look(study)
        self._position = position
        super().before_trial(self._view, trial)

    def _look(self, study: Study) -> Study:
        """What the sampler is shown of the study."""
        return arm_view(study, self._arm)

    def _lead_params(self, study: Study, trial: FrozenTrial, group: int) -> dict[str, Any]:
        for other in study.get_trials(deepcopy=False):
            position = position_of(other, self._arms)
            if position and position.lead and position.group == group:
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


class StratifiedSampler(MatchedSampler):
    """Leads are drawn within the stratum of their group, from what their arm's trials showed within theirs: a
    trial counts by its rank among those of its arm and stratum, since a deep net of 60 % may be better than a
    shallow one of 98 %. All parameters of a draw are drawn together, until its depth fits."""

    def __init__(self, spec: StudySpec, make: Callable[[int], BaseSampler]) -> None:
        super().__init__(spec.space.block, suggested_names(spec.space), make, spec.search.seed)
        self._space, self._strata = spec.space, strata_of_spec(spec)
        self._together = {name: d for name, d in distributions(spec.space).items() if name != "block"}

    def _look(self, study: Study) -> Study:
        return view_of(study, lambda trials: ranked(trials, self._arm))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._position is None:
            return super().infer_relative_search_space(study, trial)
        return {} if self._copied else self._together

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._position is None or not search_space:
            return super().sample_relative(study, trial, search_space)
        assert self._position.stratum is not None, "of a stratified design"
        stratum = self._strata[self._position.stratum]
        for _ in range(MOST_DRAWS):
            drawn = self._draw(trial, search_space)
            if stratum.has(self._depth(drawn)):
                return drawn
        return drawn | self._moved(drawn, stratum, draw_seed(self._study_seed, trial.number))

    def _draw(self, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        found = self._sampler.sample_relative(self._view, trial, search_space)
        return found or {  # at random, as TPE does at first
            name: self._sampler.sample_independent(self._view, trial, name, distribution)
            for name, distribution in search_space.items()
        }

    def _blocks(self, drawn: dict[str, Any]) -> list[int]:
        values = values_of(drawn, self._space)
        return [values[name] for name in block_names(self._space)]

    def _depth(self, drawn: dict[str, Any]) -> int:
        return depth_of(self._space, sum(self._blocks(drawn)))

    def _moved(self, drawn: dict[str, Any], stratum: Stratum, seed: int) -> dict[str, Any]:
        """The blocks of a draw that never came into the stratum, shared out anew over a depth of it."""
        depths = [depth for depth in reachable_depths(self._space) if stratum.has(depth)]
        depth = depths[seed % len(depths)]
        blocks = share_out(self._blocks(drawn), self._space, depth)
        moved = zip(block_names(self._space), blocks, strict=True)
        return {name: count for name, count in moved if name in drawn}


def make_sampler(spec: StudySpec, names: frozenset[str]) -> BaseSampler:
    """The sampler of a study. `names`: the parameters that a drawn trial has."""
    make, seed = MAKERS[spec.search.sampler], spec.search.seed
    if spec.search.design == "free":
        return SeededSampler(make, seed)
    if spec.search.design == "stratified":
        return StratifiedSampler(spec, RANKED.get(spec.search.sampler, make))
    return MatchedSampler(spec.space.block, names, make, seed)
