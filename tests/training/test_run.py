from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from search.optimization__GONE import learning_rate
from torch import Tensor, nn

from models.architecture import Architecture, Stage
from models.network import build
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.data.images import Images
from search.spec.train_config import TrainConfig
from search.training.checkpoints import Checkpoints
from search.training.optimizer import Optimizer
from search.training.results import EpochResult, TrainResult
from search.training.run import train
from tests.support.training import CONFIG, small

GOLDEN_START = 2.476370
GOLDEN_LOSSES = [2.076880, 1.494700]


def run(
    architecture: Architecture, data: TrainingData, config: TrainConfig = CONFIG
) -> tuple[nn.Module, TrainResult]:
    network = build(architecture, seed=config.seed)
    return network, train(network, data, config, lambda _: None)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_plain_stays_at_chance_at_depth_20_and_its_residual_twin_learns(
    digits: TrainingData, optimizer: str
) -> None:
    """The post's claim in its own setting: default initialization, no normalization, 240 steps. The twins
    have the same weights at the start and see the same batches: "+ x" is all the difference."""
    config = dataclasses.replace(
        CONFIG, epochs=15, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 1e-3
    )
    stages = (Stage(width=16, blocks=5), Stage(width=16, blocks=4))
    twins = {b: small(b, stages=stages, head="flatten") for b in ("plain", "residual")}
    assert {twin.depth for twin in twins.values()} == {20}
    _, plain = run(twins["plain"], digits, config)
    _, residual = run(twins["residual"], digits, config)
    assert plain.epochs[-1].val_accuracy < 0.2
    assert plain.epochs[-1].train_accuracy < 0.2, "an optimization failure, not overfitting"
    assert residual.epochs[-1].val_accuracy > 0.9


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stops", [(0,), (1,), (16,), (17,), (31,), (32,), (40, 41, 47)])
def test_an_interrupted_run_ends_bit_for_bit_as_one_that_was_not(
    digits: TrainingData, tmp_path: Path, norm: str, optimizer: str, stops: tuple[int, ...]
) -> None:
    """Stopped before these of 48 steps, at the ends of epochs and in their midst; its state goes to disk."""
    config = dataclasses.replace(CONFIG, epochs=3, optimizer=optimizer, lr=0.01, crop=1, flip=True)
    architecture = small("preact", norm=norm, zero_branch=True)
    whole, expected = run(architecture, digits, config)
    kept = Checkpoints(tmp_path, "me", {}, 0)
    resume, reported = None, 0
    for stop in (*stops, None):
        steps = iter(range(len(resume["history"]) * 16 + len(resume["losses"]) if resume else 0, 10**6))
        network = build(architecture, seed=99 if resume else config.seed)
        result = train(
            network, digits, config, lambda _: None,
            interrupted=lambda steps=steps, stop=stop: next(steps) == stop,  # type: ignore[misc]
            keep=kept.keep, resume=resume,
        )  # fmt: skip
        assert result.outcome == ("complete" if stop is None else "interrupted")
        resume = kept.newest()
        assert len(result.epochs) >= reported
        reported = len(result.epochs)
    for x, y in zip(whole.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    assert result.epochs == expected.epochs
    assert (result.start, result.loss_at_start) == (expected.start, expected.loss_at_start)


def test_same_seed_same_weights_bit_for_bit(digits: TrainingData) -> None:
    config = dataclasses.replace(CONFIG, crop=1, flip=True)
    (a, first), (b, second) = (run(small(norm="batch"), digits, config) for _ in range(2))
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    assert first.epochs == second.epochs
    c, _ = run(small(norm="batch"), digits, dataclasses.replace(config, seed=1))
    assert not torch.equal(a.state_dict()["head.weight"], c.state_dict()["head.weight"])


def test_the_numerics_are_recorded(digits: TrainingData) -> None:
    """A changed number here is a changed science: say so in the changelog."""
    _, result = run(small(norm="batch"), digits)
    assert result.loss_at_start == pytest.approx(GOLDEN_START, rel=1e-4)
    assert [e.train_loss for e in result.epochs] == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


def test_overfits_64_images() -> None:
    rng = np.random.default_rng(0)
    images = Images(rng.normal(size=(64, 8, 8, 1)).astype(np.float32), rng.integers(0, 10, 64))
    data = to_device(images, images, 10, torch.device("cpu"))
    config = dataclasses.replace(CONFIG, epochs=60, batch_size=32, lr=0.05)
    _, result = run(small(norm="batch"), data, config)
    assert result.epochs[-1].train_accuracy == 1.0


def test_on_epoch_is_called_once_per_epoch_and_can_be_a_list(digits: TrainingData) -> None:
    seen: list[EpochResult] = []
    result = train(build(small(), 0), digits, CONFIG, seen.append)
    assert tuple(seen) == result.epochs
    assert [epoch.epoch for epoch in seen] == [1, 2]
    assert result.outcome == "complete"
    assert all(0 <= epoch.val_accuracy <= 1 and epoch.val_loss > 0 for epoch in seen)


def test_on_epoch_stops_the_run_by_returning_true(digits: TrainingData) -> None:
    result = train(build(small(), 0), digits, dataclasses.replace(CONFIG, epochs=9), lambda e: e.epoch == 3)
    assert (result.outcome, len(result.epochs)) == ("stopped", 3)


def test_an_interrupt_is_heeded_within_a_batch(digits: TrainingData) -> None:
    asked = iter([False] * 20)
    result = train(build(small(), 0), digits, CONFIG, lambda _: None, lambda: next(asked, True))
    assert (result.outcome, len(result.epochs)) == ("interrupted", 1)


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"lr": 1e6, "warmup": 0.0}, "non-finite or far above the start"),
        ({"lr": 1e38, "warmup": 0.9}, "non-finite during warm-up"),
    ],
)
def test_a_run_that_diverges_is_stopped_at_once(
    digits: TrainingData, config: dict[str, float], value: str
) -> None:
    result = train(
        build(small(), 0), digits, dataclasses.replace(CONFIG, epochs=50, **config), lambda _: None
    )  # type: ignore[arg-type]
    assert result.outcome == "diverged", value
    assert len(result.epochs) < 50


