"""Compiled steps: when they pay, that they are the same steps, and what happens when they cannot be. On a CPU
with torch's backends that make no kernels; with kernels where there is a GPU."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from tape import Tape
from torch import nn

import search.compilation
import search.train
from models.architecture import Architecture, Stage
from models.network import build
from search.compilation import compiled, images_like, is_wanted, worth_compiling
from search.data import Feed, TrainingData, to_device
from search.datasets import DataConfig, load
from search.errors import tell_once
from search.graph import WARM_UP
from search.optimization import TrainConfig, autocast_of
from search.train import TrainResult, train

CPU = torch.device("cpu")
CONFIG = TrainConfig(epochs=4, batch_size=64, optimizer="sgd", lr=0.02, seed=0, crop=1, flip=True)
STEPS = 16
"""In an epoch."""


def small(blocks: int = 1, **changes: str) -> Architecture:
    stages = (Stage(width=4, blocks=blocks), Stage(width=6, blocks=1))
    values = {"image_shape": (1, 8, 8), "classes": 10, "block": "residual", "stages": stages, "norm": "batch"}
    return Architecture(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    torch.set_num_threads(1)
    parts = load(DataConfig(name="digits", val_fraction=0.25))
    return to_device(parts.train, parts.val, parts.classes, CPU)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tell_once.cache_clear()
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def graphs() -> int:
    """Compiled since the last reset of the counters."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """As on a GPU where it pays. What the runs that follow compiled."""
    made: list[object] = []

    def compile_here(*words: object) -> object:
        made.append(compiled(*words, backend="aot_eager"))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(search.compilation, "is_wanted", lambda _: True)
    monkeypatch.setattr(search.compilation, "worth_compiling", lambda *_: True)
    monkeypatch.setattr(search.compilation, "compiled", compile_here)
    return made


def run(
    data: TrainingData, config: TrainConfig, network: nn.Module | None = None
) -> tuple[nn.Module, TrainResult]:
    network = network or build(small(), config.seed)
    return network, train(network, data, config, lambda _: None)


def test_it_pays_where_it_was_measured_to() -> None:
    """A ResNet-20 at batch 128 on one core, half a second a step: from about 450 steps on."""
    assert not worth_compiling(400, 0.5, 20)
    assert worth_compiling(550, 0.5, 20)
    assert not worth_compiling(240, 0.007, 9), "all of a trial on digits"
    assert not worth_compiling(30 * 351, 0.0003, 19), "CIFAR-10 on an H100, width 16"
    assert worth_compiling(30 * 88, 0.12, 19), "width 256 at batch 512"


def test_no_cpu_compiles_and_no_gpu_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_COMPILE", "1")
    assert is_wanted(torch.device("cuda"))
    assert not is_wanted(CPU)
    for value in ("0", ""):
        monkeypatch.setenv("ARCHSEARCH_COMPILE", value)
        assert not is_wanted(torch.device("cuda"))
    monkeypatch.delenv("ARCHSEARCH_COMPILE")
    assert not is_wanted(torch.device("cuda"))


def test_training_does_not_load_the_compiler() -> None:
    """It takes two seconds of every process."""
    code = """
