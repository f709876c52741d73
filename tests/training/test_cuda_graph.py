"""Captured steps: on the CPU with a tape for a graph, and the graph itself where there is a GPU."""

from __future__ import annotations

import dataclasses
import gc
import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import search.errors
from models.architecture import Architecture, Stage
from models.network import build
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.spec.train_config import TrainConfig
from search.training import cuda_graph
from search.training import run as running
from search.training.checkpoints import Checkpoints
from search.training.cuda_graph import WARM_UP, CudaRecorder, Stepper, fixed_shapes, recorder_for
from search.training.run import TrainingRun, train
from tests.support.tape import Tape
from tests.support.training import Trained, assert_same, run, run_in_pieces
from tests.support.training import small as small_network

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    epochs=3,
    batch_size=64,
    optimizer="sgd",
    lr=0.02,
    seed=0,
    warmup=0.1,
    weight_decay=1e-3,
    crop=1,
    flip=True,
)
STEPS = 48
on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.errors, "_told", set())


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Tapes of the runs that follow."""
    made: list[Tape] = []

    def new(_: torch.device) -> Tape:
        made.append(Tape())
        return made[-1]

    monkeypatch.setattr(running, "recorder_for", new)
    return made


def small(block: str = "residual", **changes: Any) -> Architecture:
    stages = (Stage(width=4, blocks=1), Stage(width=6, blocks=1))
    return small_network(block, **({"stages": stages, "norm": "batch", "transition": "stride"} | changes))


def as_it_is(data: TrainingData, config: TrainConfig, architecture: Architecture) -> Trained:
    """The same run without a recorder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(running, "recorder_for", lambda _: None)
        return run(architecture, data, config)


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({}, small()),
        ({"optimizer": "adamw", "lr": 1e-3}, small("plain", norm="none", head="flatten")),
        ({"clip": 0.5, "label_smoothing": 0.1}, small("preact", zero_branch=True)),
        (
            {"momentum": 0.0, "crop": 0, "flip": False},
            small(transition="pool", norm="none", zero_branch=True),
        ),
        ({"precision": "bfloat16", "epochs": 1}, small()),
    ],
)
def test_replayed_steps_are_the_steps_bit_for_bit(
    digits: TrainingData, tapes: list[Tape], changes: dict[str, Any], architecture: Architecture
) -> None:
    """Nothing that changes from step to step is frozen in a captured one: batch, rate, statistics, norms."""
    config = dataclasses.replace(CONFIG, **changes)
    captured = run(architecture, digits, config)
    replays = 16 * config.epochs - WARM_UP
    assert tapes[0].calls == ["warm_up"] * WARM_UP + ["record"] + ["replay"] * replays + ["free"]
    assert_same(captured, as_it_is(digits, config, architecture))


def test_fewer_images_than_a_batch_are_captured_too(digits: TrainingData, tapes: list[Tape]) -> None:
    config = dataclasses.replace(CONFIG, batch_size=4000, epochs=6)
    captured = run(small(), digits, config)
    assert tapes[0].calls.count("replay") == 6 - WARM_UP
    assert_same(captured, as_it_is(digits, config, small()))


@pytest.mark.parametrize("stops", [(1,), (4, 5), (16,), (30, 31, 47)])
def test_a_run_that_was_interrupted_is_captured_anew(
    digits: TrainingData, tapes: list[Tape], tmp_path: Path, stops: tuple[int, ...]
) -> None:
    pieces = run_in_pieces(small(), digits, CONFIG, stops, tmp_path)
    assert len(tapes) == len(stops) + 1
    assert tapes[-1].calls.count("warm_up") == min(WARM_UP, STEPS - stops[-1])
    assert sum(tape.calls.count(call) for tape in tapes for call in ("warm_up", "replay")) == STEPS
    assert all(tape.calls[-1] == "free" for tape in tapes)
    assert_same(pieces, as_it_is(digits, CONFIG, small()))


class Breaks(Tape):
    """Fails at the end of the recording, as CUDA does."""

    def record(self, step: Callable[[], None]) -> None:
        super().record(step)
        try:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        except RuntimeError:
            raise RuntimeError("the capture failed")  # noqa: B904 - as graph() does