def test_a_last_step_that_ruins_the_weights_is_a_divergence(digits: TrainingData) -> None:
    """Its loss was taken before it: only validation shows it."""
    config = dataclasses.replace(CONFIG, epochs=1, batch_size=4000, lr=1e38, warmup=0.0)
    _, result = run(small(), digits, config)
    assert (result.outcome, result.epochs) == ("diverged", ())


def test_activations_that_overflow_diverge_and_raise_nothing(digits: TrainingData) -> None:
    architecture = small("preact", stages=(Stage(width=4, blocks=150),), init="he")
    _, result = run(architecture, digits, dataclasses.replace(CONFIG, epochs=1))
    assert result.outcome in ("diverged", "complete")
    assert result.loss_at_start > 1e6 or not math.isfinite(result.loss_at_start)


def test_a_loss_that_is_high_from_the_start_is_no_divergence(digits: TrainingData) -> None:
    """Residual + He without normalization starts with a loss far above ln 10: that is a start, not an end."""
    stages = (Stage(width=16, blocks=5), Stage(width=16, blocks=4))
    config = dataclasses.replace(CONFIG, lr=1e-6, epochs=1)
    _, result = run(small(stages=stages, init="he"), digits, config)
    assert result.loss_at_start > 10
    assert result.outcome == "complete"


def test_learning_rate_warms_up_linearly_and_anneals_to_zero() -> None:
    config = dataclasses.replace(CONFIG, lr=0.8, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.08 * (i + 1) for i in range(10)])
    assert max(rates) == rates[10] == 0.8
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(100, 100, config) == pytest.approx(0, abs=1e-12)
    assert learning_rate(0, 100, dataclasses.replace(config, warmup=0.0)) == 0.8


def test_learning_rate_falls_in_steps() -> None:
    config = dataclasses.replace(CONFIG, lr=0.1, warmup=0.02, schedule="step")
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:2] == [0.05, 0.1]
    assert rates[2:50] == [0.1] * 48
    assert rates[50:75] == pytest.approx([0.01] * 25)
    assert rates[75:] == pytest.approx([0.001] * 25)


def test_norms_biases_and_scalars_do_not_decay() -> None:
    network = build(small(norm="batch", zero_branch=True), 0)
    for optimizer in ("sgd", "adamw"):
        decayed, spared = Optimizer(network, dataclasses.replace(CONFIG, optimizer=optimizer)).groups
        assert decayed.decay == 1e-4
        assert spared.decay == 0
        assert all(p.ndim > 1 for p in decayed.parameters)
        assert len(decayed.parameters) + len(spared.parameters) == len(list(network.parameters()))


class Recorder(nn.Module):
    """A linear model that keeps the norms of the gradients it was stepped with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        with torch.no_grad():
            self.linear.weight.mul_(100)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))  # type: ignore[no-any-return]


def test_clipping_bounds_the_step(digits: TrainingData) -> None:
    moved = {}
    for clip in (None, 0.1):
        torch.manual_seed(0)
        network = Recorder()
        before = network.linear.weight.detach().clone()
        config = dataclasses.replace(
            CONFIG, epochs=1, clip=clip, momentum=0.0, weight_decay=0.0, warmup=0.0, batch_size=1024
        )
        train(network, digits, config, lambda _: None)
        moved[clip] = (network.linear.weight - before).norm().item()
    assert moved[0.1] == pytest.approx(0.1 * CONFIG.lr, rel=0.02)
    assert moved[None] > 10 * moved[0.1]


def test_label_smoothing_keeps_the_loss_up(digits: TrainingData) -> None:
    losses = {}
    for smoothing in (0.0, 0.5):
        config = dataclasses.replace(CONFIG, epochs=6, label_smoothing=smoothing)
        losses[smoothing] = run(small(norm="batch"), digits, config)[1].epochs[-1].train_loss
    entropy = -(0.55 * math.log(0.55) + 9 * 0.05 * math.log(0.05))
    assert losses[0.0] < entropy < losses[0.5]


def test_training_needs_neither_optuna_nor_a_study() -> None:
    code = "import sys, search.train, search.data; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_in_bfloat16() -> None:
    parts = load(DataConfig(name="digits", val_fraction=0.25))
    data = to_device(parts.train, parts.val, parts.classes, torch.device("cuda"))
    _, result = run(small(norm="batch"), data, dataclasses.replace(CONFIG, epochs=10))
    assert result.epochs[-1].val_accuracy > 0.8
