"""Networks whose disease is known, and measures whose value is known."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics

import pytest
import torch
import torch.nn.functional as F

import search.training.run
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
    watching,
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
@pytest.mark.parametrize("block", ["residual", "preact"])
def test_branches_that_start_at_zero_are_measured_when_they_move(
    digits: TrainingData, block: str, norm: str
) -> None:
    """Their convs get no gradient at all at the first step, which is no vanishing."""
    network = build(stack(block, norm, "he", 3, zero_branch=True), seed=0)
    assert Probe(network).is_silent()
    result = train(network, digits, dataclasses.replace(CONFIG, lr=0.01), lambda _: None)
    assert result.start == result.epochs[0].measures
    assert result.start is not None
    assert 0 < abs(result.start.grad_ratio) < 2


@pytest.mark.parametrize(
    ("block", "norm", "zero_branch"),
    [("plain", "batch", True), ("residual", "batch", False), ("preact", "none", False)],
)
def test_other_branches_are_measured_at_the_first_step(
    digits: TrainingData, block: str, norm: str, zero_branch: bool
) -> None:
    """They are measured before the network has learned: a plain stack has no branch that could start at
    zero."""
    network = build(stack(block, norm, "he", 1, zero_branch), seed=0)
    assert not Probe(network).is_silent()
    result = train(network, digits, dataclasses.replace(CONFIG, lr=0.01), lambda _: None)
    assert result.start is not None
    assert result.start != result.epochs[0].measures


def test_looking_changes_nothing(digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = stack("preact", "batch", "he", 1)
    config = dataclasses.replace(CONFIG, lr=0.05, epochs=2)
    networks = [build(architecture, seed=0) for _ in range(2)]
    train(networks[0], digits, config, lambda _: None)
    monkeypatch.setattr(search.training.run, "Network", type(None))
    blind = train(networks[1], digits, config, lambda _: None)
    assert blind.start is None
    for seen, unseen in zip(
        networks[0].state_dict().values(), networks[1].state_dict().values(), strict=True
    ):
        assert torch.equal(seen, unseen)


def test_what_is_watched_is_the_first_images_of_a_batch_and_no_hook_stays(digits: TrainingData) -> None:
    network = build(stack("plain", "none", "he", 1), seed=0)
    probe, images = Probe(network), torch.randn(70, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with watching(network, probe):
        network(images)
    assert torch.equal(probe.features, network.features(images)[:64].detach())
    assert len(probe.outputs) == len(network.blocks) == 3
    assert {tuple(output.shape[:2]) for output in probe.outputs} == {(64, 16)}
    kept = probe.features
    with pytest.raises(ValueError, match="here"), watching(network, probe):
        raise ValueError("here")
    network(images + 1)
    assert probe.features is kept


def watched(block: str = "residual") -> tuple[Probe, list[torch.Tensor]]:
    """A probe of a small network after a forward and a backward pass; and the network's block weights."""
    network = build(stack(block, "none", "he", 1), seed=0)
    probe, images = Probe(network), torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    probe.before_step()
    with watching(network, probe):
        F.cross_entropy(network(images), torch.arange(32) % 10).backward()
    return probe, [conv.weight for block in network.blocks for conv in block.convs]


def test_the_update_ratio_of_a_step_of_known_size() -> None:
    """A step of SGD at the rate 0.5 moves each conv by half its gradient. The median is over convs."""
    probe, weights = watched()
    ratios = []
    for weight in weights:
        assert weight.grad is not None
        gradient = weight.grad.double()
        ratios.append(float(0.5 * gradient.norm() / weight.detach().double().norm()))
        with torch.no_grad():
            weight -= 0.5 * weight.grad
    assert max(ratios) > 1.2 * min(ratios)
    assert probe.measure().update_ratio == pytest.approx(statistics.median(ratios), rel=1e-3)


def test_gradients_are_compared_from_the_first_block_to_the_last() -> None:
    probe, weights = watched()
    norms = [float(weight.grad.double().norm()) for weight in weights if weight.grad is not None]
    measures = probe.measure()
    assert measures.grad_ratio == pytest.approx(math.log10(norms[0] / norms[-1]), abs=1e-4)
    assert measures.conv_gradients == pytest.approx([math.log10(norm) for norm in norms], abs=1e-4)
    assert measures.grad_ratio * measures.grad_slope < 0, (
        "a ratio below 1 is a gradient that grows with the conv"
    )


def test_the_spread_of_outputs_is_the_last_blocks_and_grows_from_the_first() -> None:
    probe, _ = watched()
    ones = torch.tensor([1.0, -1.0]).repeat(32)[None, :, None, None]  # of mean 0 and standard deviation 1
    probe.outputs = [ones, 7 * ones, 3 * ones + 5]
    measures = probe.measure()
    assert measures.output_std == pytest.approx(3)
    assert measures.block_growth == pytest.approx(math.log10(3))


def test_an_epoch_is_measured_at_its_last_step(digits: TrainingData) -> None:
    network = build(stack("residual", "none", "he", 1), seed=0)
    convs = [conv for block in network.blocks for conv in block.convs]
    before: list[list[torch.Tensor]] = []

    def note() -> bool:
        """The run asks this before every step."""
        before.append([conv.weight.detach().double() for conv in convs])
        return False

    result = train(network, digits, dataclasses.replace(CONFIG, lr=0.05, warmup=0.5), lambda _: None, note)
    note()
    ratios = [float((b - a).norm() / a.norm()) for a, b in zip(*before[-2:], strict=True)]
    measures = result.epochs[0].measures
    assert measures is not None
    assert measures.update_ratio == pytest.approx(statistics.median(ratios), rel=1e-3)


