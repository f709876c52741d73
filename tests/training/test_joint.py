"""Runs trained as one network, against the same runs trained alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.architecture import Architecture
from models.network import Network, build
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.spec.train_config import TrainConfig
from search.training.checkpoints import Checkpoints
from search.training.joint import gain, train_together
from search.training.results import EpochResult, TrainResult
from search.training.run import train
from tests.support.training import CONFIG, small

__all__ = ["digits"]  # a fixture
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def splits(digits: TrainingData) -> list[TrainingData]:
    """Each run has its own."""
    parts = [load(DataConfig(name="digits", val_fraction=0.25, seed=seed)) for seed in SEEDS]
    return [to_device(p.train, p.val, p.classes, torch.device("cpu")) for p in parts]


def configs(**changes: Any) -> list[TrainConfig]:
    return [dataclasses.replace(CONFIG, seed=seed, **changes) for seed in SEEDS]


def alone(
    architecture: Architecture, splits: list[TrainingData], settings: list[TrainConfig]
) -> tuple[list[Network], list[TrainResult]]:
    networks = [build(architecture, seed) for seed in SEEDS]
    runs = zip(networks, splits, settings, strict=True)
    return networks, [train(network, data, config, lambda _: None) for network, data, config in runs]


def together(
    architecture: Architecture, splits: list[TrainingData], settings: list[TrainConfig], **options: Any
) -> tuple[list[Network], list[TrainResult]]:
    networks = [build(architecture, seed) for seed in SEEDS]
    nobody: list[Callable[[object], None]] = [lambda _: None] * len(SEEDS)
    return networks, train_together(
        architecture, networks, splits, settings, **{"on_epoch": nobody, **options}
    )


@pytest.mark.parametrize(
    ("net", "train_as"),
    [
        ({"norm": "batch"}, {}),
        ({"norm": "none", "init": "he"}, {"optimizer": "adamw", "lr": 1e-3}),
        ({"norm": "batch", "block": "preact", "zero_branch": True}, {"crop": 1, "flip": True}),
        ({"norm": "none", "init": "he", "zero_branch": True}, {"clip": 0.5, "label_smoothing": 0.1}),
        ({"norm": "batch", "block": "plain", "transition": "stride", "head": "average"}, {"warmup": 0.5}),
    ],
    ids=str,
)
def test_each_run_ends_as_it_does_alone(
    splits: list[TrainingData], net: dict[str, Any], train_as: dict[str, Any]
) -> None:
    architecture, settings = small(**net), configs(**train_as)
    networks, expected = alone(architecture, splits, settings)
    members, results = together(architecture, splits, settings)
    for network, member, one, of_all in zip(networks, members, expected, results, strict=True):
        for weights, trained in zip(network.state_dict().values(), member.state_dict().values(), strict=True):
            torch.testing.assert_close(trained, weights, rtol=5e-2, atol=5e-3)
        assert of_all.outcome == one.outcome == "complete"
        assert of_all.loss_at_start == pytest.approx(one.loss_at_start, rel=1e-5)
        for ours, theirs in zip(of_all.epochs, one.epochs, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)
            assert ours.val_accuracy == pytest.approx(theirs.val_accuracy, abs=4 / 359)
            assert ours.measures is not None
            assert theirs.measures is not None
            assert ours.measures.grad_ratio == pytest.approx(theirs.measures.grad_ratio, abs=0.02)
            assert ours.measures.update_ratio == pytest.approx(theirs.measures.update_ratio, rel=0.02)
        assert (of_all.start is None) == (one.start is None)
        if of_all.start and one.start:
            assert of_all.start.grad_ratio == pytest.approx(one.start.grad_ratio, abs=0.01)
            assert of_all.start.feature_cosine == pytest.approx(one.start.feature_cosine, abs=1e-4)


@pytest.mark.parametrize("stop", [0, 1, 16, 21])
def test_interrupted_together_they_end_bit_for_bit_as_if_not(
    splits: list[TrainingData], tmp_path: Path, stop: int
) -> None:
    architecture, settings = small(norm="batch"), configs()
    expected, full = together(architecture, splits, settings)
    kept = [Checkpoints(tmp_path / str(seed), "here", {"seed": seed}, 0) for seed in SEEDS]
    steps = iter(range(stop + 1))
    _, results = together(
        architecture, splits, settings,
        interrupted=lambda: next(steps) == stop, keep=[checkpoints.keep for checkpoints in kept],
    )  # fmt: skip
    assert {result.outcome for result in results} == {"interrupted"}
    sizes = [path.stat().st_size for path in tmp_path.glob("*/*/*.pt")]
    one = sum(p.numel() * 4 for p in expected[0].parameters())
    assert max(sizes) < 2 * one + 60_000, "of each its own part, not the whole"
    states = [checkpoints.newest() for checkpoints in kept]
    networks, results = together(architecture, splits, settings, resume=states)
    for network, other in zip(networks, expected, strict=True):
        for value, wanted in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(value, wanted)
    assert [r.epochs for r in results] == [r.epochs for r in full]


def test_one_that_diverges_or_stops_leaves_the_others_alone(splits: list[TrainingData]) -> None:
    architecture, settings = small(norm="batch"), configs(epochs=3)
    _, expected = together(architecture, splits, settings)
    networks = [build(architecture, seed) for seed in SEEDS]
    with torch.no_grad():
        next(networks[0].parameters()).fill_(float("nan"))
    told: list[list[int]] = [[], [], []]

    def on_epoch(of: int) -> Callable[[EpochResult], bool]:
        def tell(result: EpochResult) -> bool:
            told[of].append(result.epoch)
            return of == 2 and result.epoch == 2

        return tell

    results = train_together(architecture, networks, splits, settings, [on_epoch(of) for of in range(3)])
    assert [result.outcome for result in results] == ["diverged", "complete", "stopped"]
    assert told == [[], [1, 2, 3], [1, 2]]
    assert results[1].epochs == expected[1].epochs
    assert results[2].epochs == expected[2].epochs[:2]
    assert sum(result.seconds for result in results) < 3 * results[1].seconds + 1e-6


def test_runs_out_of_step_are_refused(splits: list[TrainingData]) -> None:
    settings = configs()
    settings[1] = dataclasses.replace(settings[1], lr=0.1)
    with pytest.raises(AssertionError, match="as many steps, of one size and rate"):
        together(small(), splits, settings)


def test_the_gain_is_measured_and_changes_nothing(digits: TrainingData) -> None:
    before = torch.get_rng_state()
    assert 0.2 < gain(small(norm="batch"), CONFIG, digits, 3) < 20
    assert torch.equal(torch.get_rng_state(), before)


def test_two_that_diverge_in_one_epoch_are_not_believed(splits: list[TrainingData]) -> None:
    """Some kernels spread what is not finite from member to member: each is to show it alone."""
    architecture, settings = small(norm="batch"), configs()
    networks = [build(architecture, seed) for seed in SEEDS]
    with torch.no_grad():
        for network in networks[:2]:
            next(network.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match="several runs diverged in one epoch"):
        train_together(architecture, networks, splits, settings, [lambda _: None] * 3)


@pytest.mark.parametrize("block", ["residual", "preact"])
def test_nothing_infinite_is_left_of_one_that_diverged(splits: list[TrainingData], block: str) -> None:
    """Scalars of branches included, which have no dimension."""
    architecture = small(block=block, zero_branch=True, norm="none")
    networks = [build(architecture, seed) for seed in SEEDS]
    with torch.no_grad():
        for parameter in networks[0].parameters():
            parameter.fill_(float("nan"))
    assert any(not parameter.ndim for parameter in networks[0].parameters())
    results = train_together(architecture, networks, splits, configs(), [lambda _: None] * 3)
    assert [result.outcome for result in results] == ["diverged", "complete", "complete"]
    for network in networks:
        assert all(parameter.isfinite().all() for parameter in network.parameters())
