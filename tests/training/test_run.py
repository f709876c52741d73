from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import search.training.run
from models.architecture import Architecture, Stage
from models.network import build
from search.data.batches import TrainingData, batches, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.data.images import Images
from search.spec.train_config import TrainConfig
from search.training.optimizer import Optimizer
from search.training.results import EpochResult, State, TrainResult
from search.training.run import DIVERGED_LOSS, TrainingRun, train
from tests.support.training import CONFIG, Trained, assert_same, run, run_in_pieces, small

GOLDEN_START = 2.476370
GOLDEN_LOSSES = [2.076880, 1.494700]


class Linear(nn.Module):
    """A linear classifier. It keeps the images and the logits of every batch, and whether it trained."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.linear, self.dropout = nn.Linear(64, 10), nn.Dropout(dropout)
        self.seen: list[tuple[bool, Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(images.flatten(1)))
        self.seen.append((self.training, images.clone(), logits.detach()))
        return logits


@pytest.mark.slow
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


@pytest.fixture(
    scope="module",
    params=[(norm, kind) for norm in ("none", "batch") for kind in ("sgd", "adamw")],
    ids="-".join,
)
def whole(request: pytest.FixtureRequest, digits: TrainingData) -> tuple[Architecture, TrainConfig, Trained]:
    """A run that was never interrupted."""
    norm, kind = request.param
    config = dataclasses.replace(CONFIG, epochs=3, optimizer=kind, lr=0.01, crop=1, flip=True)
    architecture = small("preact", norm=norm, zero_branch=True)
    return architecture, config, run(architecture, digits, config)


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(0,), (1,), (16,), (17,), (31,), (32,), (40, 41, 47)])
def test_an_interrupted_run_ends_bit_for_bit_as_one_that_was_not(
    digits: TrainingData,
    tmp_path: Path,
    whole: tuple[Architecture, TrainConfig, Trained],
    stops: tuple[int, ...],
) -> None:
    """The run is stopped before these of 48 steps, at the ends of epochs and in their midst."""
    architecture, config, expected = whole
    assert_same(run_in_pieces(architecture, digits, config, stops, tmp_path), expected)


def test_an_interrupted_run_draws_the_random_numbers_that_it_would_have_drawn(digits: TrainingData) -> None:
    """A network may draw its own, as dropout does."""
    states: list[State] = []

    def trained(stop: int | None, resume: State | None = None) -> Linear:
        network = Linear(dropout=0.5)
        steps = iter(range(100))
        train(
            network, digits, CONFIG, lambda _: None, lambda: next(steps) == stop,
            lambda state, must: states.append(state()), resume,
        )  # fmt: skip
        return network

    whole = trained(None)
    trained(20)
    torch.manual_seed(99)
    assert torch.equal(trained(None, states[-1]).linear.weight, whole.linear.weight)


def test_same_seed_same_weights_bit_for_bit(digits: TrainingData) -> None:
    config = dataclasses.replace(CONFIG, crop=1, flip=True)
    first = run(small(norm="batch"), digits, config)
    assert_same(first, run(small(norm="batch"), digits, config))
    other, _ = run(small(norm="batch"), digits, dataclasses.replace(config, seed=1))
    assert not torch.equal(first[0].state_dict()["head.weight"], other.state_dict()["head.weight"])


def test_the_numerics_are_recorded(digits: TrainingData) -> None:
    """A changed number here is a changed science: say so in the changelog.

    The start is one forward pass, which rounding moves by 1e-7. Other kernels of convolution move the losses
    of 32 steps in float32 by 1.4e-3: a unit that is rounded to the other side of zero has another gradient.
    So the steps are taken in double precision. What then differs from CPU to CPU is the last bit of weights
    as float32 draws them, which moves the losses by 1e-4.
    """
    _, single = run(small(norm="batch"), digits)
    assert single.loss_at_start == pytest.approx(GOLDEN_START, rel=1e-5)
    network = build(small(norm="batch"), CONFIG.seed).double()
    data = dataclasses.replace(digits, mean_C=digits.mean_C.double(), std_C=digits.std_C.double())
    with in_double():
        double = train(network, data, CONFIG, lambda _: None)
    assert double.loss_at_start == pytest.approx(GOLDEN_START, rel=1e-5)
    assert [epoch.train_loss for epoch in double.epochs] == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


@contextmanager
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


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


def test_a_run_sees_the_batches_of_its_settings_and_validates_every_epoch(digits: TrainingData) -> None:
    config = dataclasses.replace(CONFIG, seed=3, batch_size=100, crop=2, flip=True)
    network = Linear()
    train(network, digits, config, lambda _: None)
    assert [trains for trains, _, _ in network.seen] == ([True] * 10 + [False] * 2) * 2
    for epoch in (1, 2):
        drawn = [images for images, _ in batches(digits, 100, 3, epoch, crop=2, flip=True)]
        seen = network.seen[12 * (epoch - 1) :][:10]
        assert all(torch.equal(a, b) for a, (_, b, _) in zip(drawn, seen, strict=True))


def test_an_epoch_tells_the_averages_over_its_steps_and_over_the_validation_part(
    digits: TrainingData,
) -> None:
    """They are computed by hand, for a network that stands still: no two of the four numbers are alike.
    Labels are smoothed in training alone."""
    config = dataclasses.replace(CONFIG, lr=0.0, batch_size=100, label_smoothing=0.3)
    network = Linear()
    result = train(network, digits, config, lambda _: None)
    for epoch in result.epochs:
        logits = torch.cat([logits for trains, _, logits in network.seen[12 * (epoch.epoch - 1) :][:10]])
        labels = torch.cat([labels for _, labels in batches(digits, 100, 0, epoch.epoch)])
        assert len(labels) == 1000
        assert epoch.train_accuracy == int((logits.argmax(1) == labels).sum()) / 1000
        smoothed = F.cross_entropy(logits.double(), labels, label_smoothing=0.3)
        assert epoch.train_loss == pytest.approx(float(smoothed), rel=1e-5)
        plain = F.cross_entropy(torch.cat([seen[2] for seen in network.seen[10:12]]), digits.val_labels_N)
        assert epoch.val_loss == pytest.approx(float(plain), rel=1e-5)
    assert len({*dataclasses.astuple(result.epochs[0])[1:5]}) == 4
    first = F.cross_entropy(network.seen[0][2], next(batches(digits, 100, 0, 1))[1], label_smoothing=0.3)
    assert result.loss_at_start == pytest.approx(float(first), rel=1e-5)


def test_every_step_has_its_rate_of_the_schedule(
    digits: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of all epochs count, those before an interruption in mid-epoch too."""
    rates: list[float] = []
    stock = Optimizer.step
    monkeypatch.setattr(Optimizer, "step", lambda self, lr: (rates.append(float(lr)), stock(self, lr))[1])
    config = dataclasses.replace(CONFIG, epochs=3, warmup=0.4)
    states: list[State] = []
    steps = iter(range(100))
    train(
        Linear(), digits, config, lambda _: None, lambda: next(steps) == 21,
        lambda state, must: states.append(state()),
    )  # fmt: skip
    assert len(rates) == 21
    train(Linear(), digits, config, lambda _: None, resume=states[-1])
    assert rates == [config.learning_rate(step, 48) for step in range(48)]


