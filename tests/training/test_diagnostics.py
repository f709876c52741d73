"""Networks whose disease is known, and measures whose value is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from models.architecture import Architecture, Stage
from models.network import build
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.spec.train_config import TrainConfig
from search.training.diagnostics import (
    Measures,
    Probe,
    cause_of,
    dead_share,
    feature_cosine,
    grad_ratio,
    grad_slope,
    stable_rank,
)
from search.training.results import TrainResult
from search.training.run import train

CONFIG = TrainConfig(epochs=1, batch_size=64, optimizer="sgd", lr=1e-6, seed=0)


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    torch.set_num_threads(1)
    parts = load(DataConfig(name="digits", limit=400, val_fraction=0.5))
    return to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))


def stack(block: str, norm: str, init: str, blocks: int, zero_branch: bool = False) -> Architecture:
    """A classifier behind 6 * blocks + 3 convs of width 16, so about as many layers as in the literature."""
    stages = (Stage(width=16, blocks=blocks),) * 3
    return Architecture(
        image_shape=(1, 8, 8),
        classes=10,
        block=block,
        stages=stages,
        norm=norm,
        init=init,
        zero_branch=zero_branch,
        transition="pool",
        head="flatten",
    )


def started(digits: TrainingData, architecture: Architecture) -> TrainResult:
    return train(build(architecture, seed=0), digits, CONFIG, lambda _: None)


def measured(digits: TrainingData, architecture: Architecture) -> Measures:
    start = started(digits, architecture).start
    assert start is not None
    return start


def test_plain_stacks_vanish_at_the_default_initialization(digits: TrainingData) -> None:
    """About a third per conv: 1e-7 or less over 20 layers, at any depth the same slope."""
    shallow, deep = (measured(digits, stack("plain", "none", "default", blocks)) for blocks in (3, 6))
    assert shallow.grad_ratio < -5
    assert 0.3 < shallow.grad_slope < 0.65
    assert deep.grad_slope == pytest.approx(shallow.grad_slope, rel=0.25)
    assert cause_of("complete", 0.1, 0.1, shallow, 18) == "vanished"


def test_plain_stacks_with_batch_norm_explode(digits: TrainingData) -> None:
    start = measured(digits, stack("plain", "batch", "default", 9))
    assert 1 < start.grad_ratio < 5
    assert cause_of("complete", 0.15, 0.1, start, 54) == "exploded"


def test_plain_stacks_collapse_at_he_initialization_with_healthy_gradients(digits: TrainingData) -> None:
    start = measured(digits, stack("plain", "none", "he", 9))
    assert abs(start.grad_ratio) < 2
    assert start.feature_cosine > 0.95
    assert cause_of("complete", 0.1, 0.1, start, 54) == "collapsed"


def test_residual_he_without_normalization_starts_with_a_loss_in_the_hundreds(digits: TrainingData) -> None:
    result = started(digits, stack("residual", "none", "he", 9))
    assert result.loss_at_start > 100
    assert result.start is not None
    assert result.start.block_growth > 1


@pytest.mark.parametrize("block", ["residual", "preact"])
@pytest.mark.parametrize("blocks", [3, 9])
def test_residual_gradients_are_healthy_at_any_depth(digits: TrainingData, block: str, blocks: int) -> None:
    start = measured(digits, stack(block, "none", "default", blocks))
    assert abs(start.grad_ratio) < 1
    assert abs(start.grad_slope) < 0.05


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_branches_that_start_at_zero_are_measured_when_they_move(digits: TrainingData, norm: str) -> None:
    """At the first step their convs get no gradient at all, which is no vanishing."""
    network = build(stack("residual", norm, "he", 3, zero_branch=True), seed=0)
    assert Probe(network).is_silent()
    config = dataclasses.replace(CONFIG, lr=0.01)
    start = train(network, digits, config, lambda _: None).start
    assert start is not None
    assert abs(start.grad_ratio) < 2


def test_looking_changes_nothing(digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    import search.train

    architecture = stack("preact", "batch", "he", 1)
    config = dataclasses.replace(CONFIG, lr=0.05, epochs=2)
    networks = [build(architecture, seed=0) for _ in range(2)]
    train(networks[0], digits, config, lambda _: None)
    monkeypatch.setattr(search.train, "Network", type(None))
    blind = train(networks[1], digits, config, lambda _: None)
    assert blind.start is None
    for seen, unseen in zip(
        networks[0].state_dict().values(), networks[1].state_dict().values(), strict=True
    ):
        assert torch.equal(seen, unseen)


def test_ratio_and_slope_of_a_known_decay() -> None:
    norms = [10.0 ** (i - 5) for i in range(6)]
    same = [(16, 16, 3, 3)] * 6
    assert grad_ratio(norms, same) == pytest.approx(-5)
    assert grad_slope(norms, same) == pytest.approx(1)
    two = [(16, 16, 3, 3)] * 3 + [(32, 32, 3, 3)] * 3
    shifted = [norm * (1 if i < 3 else 1000) for i, norm in enumerate(norms)]
    assert grad_slope(shifted, two) == pytest.approx(1), "the fan of another shape does not count"
    assert grad_slope([1.0], [(1,)]) == 0


def test_a_gradient_that_underflows_or_overflows_has_a_ratio() -> None:
    assert grad_ratio([0.0, 1.0], [(1,), (1,)]) == -30
    assert grad_ratio([float("inf"), 1.0], [(1,), (1,)]) == 30


def test_cosine_rank_and_dead_share_of_known_features() -> None:
    eye = torch.eye(4)
    assert feature_cosine(eye) == pytest.approx(0, abs=1e-6)
    assert feature_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert feature_cosine(torch.zeros(4, 3)) == 1
    pair = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert feature_cosine(pair) == pytest.approx(0.5**0.5)
    assert stable_rank(eye) == pytest.approx(3, rel=1e-4)
    assert stable_rank(torch.tensor([[1.0, 1], [2, 2], [5, 5]])) == pytest.approx(1, rel=1e-4)
    assert stable_rank(torch.full((3, 3), float("nan"))) == 0
    alive = torch.zeros(2, 4, 3, 3)
    alive[0, 1, 0, 0] = 1
    assert dead_share([alive, alive + 1]) == pytest.approx(3 / 8)


HEALTHY = Measures(0.0, 0.0, 1e-3, 0.5, 5.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("outcome", "train_accuracy", "change", "word"),
    [
        ("complete", 0.99, {}, "fine"),
        ("complete", 0.99, {"grad_ratio": -9.0}, "fine"),
        ("pruned", 0.40, {}, "slow"),
        ("complete", 0.20, {"grad_ratio": -4.0}, "vanished"),
        ("complete", 0.20, {"grad_slope": 0.2}, "vanished"),
        ("complete", 0.20, {"grad_ratio": 2.5}, "exploded"),
        ("complete", 0.20, {"feature_cosine": 0.99}, "collapsed"),
        ("diverged", 0.99, {}, "diverged"),
    ],
)
def test_causes_by_their_thresholds(
    outcome: str, train_accuracy: float, change: dict[str, float], word: str
) -> None:
    start = dataclasses.replace(HEALTHY, **change)
    assert cause_of(outcome, train_accuracy, 0.1, start, 20) == word