import sys
sys.path.insert(0, "tests")
import test_compilation as t
parts = t.load(t.DataConfig(name="digits", val_fraction=0.25, limit=200))
t.run(t.to_device(parts.train, parts.val, parts.classes, t.CPU), t.CONFIG)
print("torch._dynamo" in sys.modules)
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_compiled_run_is_the_run(digits: TrainingData, pays: list[object]) -> None:
    config = dataclasses.replace(CONFIG, clip=0.5)
    made = run(digits, config)
    assert len(pays) == 1
    assert pays[0] is not None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search.compilation, "is_wanted", lambda _: False)
        plain = run(digits, config)
    for x, y in zip(made[0].state_dict().values(), plain[0].state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
    assert made[1].outcome == plain[1].outcome == "complete"
    assert made[1].epochs[:2] == plain[1].epochs[:2], "it begins after the second epoch"
    assert made[1].start == plain[1].start


def test_steps_are_warmed_up_and_captured_anew(
    digits: TrainingData, monkeypatch: pytest.MonkeyPatch, pays: list[object]
) -> None:
    tapes: list[Tape] = []
    for module in (search.train, search.compilation):
        monkeypatch.setattr(module, "recorder_for", lambda _: tapes.append(Tape()) or tapes[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(search.compilation, "compiled", lambda network, *_: network.forward)
    run(digits, CONFIG)
    warm = ["warm_up"] * WARM_UP + ["record"]
    assert [tape.calls for tape in tapes] == [warm + ["replay"] * (2 * STEPS - WARM_UP) + ["free"]] * 2


def test_one_graph_serves_all_steps(digits: TrainingData, pays: list[object]) -> None:
    torch._dynamo.utils.counters.clear()
    run(digits, CONFIG)
    assert graphs() <= 2, "aot_eager counts forward and backward"
    assert not torch._dynamo.utils.counters["graph_break"]


def test_ten_architectures_are_compiled(digits: TrainingData, pays: list[object]) -> None:
    """Eight is what torch compiles of one function before it gives up."""
    config = dataclasses.replace(CONFIG, epochs=3, batch_size=512)
    for blocks in range(1, 11):
        torch._dynamo.utils.counters.clear()
        run(digits, config, build(small(blocks), 0))
        assert graphs() >= 1, f"the {blocks}. is not compiled"
    assert len(pays) == 10


def fails(*_: object) -> None:
    raise RuntimeError("no kernel for it\nand more")


def test_what_cannot_be_compiled_trains_as_it_is_and_says_so_once(
    digits: TrainingData,
    pays: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(search.compilation, "compiled", partial(compiled, backend=fails))  # type: ignore[arg-type]
    one, _ = run(digits, CONFIG)
    run(digits, CONFIG)
    told = capsys.readouterr().err
    assert told.startswith("steps are not compiled, training goes on without: ")
    assert "no kernel for it" in told
    assert told.count("\n") == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search.compilation, "is_wanted", lambda _: False)
        other, _ = run(digits, CONFIG)
    for x, y in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(x, y), "the attempt leaves no trace"


def test_trying_out_changes_nothing_of_the_network(digits: TrainingData) -> None:
    network = build(small(), 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = images_like(Feed(digits, 64, 0))
    assert compiled(network, images, autocast_of(CONFIG, CPU), backend="aot_eager") is not None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_tried_out_on_images_laid_out_as_the_steps(digits: TrainingData) -> None:
    colours = digits.train_NHWC.repeat(1, 1, 1, 3)  # with one channel every layout is the same
    feed = Feed(dataclasses.replace(digits, train_NHWC=colours), 64, 0, crop=1, flip=True)
    feed.draw(1)
    images, like = feed.batch()[0], images_like(feed)
    assert (like.shape, like.stride(), like.dtype) == (images.shape, images.stride(), images.dtype)


def test_an_ill_gpu_is_no_failure_to_compile(digits: TrainingData) -> None:
    def ill(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    class Ill(nn.Module):
        forward = ill

    with pytest.raises(torch.AcceleratorError):
        compiled(Ill(), images_like(Feed(digits, 64, 0)), autocast_of(CONFIG, CPU), backend="eager")


on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


class TestOnAGpu:
    pytestmark = on_a_gpu

    def test_compiled_and_captured_training_is_training(
        self, digits: TrainingData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        parts = load(DataConfig(name="digits", val_fraction=0.25))
        data = to_device(parts.train, parts.val, parts.classes, torch.device("cuda"))
        config = dataclasses.replace(CONFIG, precision="float32", lr=0.005)
        monkeypatch.setenv("ARCHSEARCH_COMPILE", "1")
        monkeypatch.setattr(search.compilation, "worth_compiling", lambda *_: True)
        _, fast = run(data, config)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
        assert capsys.readouterr().err == "", "neither compiling nor capturing failed"
        monkeypatch.delenv("ARCHSEARCH_COMPILE")
        _, slow = run(data, config)
        losses = [epoch.train_loss for epoch in slow.epochs]
        assert [epoch.train_loss for epoch in fast.epochs] == pytest.approx(losses, rel=0.02)