def test_a_run_whose_capture_fails_goes_on_without_and_says_so_once(
    digits: TrainingData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tapes: list[Tape] = []
    monkeypatch.setattr(running, "recorder_for", lambda _: tapes.append(Breaks()) or tapes[-1])  # type: ignore[func-returns-value]
    expected = as_it_is(digits, CONFIG, small())
    for _ in range(2):
        assert_same(run(small(), digits, CONFIG), expected)
        assert tapes[-1].calls == ["warm_up"] * WARM_UP + ["record", "free"]
    told = capsys.readouterr().err
    assert told == "steps are not captured, training goes on without: operation not permitted\n"


class Curious(nn.Module):
    """Looks at a value in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1)) * (1.0 if images.abs().max().item() > 0 else 0.5)  # type: ignore[no-any-return]


def test_a_step_that_reads_a_value_is_not_captured(
    digits: TrainingData, tapes: list[Tape], capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(Curious(), digits, CONFIG, lambda _: None)
    assert (result.outcome, len(result.epochs)) == ("complete", 3)
    assert tapes[0].calls == ["warm_up"] * WARM_UP + ["record", "free"]
    assert "a value is read" in capsys.readouterr().err


def test_replays_that_diverge_are_found_out(digits: TrainingData, tapes: list[Tape]) -> None:
    config = dataclasses.replace(CONFIG, lr=1e6, warmup=0.3, epochs=20)
    _, result = run(small(norm="none"), digits, config)
    assert (result.outcome, len(result.epochs)) == ("diverged", 0)
    assert math.isfinite(result.loss_at_start)


def test_memory_is_given_back_however_a_run_ends(digits: TrainingData, tapes: list[Tape]) -> None:
    """Nothing waits for the garbage collector: gradients lie in the graph's memory."""
    runs: list[weakref.ref[Any]] = []
    network = build(small(), 0)

    def fails(_: object) -> None:
        runs.append(weakref.ref(tapes[-1]))
        raise torch.OutOfMemoryError("here")

    gc.disable()
    try:
        with pytest.raises(torch.OutOfMemoryError):
            train(network, digits, CONFIG, fails)
        assert tapes[0].calls[-1] == "free"
        assert all(parameter.grad is None for parameter in network.parameters())
        tapes.clear()
        assert runs[0]() is None
    finally:
        gc.enable()


def test_steps_of_a_cpu_are_taken_as_they_are() -> None:
    assert recorder_for(CPU) is None
    calls: list[int] = []
    stepper = Stepper(None)
    for _ in range(9):
        stepper.take(lambda: calls.append(1))
    stepper.free()
    assert len(calls) == 9


def test_errors_of_a_step_are_not_taken_for_a_failed_capture() -> None:
    class Fails(Tape):
        def warm_up(self, step: Callable[[], None]) -> None:
            raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        Stepper(Fails()).take(lambda: None)


class Stream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a recorder asks of torch.cuda, in order."""
    log: list[str] = []

    class Graph:
        def replay(self) -> None:
            log.append("replay")

        def reset(self) -> None:
            log.append("reset")
            raise RuntimeError("reset of a failed capture")

    @contextmanager
    def stream(of: Stream) -> Iterator[None]:
        log.append(f"on {of.name}")
        try:
            yield
        finally:
            log.append(f"off {of.name}")

    @contextmanager
    def graph(_: Graph, pool: str, of: Stream, capture_error_mode: str) -> Iterator[None]:
        assert not gc.isenabled()
        log.append(f"capture on {of.name} into {pool}, {capture_error_mode}")
        yield
        log.append("captured")

    monkeypatch.setattr(cuda_graph, "_side_stream", lambda _: Stream("side", log))
    monkeypatch.setattr(cuda_graph, "_broken", [])
    for name, value in {
        "CUDAGraph": Graph,
        "stream": stream,
        "graph": graph,
        "graph_pool_handle": lambda: "pool",
        "current_stream": lambda _: Stream("current", log),
        "current_device": lambda: 0,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name in ("endAllocateToPool", "releasePool"):
        monkeypatch.setattr(
            torch._C, f"_cuda_{name}", lambda _, pool, name=name: log.append(f"{name} {pool}")
        )
    return log


def test_warm_up_capture_and_replay_are_in_order(cuda: list[str]) -> None:
    recorder = recorder_for(torch.device("cuda"))
    assert recorder
    recorder.warm_up(lambda: cuda.append("step"))
    assert cuda == ["side waits for current", "on side", "step", "off side", "current waits for side"]
    cuda.clear()
    recorder.record(lambda: cuda.append("step"))
    assert cuda == ["on side", "capture on side into pool, thread_local", "step", "captured", "off side"]
    assert gc.isenabled()
    cuda.clear()
    recorder.replay()
    recorder.free()
    assert cuda == ["replay", "reset"]


def test_a_broken_capture_is_left_behind(cuda: list[str]) -> None:
    def breaks() -> None:
        raise RuntimeError("here")

    recorder = CudaRecorder(torch.device("cuda"))
    with pytest.raises(RuntimeError, match="here"):
        recorder.record(breaks)
    assert cuda[-3:] == ["off side", "endAllocateToPool pool", "releasePool pool"]
    assert cuda_graph._broken == [recorder.graph]
    assert gc.isenabled()
    recorder.free()


def test_a_collector_that_is_off_stays_off(cuda: list[str]) -> None:
    gc.disable()
    try:
        CudaRecorder(torch.device("cuda")).record(lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("before", [False, True])
def test_kernels_are_tried_out_on_gpus_alone(
    device: str, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are also tried out where whoever runs it has said so; what was before is there again, also after
    an error."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with suppress(ValueError), fixed_shapes(torch.device(device)):
        assert torch.backends.cudnn.benchmark == (before or device == "cuda")
        raise ValueError
    assert torch.backends.cudnn.benchmark == before


class TestOnAGpu:
    pytestmark = on_a_gpu

    @pytest.fixture(scope="class")
    def data(self) -> TrainingData:
        parts = load(DataConfig(name="digits", val_fraction=0.25))
        return to_device(parts.train, parts.val, parts.classes, torch.device("cuda"))

    @pytest.fixture
    def replays(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        seen: list[int] = []
        original = CudaRecorder.replay
        monkeypatch.setattr(CudaRecorder, "replay", lambda self: (seen.append(1), original(self)))
        return seen

    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    @pytest.mark.parametrize("norm", ["none", "batch"])
    @pytest.mark.parametrize("clip", [None, 0.5])
    def test_captured_training_is_training(
        self, data: TrainingData, replays: list[int], optimizer: str, norm: str, clip: float | None
    ) -> None:
        config = dataclasses.replace(
            CONFIG,
            optimizer=optimizer,
            lr=0.01 if optimizer == "sgd" else 1e-3,
            clip=clip,
            precision="float32",
        )
        _, captured = run(small(norm=norm), data, config)
        assert len(replays) == STEPS - WARM_UP
        _, eager = as_it_is(data, config, small(norm=norm))
        assert len(replays) == STEPS - WARM_UP
        for one, other in zip(captured.epochs, eager.epochs, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, rel=0.02)
            assert one.train_accuracy == pytest.approx(other.train_accuracy, abs=0.02)
            assert one.measures is not None
            assert other.measures is not None
            assert one.measures.update_ratio == pytest.approx(other.measures.update_ratio, rel=0.2)
            assert one.measures.grad_ratio == pytest.approx(other.measures.grad_ratio, abs=0.2)

    def test_a_gpu_agrees_with_a_cpu(self, data: TrainingData, digits: TrainingData) -> None:
        config = dataclasses.replace(CONFIG, precision="float32", lr=0.005)
        _, here = run(small(), data, config)
        _, there = run(small(), digits, config)
        assert [e.train_loss for e in here.epochs] == pytest.approx(
            [e.train_loss for e in there.epochs], rel=0.02
        )

    def test_the_default_learns_in_replays(self, data: TrainingData, replays: list[int]) -> None:
        _, result = run(small(), data, dataclasses.replace(CONFIG, epochs=12, lr=0.05, crop=0, flip=False))
        assert len(replays) == 12 * 16 - WARM_UP
        assert result.epochs[-1].val_accuracy > 0.8

    def test_an_epoch_waits_for_the_gpu_once(
        self, data: TrainingData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[int] = []
        original = TrainingRun.train_epoch

        def counted(self: Any, interrupted: Callable[[], bool]) -> str:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                seen.clear()  # of a warning about the mode itself
                try:
                    return original(self, interrupted)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
                    waits.append(sum("synchroniz" in str(warning.message) for warning in seen))

        monkeypatch.setattr(TrainingRun, "train_epoch", counted)
        run(small(), data, CONFIG)
        assert waits[1:] == [1, 1], "the first epoch has the first step's measures and the capture"

    def test_a_failed_capture_costs_neither_the_run_nor_the_next(
        self, data: TrainingData, replays: list[int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = train(Curious().cuda(), data, CONFIG, lambda _: None)
        assert (result.outcome, len(result.epochs), len(replays)) == ("complete", 3, 0)
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        told = capsys.readouterr().err
        assert told.startswith("steps are not captured, training goes on without: ")
        _, result = run(small(), data, CONFIG)
        assert (result.outcome, len(replays)) == ("complete", STEPS - WARM_UP)
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("stop", [2, 20])
    def test_an_interrupted_run_goes_on(
        self, data: TrainingData, replays: list[int], tmp_path: Path, stop: int
    ) -> None:
        config = dataclasses.replace(CONFIG, precision="float32", lr=0.005)
        kept = Checkpoints(tmp_path, "me", {}, 0)
        steps = iter(range(10**6))
        first = train(
            build(small(), 0), data, config, lambda _: None, lambda: next(steps) == stop, keep=kept.keep
        )
        assert first.outcome == "interrupted"
        result = train(build(small(), 9), data, config, lambda _: None, resume=kept.newest())
        assert len(replays) == max(0, stop - WARM_UP) + STEPS - stop - WARM_UP
        _, whole = run(small(), data, config)
        losses = [epoch.train_loss for epoch in whole.epochs]
        assert [epoch.train_loss for epoch in result.epochs] == pytest.approx(losses, rel=0.02)

    def test_memory_does_not_grow_from_run_to_run(self, data: TrainingData) -> None:
        reserved = []
        for seed in range(6):
            architecture = small(stages=(Stage(width=8 + seed, blocks=2),))
            run(architecture, data, dataclasses.replace(CONFIG, seed=seed))
            gc.collect()
            torch.cuda.empty_cache()
            reserved.append(torch.cuda.memory_reserved())
        assert reserved[-1] <= reserved[1] + (4 << 20)
