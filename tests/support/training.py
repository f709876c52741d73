"""A small network, and runs that train it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.architecture import Architecture, Stage
from models.network import build
from search.data.batches import TrainingData
from search.spec.train_config import TrainConfig
from search.training.checkpoints import Checkpoints
from search.training.results import TrainResult
from search.training.run import train

CONFIG = TrainConfig(
    epochs=2, batch_size=64, optimizer="sgd", lr=0.05, seed=0, warmup=0.05, weight_decay=1e-4
)
Trained = tuple[nn.Module, TrainResult]


def small(block: str = "residual", **changes: object) -> Architecture:
    values = {
        "image_shape": (1, 8, 8),
        "classes": 10,
        "block": block,
        "stages": (Stage(width=8, blocks=1), Stage(width=8, blocks=1)),
        "transition": "pool",
    }
    return Architecture(**(values | changes))  # type: ignore[arg-type]


def run(architecture: Architecture, data: TrainingData, config: TrainConfig = CONFIG) -> Trained:
    network = build(architecture, config.seed)
    return network, train(network, data, config, lambda _: None)


def run_in_pieces(
    architecture: Architecture, data: TrainingData, config: TrainConfig, stops: tuple[int, ...], folder: Path
) -> Trained:
    """The same run, interrupted before these steps: its state goes to disk and comes back into a network of
    other weights."""
    kept = Checkpoints(folder, "me", {}, 0)
    resume, reported = None, 0
    for stop in (*stops, None):
        network = build(architecture, seed=config.seed + 99 if resume else config.seed)
        steps = iter(range(resume["step"] if resume else 0, 10**6))
        result = train(
            network, data, config, lambda _: None,
            interrupted=lambda steps=steps, stop=stop: next(steps) == stop,  # type: ignore[misc]
            keep=kept.keep, resume=resume,
        )  # fmt: skip
        assert result.outcome == ("complete" if stop is None else "interrupted")
        assert len(result.epochs) >= reported
        reported, resume = len(result.epochs), kept.newest()
        assert resume is not None
        assert resume["optimizer"]["taken"] == resume["step"]
        assert stop is None or resume["step"] == stop
    return network, result


def assert_same(one: Trained, other: Trained) -> None:
    """Weights, buffers, losses, accuracies and measures, bit for bit."""
    for x, y in zip(one[0].state_dict().values(), other[0].state_dict().values(), strict=True):
        assert torch.equal(x, y)
    assert one[1].outcome == other[1].outcome
    assert one[1].epochs == other[1].epochs
    assert (one[1].start, one[1].loss_at_start) == (other[1].start, other[1].loss_at_start)