def test_ratio_and_slope_of_a_known_decay() -> None:
    norms = [10.0 ** (i - 5) for i in range(6)]
    same = [(16, 16, 3, 3)] * 6
    assert grad_ratio(norms, same) == pytest.approx(-5)
    assert grad_slope(norms, same) == pytest.approx(1)
    two = [(16, 16, 3, 3)] * 3 + [(32, 32, 3, 3)] * 3
    shifted = [norm * (1 if i < 3 else 1000) for i, norm in enumerate(norms)]
    assert grad_slope(shifted, two) == pytest.approx(1), "the fan of another shape does not count"
    assert grad_slope([1.0], [(1,)]) == 0
    outer = [(32, 32, 3, 3), *same[:3], (32, 32, 3, 3)]
    assert grad_ratio(norms[:5], outer) == pytest.approx(-4), "of those furthest apart, not of the most"


def test_a_gradient_that_underflows_or_overflows_has_a_ratio() -> None:
    assert grad_ratio([0.0, 1.0], [(1,), (1,)]) == -30
    assert grad_ratio([float("inf"), 1.0], [(1,), (1,)]) == 30


def test_cosine_rank_and_dead_share_of_known_features() -> None:
    eye = torch.eye(4)
    assert feature_cosine(eye) == pytest.approx(0, abs=1e-6)
    assert feature_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert feature_cosine(1e-20 * torch.eye(3)) == pytest.approx(0, abs=1e-6), "a cosine has no scale"
    pair = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert feature_cosine(pair) == pytest.approx(0.5**0.5)
    assert stable_rank(eye) == pytest.approx(3, rel=1e-4)
    assert stable_rank(torch.tensor([[1.0, 1], [2, 2], [5, 5]])) == pytest.approx(1, rel=1e-4)
    assert stable_rank(torch.full((3, 3), float("nan"))) == 0
    alive = torch.zeros(2, 4, 3, 3)
    alive[0, 1, 0, 0] = 1
    assert dead_share([alive, alive + 1]) == pytest.approx(3 / 8)


@pytest.mark.parametrize("features", [torch.eye(64), torch.arange(320.0).view(64, 5) % 7])
def test_an_image_without_features_looks_like_any_other(features: torch.Tensor) -> None:
    """The more images are silent, the more alike they look, up to 1."""
    found, unit_NF = [], F.normalize(features.double(), dim=1)
    cosine_NN = unit_NF @ unit_NF.T
    for silent in range(len(features) + 1):
        some = features.clone()
        some[:silent] = 0
        cosine_NN[:silent], cosine_NN[:, :silent] = 1, 1
        found.append(feature_cosine(some))
        pairs = cosine_NN[~torch.eye(len(features), dtype=torch.bool)]
        assert found[-1] == pytest.approx(float(pairs.mean()))
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(found))
    assert found[-3:] == pytest.approx([found[-3], 1, 1])
    assert found[0] < 0.9 < found[-3] < 1


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_features_that_are_not_finite_look_alike(odd: float) -> None:
    features = torch.eye(4)
    features[0, 0] = odd
    assert feature_cosine(features) == 1
    assert stable_rank(features) == 0


HEALTHY = Measures(0.0, 0.0, 1e-3, 0.5, 5.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("outcome", "train_accuracy", "change", "word"),
    [
        ("complete", 0.99, {}, "fine"),
        ("complete", 0.99, {"grad_ratio": -9.0}, "fine"),
        ("pruned", 0.40, {}, "slow"),
        ("complete", 0.20, {"grad_ratio": -4.0}, "vanished"),
        ("complete", 0.20, {"grad_slope": 0.2}, "vanished"),
        ("complete", 0.20, {"grad_slope": 0.155}, "slow"),  # 20 convs are 19 steps: 2.945 decades
        ("complete", 0.20, {"grad_slope": 0.16}, "vanished"),  # 3.04 decades
        ("complete", 0.20, {"grad_ratio": 2.5}, "exploded"),
        ("complete", 0.20, {"grad_slope": -0.105}, "slow"),  # 1.995 decades
        ("complete", 0.20, {"grad_slope": -0.106}, "exploded"),  # 2.014 decades
        ("complete", 0.20, {"feature_cosine": 0.99}, "collapsed"),
        ("complete", 0.20, {"feature_cosine": 0.94}, "slow"),
        ("complete", 0.20, {"feature_cosine": 0.99, "grad_ratio": -4.0}, "vanished"),
        ("complete", 0.56, {"grad_ratio": -9.0}, "fine"),  # half of the way from 0.1 to 1 is 0.55
        ("complete", 0.54, {"grad_ratio": -9.0}, "vanished"),
        ("diverged", 0.99, {}, "diverged"),
    ],
)
def test_causes_by_their_thresholds(
    outcome: str, train_accuracy: float, change: dict[str, float], word: str
) -> None:
    start = dataclasses.replace(HEALTHY, **change)
    assert cause_of(outcome, train_accuracy, 0.1, start, 20) == word


def test_a_run_without_measures_is_slow() -> None:
    assert cause_of("complete", 0.2, 0.1, None, 20) == "slow"
    assert cause_of("complete", 0.9, 0.1, None, 20) == "fine"
