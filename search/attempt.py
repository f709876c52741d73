"""One attempt at a trial: what it trains, what is known of it before, and where its epochs go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna

from models.architecture import Architecture
from search.checkpoints import Checkpoints
from search.data import TrainingData
from search.evaluation import EpochResult, State
from search.optimization import TrainConfig
from search.reporter import Reporter
from search.space import configuration_fingerprint


@dataclass(frozen=True)
class Setup:
    """What a trial trains, on which images, and what is recorded of that before it starts."""

    architecture: Architecture
    config: TrainConfig
    data: TrainingData
    attrs: dict[str, Any]


def described(setup: Setup) -> dict[str, Any]:
    """Attributes of a trial that are known before it is priced."""
    return {
        "arm": setup.architecture.block,
        "seed": setup.config.seed,
        "depth": setup.architecture.depth,
        "architecture": setup.architecture.to_json(),
        "fingerprint": configuration_fingerprint(setup.architecture, setup.config),
        "device": setup.data.device.type,
    }


@dataclass(frozen=True)
class Attempt:
    trial: optuna.Trial
    setup: Setup
    kept: Checkpoints
    reporter: Reporter

    def replay(self, state: State | None) -> None:
        """Reports again what an earlier attempt had reported, which stood at `state`."""
        if state is not None:
            self.reporter.replay([result["val_accuracy"] for result in state["history"]])

    def report(self, result: EpochResult) -> bool:
        """Whether the trial is to be stopped."""
        return self.reporter.report(
            result.epoch, result.val_accuracy, result.epoch == self.setup.config.epochs
        )

    def close(self) -> None:
        self.reporter.close()