def test_the_state_is_offered_after_every_epoch_and_must_be_kept_when_the_run_is_interrupted(
    digits: TrainingData,
) -> None:
    def offered(stop: int, end: int = 9) -> list[tuple[int, int, bool]]:
        """Epochs and steps so far, and whether the state must be kept."""
        asked: list[tuple[int, int, bool]] = []

        def keep(state: Callable[[], State], must: bool) -> None:
            asked.append((len(state()["history"]), state()["step"], must))

        steps = iter(range(100))
        train(Linear(), digits, CONFIG, lambda e: e.epoch == end, lambda: next(steps) == stop, keep)
        return asked

    assert offered(stop=99) == [(1, 16, False), (2, 32, False)]
    assert offered(stop=20) == [(1, 16, False), (1, 20, True)]
    assert offered(stop=99, end=1) == [], "a run that was stopped does not go on"


def test_on_epoch_stops_the_run_by_returning_true(digits: TrainingData) -> None:
    result = train(build(small(), 0), digits, dataclasses.replace(CONFIG, epochs=9), lambda e: e.epoch == 3)
    assert (result.outcome, len(result.epochs)) == ("stopped", 3)


def test_an_interrupt_is_heeded_within_a_batch(digits: TrainingData) -> None:
    asked = iter([False] * 20)
    result = train(build(small(), 0), digits, CONFIG, lambda _: None, lambda: next(asked, True))
    assert (result.outcome, len(result.epochs)) == ("interrupted", 1)


def test_a_state_of_another_network_is_refused(digits: TrainingData) -> None:
    states: list[State] = []
    train(build(small(), 0), digits, CONFIG, lambda _: None, keep=lambda state, must: states.append(state()))
    with pytest.raises((RuntimeError, KeyError)):
        train(build(small(norm="batch"), 0), digits, CONFIG, lambda _: None, resume=states[0])


