"""The whole curve of a trial, kept in one attribute: it is written at the end and at a pause, not epoch by
epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from search.training.results import EpochResult
from search.trials.listeners import Ended, Listener
from search.trials.setup import Setup

MEASURES = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")
MOST_EPOCHS = 500
"""Most epochs kept of a curve: more are thinned out evenly, and `epoch` says which they are. With five digits
each, the attribute stays below 30 kB; MariaDB takes 64 kB."""


class Curve(Listener):
    """Keeps training and validation, accuracy and loss, of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[EpochResult] = []

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        self.epochs = list(history)

    def epoch_ended(self, result: EpochResult) -> bool:
        self.epochs.append(result)
        return False

    def paused(self) -> dict[str, Any]:
        return {"curve": curve_of(self.epochs)} if self.epochs else {}

    def ended(self, end: Ended) -> dict[str, Any]:
        return self.paused()


def curve_of(epochs: Sequence[EpochResult]) -> dict[str, list[float | None]]:
    """A list for each of MEASURES, from the first epoch on."""
    step = math.ceil(len(epochs) / MOST_EPOCHS)
    kept = list(epochs[::-1][:: max(1, step)])[::-1]  # the last one is always there
    curve = {name: [_short(getattr(epoch, name)) for epoch in kept] for name in MEASURES}
    return curve if step <= 1 else curve | {"epoch": [epoch.epoch for epoch in kept]}


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
