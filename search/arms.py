"""Matched arms: one draw trained as every block; samplers and pruners that never compare across arms."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.claims import SLOT
from search.spec import NEAR, Space, StudySpec, depth_of


class Place(NamedTuple):
    """Where a trial stands in a matched design."""

    group: int
    arm: str
    lead: bool
    """The lead's parameters come from the sampler; followers copy them."""


class LeadNotDrawn(Exception):
    """A follower was asked for before its lead had all its parameters; try again in a moment."""

    def __init__(self, trial_id: int) -> None:
        super().__init__(trial_id)
        self.trial_id = trial_id


def place_of(trial: FrozenTrial, arms: Sequence[str]) -> Place | None:
    """A function of the trial's slot alone, so no worker's death can break a group. None for queued trials.

    Group g is slots g·A .. g·A + A-1 with A arms, its lead first; the lead's arm rotates from group to group.
    """
    slot = trial.system_attrs.get(SLOT)
    if slot is None:
        return None
    group, position = divmod(slot, len(arms))
    return Place(group, arms[(group + position) % len(arms)], position == 0)


def draw_seed(study_seed: int, number: int) -> int:
    """The sampler's seed for one trial: two workers never draw alike, a restart never repeats."""
    return _seed(study_seed, 0, number)


def training_seed(spec: StudySpec, trial: FrozenTrial) -> int:
    """Of weights, batch order and augmentation: one per group, one per trial outside groups."""
    place = place_of(trial, spec.space.block) if spec.search.design == "matched" else None
    return _seed(spec.search.seed, 1, place.group) if place else _seed(spec.search.seed, 2, trial.number)


def confirmation_seed(study_seed: int, replicate: int) -> int:
    """Of weights, batch order and split of one replicate; a search draws none of these."""
    return _seed(study_seed, 3, replicate)


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)


class _PartStorage:
    """A storage in which only some trials exist. Writing goes through."""

    def __init__(self, study: Study, is_there: Callable[[FrozenTrial], bool]) -> None:
        self._storage, self._study_id, self._is_there = study._storage, study._study_id, is_there

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
    """The study as if `arm` were its only block: what a sampler or pruner is handed. `also`: of this arm's
    trials, which ones."""
    storage = _PartStorage(study, lambda trial: trial.params.get("block") == arm and also(trial))
    return Study(study_name=study.study_name, storage=storage)  # type: ignore[arg-type]


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
        super().__init__(make, study_seed)
        self._arms, self._names = tuple(arms), names

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        place = place_of(trial, self._arms)
        queued = trial.system_attrs.get("fixed_params", {})
        self._arm = place.arm if place else queued.get("block", self._arms[trial.number % len(self._arms)])
        self._copied: dict[str, Any] = {}
        if place and not place.lead:
            self._copied = self._lead_params(study, trial, place.group)
        self._view = arm_view(study, self._arm)
        super().before_trial(self._view, trial)

    def _lead_params(self, study: Study, trial: FrozenTrial, group: int) -> dict[str, Any]:
        slot = group * len(self._arms)
        for other in study.get_trials(deepcopy=False):
            if other.system_attrs.get(SLOT) == slot:
                if self._names <= other.params.keys() or other.state.is_finished():
                    return other.params
                break
        raise LeadNotDrawn(trial._trial_id)

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


class PeerPruner(BasePruner):
    """A pruner for each arm and depth: a trial competes with trials of its own arm that are about as deep.

    Plain trials start slowly, deep ones do too. Judged by a whole arm, hardly a deep trial would get to its
    end, and there would be nothing to compare arms by at that depth: see benchmarks/SEARCH.md.
    """

    def __init__(self, make: Callable[[], BasePruner], space: Space, near: float = NEAR) -> None:
        """`near`: factor of depth up to which trials compete."""
        self._make, self._space, self._near = make, space, near
        self._pruners: dict[tuple[str, int], tuple[BasePruner, Study]] = {}
        self._depths: dict[int, int] = {}
        self._names = [f"blocks_{i}" for i in range(1, len(space.widths) + 1)]
        blocks = space.blocks
        self._fixed: int = blocks[0] if isinstance(blocks, tuple) and len(blocks) == 1 else 0  # no parameter

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        arm, depth = trial.params["block"], self._depth(trial)
        if (arm, depth) not in self._pruners:
            view = arm_view(study, arm, lambda other: self._is_near(self._depth(other), depth))
            self._pruners[arm, depth] = (self._make(), view)
        pruner, view = self._pruners[arm, depth]
        view._thread_local.cached_all_trials = None
        return pruner.prune(view, trial)

    def _is_near(self, depth: int, other: int) -> bool:
        return max(depth, other) <= self._near * min(depth, other)

    def _depth(self, trial: FrozenTrial) -> int:
        """0 of a trial that is being drawn. Kept: it is asked for at every epoch, of every trial."""
        if trial._trial_id not in self._depths:
            blocks: list[int] = [trial.params.get(name, self._fixed) for name in self._names]
            if not all(blocks):
                return 0
            self._depths[trial._trial_id] = depth_of(self._space, sum(blocks))
        return self._depths[trial._trial_id]


def make_sampler(spec: StudySpec, names: frozenset[str]) -> BaseSampler:
    make: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda seed: TPESampler(seed=seed),
        "random": lambda seed: RandomSampler(seed=seed),
        "gp": lambda seed: GPSampler(seed=seed),
    }
    settings = spec.search
    if settings.design == "free":
        return SeededSampler(make[settings.sampler], settings.seed)
    return MatchedSampler(spec.space.block, names, make[settings.sampler], settings.seed)


def make_pruner(spec: StudySpec) -> BasePruner:
    """Rungs are epochs done, from 1. Hyperband halves gently, as deep nets start slowly; of first rungs and
    factors, these lost least of deep plain nets for the epochs that they saved: benchmarks/SEARCH.md."""
    epochs = spec.train.epochs
    make: dict[str, Callable[[], BasePruner]] = {
        "hyperband": lambda: HyperbandPruner(
            min_resource=max(1, epochs // 15), max_resource=epochs, reduction_factor=2
        ),
        "halving": lambda: SuccessiveHalvingPruner(min_resource=max(1, epochs // 4), reduction_factor=2),
        "median": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 3)),
        "none": NopPruner,
    }
    chosen = make[spec.search.pruner]
    return chosen() if spec.search.design == "free" else PeerPruner(chosen, spec.space)
