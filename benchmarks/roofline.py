"""How near a training step comes to what this CPU can multiply, measured in the same run. One thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.table import Table
from models.architecture import Architecture, Stage
from models.cost import measure_cost
from models.network import build
from search.data import TrainingData, batches, to_device
from search.datasets import load
from search.studyfile import find_study, load_spec

REPEATS = 7


def measure() -> Table:
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    peak = 2 * 1024**3 / min(_times(lambda: a @ b))
    table = Table(
        "Training steps against the matmul peak",
        f"Residual nets with batch norm, channels_last, one thread; 3 multiply-adds of a step per forward "
        f"one. Best of {REPEATS} float32 matmuls of 1024x1024: {peak / 1e9:.0f} GFLOP/s. Loader: digits, "
        f"{_loader():,.0f} images/s with crop and flip.",
        ("images", "convs", "width", "batch", "ms a step, median", "GFLOP/s", "share of the peak"),
    )
    for side, convs, width, batch in (
        (8, 9, 16, 64), (8, 21, 16, 64), (8, 21, 32, 64), (8, 45, 16, 64),
        (32, 21, 16, 128), (32, 21, 32, 64),
    ):  # fmt: skip
        net = Architecture(
            image_shape=(3, side, side), classes=10, block="residual", norm="batch", init="he",
            stages=(Stage(width=width, blocks=(convs - 1) // 2),), head="average",
        )  # fmt: skip
        seconds = statistics.median(_times(_step(net, batch)))
        flops = 6 * measure_cost(net).macs * batch / seconds
        table.add(
            f"{side}x{side}", str(net.depth), str(width), str(batch), f"{1000 * seconds:.1f}",
            f"{flops / 1e9:.0f}", f"{100 * flops / peak:.0f} %",
        )  # fmt: skip
    return table


def _step(net: Architecture, batch: int) -> Callable[[], None]:
    network = build(net, 0).to(memory_format=torch.channels_last)
    images = torch.randn(batch, *net.image_shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _loader() -> float:
    parts = load(load_spec(find_study("digits")).data)
    data: TrainingData = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))

    def epoch() -> None:
        for _ in batches(data, 64, 0, 1, crop=1, flip=True):
            pass

    return len(data.train_NHWC) / statistics.median(_times(epoch))


def _times(act: Callable[[], object]) -> list[float]:
    act()
    found = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        act()
        found.append(time.perf_counter() - before)
    return found
