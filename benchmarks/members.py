"""Several seeds of one architecture as one network, against one after another."""

from __future__ import annotations

import statistics

import torch

from benchmarks.table import Goal, Table, spread
from models.architecture import Architecture, Stage
from search.data.batches import TrainingData, to_device
from search.data.datasets import load
from search.spec.train_config import TrainConfig
from search.spec.study_file import find_study, load_spec
from search.training.joint import gain

NETS = (
    # (side, convs, width, batch)
    (8, 9, 4, 64),
    (8, 9, 16, 64),
    (8, 21, 16, 64),
    (8, 45, 16, 64),
    (8, 21, 32, 64),
    (32, 19, 16, 128),
)


def measure(repeats: int = 3, nets: tuple[tuple[int, int, int, int], ...] = NETS) -> Table:
    torch.set_num_threads(1)
    table = Table(
        "Training runs as one network",
        "How many times as fast as one after another: residual nets with batch norm, one thread, steps in "
        f"turns as search.confirm measures them, n = {repeats}; median, least and most.",
        ("images", "convs", "width", "batch", "2 runs", "5 runs", "10 runs"),
    )
    parts = load(load_spec(find_study("digits")).data)
    digits = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
    best = 0.0
    for side, convs, width, batch in nets:
        net = Architecture(
            image_shape=(1, side, side), classes=10, block="residual", norm="batch", init="he",
            stages=(Stage(width=width, blocks=(convs - 1) // 2),), head="average",
        )  # fmt: skip
        config = TrainConfig(epochs=15, batch_size=batch, optimizer="sgd", lr=0.05, seed=0)
        data = digits if side == 8 else _enlarged(digits, side)
        gains = {m: [gain(net, config, data, m) for _ in range(repeats)] for m in (2, 5, 10)}
        best = max(best, *map(statistics.median, gains.values()))
        cells = [spread(found, 2, "x") for found in gains.values()]
        table.add(f"{side}x{side}", str(net.depth), str(width), str(batch), *cells)
    table.goals.append(Goal("several seeds as one network", f"up to {best:.1f}x", None))
    return table


def _enlarged(data: TrainingData, side: int) -> TrainingData:
    """Every pixel a square of them."""
    times = side // data.train_NHWC.shape[1]
    train, val = (
        images.repeat_interleave(times, 1).repeat_interleave(times, 2)
        for images in (data.train_NHWC, data.val_NHWC)
    )
    return TrainingData(
        train, data.train_labels_N, val, data.val_labels_N, data.mean_C, data.std_C, data.classes
    )
