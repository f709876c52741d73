"""A small network and how it is trained."""

from __future__ import annotations

from models.architecture import Architecture, Stage
from search.spec.train_config import TrainConfig

CONFIG = TrainConfig(
    epochs=2, batch_size=64, optimizer="sgd", lr=0.05, seed=0, warmup=0.05, weight_decay=1e-4
)


def small(block: str = "residual", **changes: object) -> Architecture:
    values = {
        "image_shape": (1, 8, 8),
        "classes": 10,
        "block": block,
        "stages": (Stage(width=8, blocks=1), Stage(width=8, blocks=1)),
        "transition": "pool",
    }
    return Architecture(**(values | changes))  # type: ignore[arg-type]