def test_seconds_and_images_before_an_interruption_count(
    digits: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [50.0]
    monkeypatch.setattr(search.training.run, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    states: list[State] = []

    def trained(stop: int, resume: State | None = None, batch_size: int = 64) -> TrainResult:
        """Every step takes two seconds."""
        config = dataclasses.replace(CONFIG, batch_size=batch_size)
        steps = iter(range(100))

        def interrupted() -> bool:
            now[0] += 2
            return next(steps) == stop

        return train(
            Linear(), digits, config, lambda _: None, interrupted,
            lambda state, must: states.append(state()), resume,
        )  # fmt: skip

    first = trained(stop=20)
    assert (first.seconds, first.images_per_second) == (42, 20 * 64 / 42)
    now[0] = 900.0
    whole = trained(stop=99, resume=states[-1])
    assert (whole.seconds, whole.images_per_second) == (66, 32 * 64 / 66)
    few = trained(stop=99, batch_size=4000)
    assert few.images_per_second == len(digits.train_NHWC) / 2, "one step an epoch, with all that there are"


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"lr": 1e6, "warmup": 0.0}, "non-finite or far above the start"),
        ({"lr": 1e38, "warmup": 0.9}, "non-finite during warm-up"),
    ],
)
def test_a_run_that_diverges_is_stopped_at_once(
    digits: TrainingData, changes: dict[str, Any], value: str
) -> None:
    config = dataclasses.replace(CONFIG, epochs=50, **changes)
    result = train(build(small(), 0), digits, config, lambda _: None)
    assert result.outcome == "diverged", value
    assert len(result.epochs) < 50


def test_a_loss_far_above_the_start_is_a_divergence_when_warm_up_is_over(digits: TrainingData) -> None:
    """The loss is looked at step by step on a CPU, and at the end of an epoch where to look would make a GPU
    wait."""
    run = TrainingRun(Linear(), digits, dataclasses.replace(CONFIG, warmup=0.25))  # 8 of 32 steps
    run.loss_at_start = 2.0
    high, inf, nan = 2 * DIVERGED_LOSS * 1.01, math.inf, math.nan
    run.step = 8
    assert not run.diverged([high]), "the eighth step is the last of warm-up"
    assert run.diverged([inf])
    assert run.diverged([nan])
    run.step = 9
    assert run.diverged([high])
    assert not run.diverged([2 * DIVERGED_LOSS])
    run.step = 16
    assert not run.diverged([high] * 8 + [2.0] * 8)
    assert run.diverged([2.0] * 8 + [high] + [2.0] * 7)
    run.losses_S.fill_(2.0)
    assert run.average() == "complete"
    run.losses_S[8] = high
    assert run.average() == "diverged"


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


def test_clipping_bounds_the_norm_of_the_whole_gradient(digits: TrainingData) -> None:
    """One step without momentum moves all weights together by the rate times that norm."""
    moved: dict[float | None, Tensor] = {}
    for clip in (None, 1e6, 0.1):
        network = Linear()
        before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
        config = dataclasses.replace(
            CONFIG, epochs=1, clip=clip, momentum=0.0, weight_decay=0.0, warmup=0.0, batch_size=1024
        )
        train(network, digits, config, lambda _: None)
        moved[clip] = nn.utils.parameters_to_vector(network.parameters()).detach() - before
    assert moved[0.1].norm().item() == pytest.approx(0.1 * CONFIG.lr, rel=1e-4)
    assert moved[None].norm() > 2 * moved[0.1].norm()
    assert torch.equal(moved[1e6], moved[None]), "a gradient below the bound stays as it is"


def test_label_smoothing_keeps_the_loss_up(digits: TrainingData) -> None:
    losses = {}
    for smoothing in (0.0, 0.5):
        config = dataclasses.replace(CONFIG, epochs=6, label_smoothing=smoothing)
        losses[smoothing] = run(small(norm="batch"), digits, config)[1].epochs[-1].train_loss
    entropy = -(0.55 * math.log(0.55) + 9 * 0.05 * math.log(0.05))
    assert losses[0.0] < entropy < losses[0.5]


def test_a_network_of_anybody_is_trained_without_measures(digits: TrainingData) -> None:
    result = train(Linear(), digits, CONFIG, lambda _: None)
    assert (result.start, [epoch.measures for epoch in result.epochs]) == (None, [None, None])


def test_maps_are_kept_in_the_precision_of_the_settings(digits: TrainingData) -> None:
    for precision, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        network = Linear()
        train(network, digits, dataclasses.replace(CONFIG, precision=precision), lambda _: None)
        assert {logits.dtype for _, _, logits in network.seen} == {dtype}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_in_bfloat16() -> None:
    parts = load(DataConfig(name="digits", val_fraction=0.25))
    data = to_device(parts.train, parts.val, parts.classes, torch.device("cuda"))
    _, result = run(small(norm="batch"), data, dataclasses.replace(CONFIG, epochs=10))
    assert result.epochs[-1].val_accuracy > 0.8
