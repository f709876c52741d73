"""The training of one network, as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.spec.tables import TrainSettings


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainSettings):
    """The settings of a study, and what a trial draws."""

    optimizer: str
    """One of search.spec.tables.OPTIMIZERS."""
    lr: float
    """Learning rate at its peak: reached by linear warm-up, then it falls by the schedule."""
    seed: int
    """Seed of batch order and augmentation."""
    weight_decay: float = 0.0
    """Not applied to norms, biases and scalars."""
    warmup: float = 0.0
    """Share of all steps."""

    def learning_rate(self, step: int, steps: int) -> float:
        """The rate of optimizer step `step`, from 0, of `steps` in all."""
        warmup = round(self.warmup * steps)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "step":
            return self.lr * 0.1 ** ((step >= steps / 2) + (step >= steps * 3 / 4))
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
