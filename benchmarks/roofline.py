"""How near a training step comes to what this CPU can multiply and move, measured in one run. One thread."""

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
from search.devices.memory import least_bytes

NETS = (
    (8, 9, 16, 64), (8, 21, 16, 64), (8, 21, 32, 64), (8, 45, 16, 64), (32, 21, 16, 128), (32, 21, 32, 64),
)  # fmt: skip
"""Side of the images, convs, width, batch."""
SHARE = 0.5
"""Goal at 32x32 and batch 128: this share of the matmul peak."""


def measure(repeats: int = 7, nets: tuple[tuple[int, int, int, int], ...] = NETS) -> Table:
    torch.set_num_threads(1)
    peak = max(_matmul(size, repeats) for size in (512, 1024, 2048))
    convolved = _conv(repeats)
    large, other = torch.randn(64 << 20), torch.randn(64 << 20)
    copied = 2 * large.nbytes / min(_times(lambda: other.copy_(large), repeats))
    table = Table(
        "Training steps against the matmul peak",
        f"Residual nets with batch norm, channels_last, one thread; 3 multiply-adds of a step per forward "
        f"one. Peak: {peak / 1e9:.0f} GFLOP/s, the best of {repeats} float32 matmuls each of 512, 1,024 and "
        f"2,048 squared. A 3x3 conv of 256 channels, oneDNN's at its best: {convolved / 1e9:.0f} GFLOP/s. "
        f"Memory: {copied / 1e9:.0f} GB/s read and written by a copy of 256 MiB; of a step, what "
        f"autograd keeps at least, written once and read once. n = {repeats}, median, least and most.",
        (
            "images", "convs", "width", "batch", "ms a step", "GFLOP/s", "share of the peak",
            "of the wide conv's", "maps, GB/s", "share of memory's",
        ),
    )  # fmt: skip
    for side, convs, width, batch in nets:
        net = Architecture(
            image_shape=(3, side, side), classes=10, block="residual", norm="batch", init="he",
            stages=(Stage(width=width, blocks=(convs - 1) // 2),), head="average",
        )  # fmt: skip
        times = _times(_step(net, batch), repeats)
        seconds = statistics.median(times)
        flops = 6 * measure_cost(net).macs * batch / seconds
        moved = 2 * _kept(net, batch) / seconds
        table.add(
            f"{side}x{side}", str(net.depth), str(width), str(batch), spread([1000 * t for t in times], 1),
            f"{flops / 1e9:.0f}", f"{100 * flops / peak:.0f} %",
            f"{100 * flops / convolved:.0f} %", f"{moved / 1e9:.1f}", f"{100 * moved / copied:.0f} %",
        )  # fmt: skip
        if (side, batch) == (32, 128):
            share = f"{100 * SHARE:g} % of the matmul peak at 32x32, batch 128"
            told = f"{100 * flops / peak:.0f} %; {100 * flops / convolved:.0f} % of a wide conv's"
            table.goals.append(Goal(share, told, flops / peak >= SHARE))
    return table


def _kept(net: Architecture, batch: int) -> int:
    """Bytes of maps that autograd keeps at least, from the forward pass to the backward pass."""
    return least_bytes(net, batch, "sgd", bfloat16=False) - least_bytes(net, 0, "sgd", bfloat16=False)


def _matmul(size: int, repeats: int) -> float:
    """Operations per second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(_times(lambda: a @ b, repeats))


def _conv(repeats: int) -> float:
    """Operations per second, forward."""
    images = torch.randn(16, 256, 16, 16).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    seconds = min(_times(lambda: F.conv2d(images, weight, padding=1), repeats))
    return 2 * images.numel() * weight[0].numel() / seconds


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
