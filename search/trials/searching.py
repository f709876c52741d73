"""The trials of a search: drawn by the sampler, or copied from the lead of their group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import optuna

from models.network import Network, build
from search.data.batches import TrainingData
from search.design.groups import position_of
from search.design.seeds import training_seed
from search.design.strata import strata_of_spec
from search.spec.study import StudySpec
from search.storage.internals import as_begun
from search.storage.trial_record import TrialRecord, records_of
from search.trials.artifacts import KeepBest
from search.trials.listeners import Listener
from search.trials.setup import Setup, drawn_setup


@dataclass(frozen=True)
class SearchTrials:
    """The trials of a search."""

    spec: StudySpec
    data: TrainingData
    image_shape: tuple[int, int, int]

    def set_up(self, trial: optuna.Trial) -> Setup:
        begun = as_begun(trial)
        seed = TrialRecord(begun).seed  # an earlier attempt's, or that of whoever queued it
        if seed is None:
            seed = training_seed(self.spec, begun)
        setup = drawn_setup(trial, self.spec, self.image_shape, self.data, seed, **self._place(trial))
        fresh, earlier = _fresh_seed(trial, setup.fingerprint, seed)
        if earlier is None:
            return setup
        place = {**setup.place, "replicate_of": earlier}
        return replace(setup, config=replace(setup.config, seed=fresh), place=place)

    def _place(self, trial: optuna.Trial) -> dict[str, Any]:
        free = self.spec.search.design == "free"
        position = None if free else position_of(as_begun(trial), self.spec.space.block)
        if position is None:
            return {}
        place: dict[str, Any] = {"group": position.group, "lead": position.lead}
        if position.stratum is not None:
            place["stratum"] = strata_of_spec(self.spec)[position.stratum].name
        return place

    def build(self, trial: optuna.Trial, setup: Setup) -> Network:
        return build(setup.architecture, setup.config.seed)

    def listeners(self, trial: optuna.Trial) -> list[Listener]:
        return [KeepBest(trial)]


def _fresh_seed(trial: optuna.Trial, fingerprint: str, seed: int) -> tuple[int, int | None]:
    """The seed to train with: never one with which this configuration was trained before; and the first trial
    that trained it."""
    earlier = [
        other
        for other in records_of(trial.study)
        if other.number < trial.number and other.fingerprint == fingerprint
    ]
    if not earlier:
        return seed, None
    used = {other.seed for other in earlier}
    while seed in used:
        seed = (seed + trial.number + 1) % 2**31
    return seed, earlier[0].number
