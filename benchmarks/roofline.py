"""How near a training step comes to what this CPU can multiply, measured in the same run. One thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.table import Goal, Table, spread
from models.architecture import Architecture, Stage
from models.cost import measure_cost
from models.network import build

NETS = (
    (8, 9, 16, 64), (8, 21, 16, 64), (8, 21, 32, 64), (8, 45, 16, 64), (32, 21, 16, 128), (32, 21, 32, 64),
)  # fmt: skip
"""Side of the images, convs, width, batch."""
SHARE = 0.5
"""Of the matmul peak, that is the goal at 32x32 and batch 128."""


def measure(repeats: int = 7, nets: tuple[tuple[int, int, int, int], ...] = NETS) -> Table:
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    peak = 2 * 1024**3 / min(_times(lambda: a @ b, repeats))
    table = Table(
        "Training steps against the matmul peak",
        f"Residual nets with batch norm, channels_last, one thread; 3 multiply-adds of a step per forward "
        f"one. Best of {repeats} float32 matmuls of 1024x1024: {peak / 1e9:.0f} GFLOP/s. n = {repeats}, "
        "median, least and most.",
        ("images", "convs", "width", "batch", "ms a step", "GFLOP/s", "share of the peak"),
    )
    for side, convs, width, batch in nets:
        net = Architecture(
            image_shape=(3, side, side), classes=10, block="residual", norm="batch", init="he",
            stages=(Stage(width=width, blocks=(convs - 1) // 2),), head="average",
        )  # fmt: skip
        times = _times(_step(net, batch), repeats)
        flops = 6 * measure_cost(net).macs * batch / statistics.median(times)
        table.add(
            f"{side}x{side}", str(net.depth), str(width), str(batch), spread([1000 * t for t in times], 1),
            f"{flops / 1e9:.0f}", f"{100 * flops / peak:.0f} %",
        )  # fmt: skip
        if (side, batch) == (32, 128):
            share = f"{100 * SHARE:g} % of the matmul peak at 32x32, batch 128"
            table.goals.append(Goal(share, f"{100 * flops / peak:.0f} %", flops / peak >= SHARE))
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


def _times(act: Callable[[], object], repeats: int) -> list[float]:
    act()
    found = []
    for _ in range(repeats):
        before = time.perf_counter()
        act()
        found.append(time.perf_counter() - before)
    return found
