"""Runs made by hand: what a listener is told of, without any training. No two numbers are equal."""

from __future__ import annotations

from typing import Any

import torch
from optuna.trial import TrialState

from models.network import build
from search.data.batches import TrainingData
from search.spec.train_config import TrainConfig
from search.training.results import EpochResult, TrainResult
from search.trials.listeners import Ended
from search.trials.outcomes import Ending
from search.trials.setup import Setup
from tests.support.training import CONFIG, small


def epoch(number: int, **changes: Any) -> EpochResult:
    """Four numbers that belong to this epoch alone."""
    values = {
        "epoch": number,
        "train_loss": 2 + number / 10,
        "train_accuracy": 0.6 + number / 1000,
        "val_loss": 3 + number / 10,
        "val_accuracy": 0.25 + number / 1000,
        "measures": None,
    }
    return EpochResult(**(values | changes))


def result(outcome: str = "complete", epochs: int = 5, **changes: Any) -> TrainResult:
    values = {
        "outcome": outcome,
        "epochs": tuple(epoch(number) for number in range(1, epochs + 1)),
        "seconds": 12.34567,
        "images_per_second": 987.654,
        "loss_at_start": 2.345,
        "start": None,
    }
    return TrainResult(**(values | changes))


def images(count: int = 3) -> TrainingData:
    pixels, labels = torch.zeros(count, 8, 8, 1), torch.zeros(count, dtype=torch.int64)
    mean, std = torch.tensor([0.5]), torch.tensor([0.25])
    return TrainingData(pixels, labels, pixels, labels, mean, std, 10)


def setup(config: TrainConfig = CONFIG, **place: Any) -> Setup:
    return Setup(small(), config, images(), place)


def ended(value: float = 0.75, outcome: str = "complete") -> Ended:
    begun = setup()
    ending = Ending(outcome, TrialState.COMPLETE, value, {})
    return Ended(begun, build(begun.architecture, 0), result(), ending)
