"""What a trial trains, and what is known of that before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import optuna

from models.architecture import Architecture
from models.cost import Cost, measure_cost
from search.data.batches import TrainingData
from search.design.space import configuration_fingerprint, make_architecture, make_config, suggest
from search.spec.study import StudySpec
from search.spec.train_config import TrainConfig
from search.storage.trial_record import TrialRecord


@dataclass(frozen=True)
class Setup:
    """A network, how it is trained, and on which images."""

    architecture: Architecture
    config: TrainConfig
    data: TrainingData
    place: dict[str, Any] = field(default_factory=dict)
    """Fields of TrialRecord: where it stands in its study."""

    @cached_property
    def cost(self) -> Cost:
        return measure_cost(self.architecture)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for trials that train the same network in the same way, seeds apart."""
        return configuration_fingerprint(self.architecture, self.config)

    def identity(self) -> dict[str, Any]:
        """What two attempts at one trial have in common, as stored attributes."""
        return TrialRecord.attributes(
            arm=self.architecture.block,
            seed=self.config.seed,
            depth=self.architecture.depth,
            architecture_json=self.architecture.to_json(),
            fingerprint=self.fingerprint,
            device=self.data.device.type,
        )

    def attributes(self) -> dict[str, Any]:
        """All that is stored before it is trained."""
        price = TrialRecord.attributes(num_params=self.cost.params, macs=self.cost.macs)
        return self.identity() | price | TrialRecord.attributes(**self.place)


def drawn_setup(
    trial: optuna.Trial,
    spec: StudySpec,
    image_shape: tuple[int, int, int],
    data: TrainingData,
    seed: int,
    **place: Any,
) -> Setup:
    """The setup that a trial's parameters make, with a seed."""
    values = suggest(trial, spec.space)
    architecture = make_architecture(values, spec.space, image_shape, data.classes)
    return Setup(architecture, make_config(values, spec, seed), data, place)
