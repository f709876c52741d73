"""Searches on recorded curves: samplers and pruners are the real ones, the study is in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.curves import Curve, Draw
from search.design.seeds import training_seed
from search.design.space import suggest
from search.spec.study import StudySpec
from search.storage.trial_record import TURN

_STATES = {False: TrialState.COMPLETE, True: TrialState.PRUNED}


class Runs(Protocol):
    """See curves.Recorder, which is one."""

    @property
    def chance(self) -> float: ...

    def run(
        self, values: Mapping[str, Any], seed: int, on_epoch: Callable[[int, float], bool] = ...
    ) -> Curve: ...


@dataclass(frozen=True)
class Tried:
    """One trial of a search that is over."""

    values: dict[str, Any]
    seed: int
    epochs: int
    pruned: bool
    value: float

    @property
    def arm(self) -> str:
        return str(self.values["block"])


class TurnStorage(InMemoryStorage):
    """Numbers what the sampler is asked for, as search.storage.claim_storage does in SQL."""

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self.set_trial_system_attr(trial_id, TURN, self.get_trial_number_from_id(trial_id))
        return trial_id


class Prefilled(BaseSampler):
    """The first trials are given: random draws, as any sampler starts with. The rest are `sampler`'s."""

    def __init__(self, given: Sequence[Mapping[str, Any]], sampler: BaseSampler) -> None:
        self._given, self._sampler = given, sampler

    def _values(self, trial: FrozenTrial) -> Mapping[str, Any] | None:
        return self._given[trial.number] if trial.number < len(self._given) else None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if self._values(trial) is None:
            self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if self._values(trial) else self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if values := self._values(trial):
            return values[param_name]
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def matched_trials(draws: Sequence[Draw], arms: Sequence[str]) -> list[tuple[dict[str, Any], int]]:
    """Values and seeds by design.groups.position_of: every draw as every arm, the lead's arm rotating."""
    return [
        (draw.of(arms[(group + position) % len(arms)]), draw.seed)
        for group, draw in enumerate(draws)
        for position in range(len(arms))
    ]


def free_trials(draws: Sequence[Draw], arms: Sequence[str], seed: int) -> list[tuple[dict[str, Any], int]]:
    """Every draw as one arm, drawn at random too."""
    rng = random.Random(seed)
    return [(draw.of(rng.choice(arms)), draw.seed) for draw in draws]


def shuffled(draws: Sequence[Draw], seed: int) -> list[Draw]:
    """Independent draws stay independent in any order: each order is another random search."""
    return random.Random(seed).sample(draws, len(draws))


def search(
    spec: StudySpec,
    sampler: BaseSampler,
    pruner: BasePruner,
    given: Sequence[tuple[dict[str, Any], int]],
    enough: Callable[[Sequence[Tried]], bool],
    runs: Runs,
) -> list[Tried]:
    """Trials until it is enough, the first ones given; one worker, as in a search."""
    study = optuna.create_study(
        study_name=f"{spec.name}-{spec.search.seed}", storage=TurnStorage(), direction="maximize",
        sampler=Prefilled([values for values, _ in given], sampler), pruner=pruner,
    )  # fmt: skip
    tried: list[Tried] = []
    while not enough(tried):
        trial, number = study.ask(), len(tried)
        values = suggest(trial, spec.space)
        seed = given[number][1] if number < len(given) else training_seed(spec, trial._cached_frozen_trial)
        tried.append(_follow(trial, values, seed, spec.train.epochs, runs))
        pruned = tried[-1].pruned
        study.tell(trial, None if pruned else tried[-1].value, _STATES[pruned])
    return tried


def _follow(trial: optuna.Trial, values: dict[str, Any], seed: int, epochs: int, runs: Runs) -> Tried:
    def on_epoch(epoch: int, accuracy: float) -> bool:
        trial.report(accuracy, epoch)
        return epoch < epochs and trial.should_prune()

    curve = runs.run(values, seed, on_epoch)
    stopped = curve.outcome == "stopped"
    return Tried(values, seed, len(curve.accuracies), stopped, curve.value(runs.chance))


def seeded(spec: StudySpec, seed: int, **settings: Any) -> StudySpec:
    return replace(spec, search=replace(spec.search, seed=seed, **settings))
