"""A whole training run of ours against the shortest correct loop of PyTorch: same network, images, steps."""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.table import Goal, Table, ratios, spread
from models.architecture import Architecture, Stage
from models.network import build
from models.presets import preset
from search.data.batches import TrainingData, to_device
from search.data.datasets import load
from search.spec.study_file import find_study, load_spec
from search.spec.train_config import TrainConfig
from search.training.run import train

MOST = 1.02
"""Goal: at most this ratio of our CPU time to the bare loop's."""


def measure(pairs: int = 9, epochs: int = 15, images: int = 25 * 128) -> Table:
    """`epochs` of digits, and one epoch of random 32x32 images."""
    torch.set_num_threads(1)
    table = Table(
        "A training run against the bare loop, CPU time",
        f"One thread, channels_last, SGD; both validate once per epoch. Ratio of each of {pairs} interleaved "
        "pairs: median, least and most. Ours adds diagnostics and the check for divergence.",
        ("what", "steps", "bare, s", "ours, s", "ratio", "spread"),
    )
    digits = load(load_spec(find_study("digits")).data)
    small = to_device(digits.train, digits.val, digits.classes, torch.device("cpu"))
    net = Architecture(
        image_shape=digits.image_shape, classes=10, block="residual",
        stages=(Stage(width=16, blocks=3), Stage(width=32, blocks=3), Stage(width=32, blocks=3)),
        norm="batch", init="he", transition="pool", head="flatten",
    )  # fmt: skip
    config = TrainConfig(epochs=epochs, batch_size=64, optimizer="sgd", lr=0.05, seed=0, weight_decay=1e-4)
    _compare(table, f"digits, {net.depth} convs, batch 64", net, small, config, pairs)
    large = _images(images, 32)
    config = TrainConfig(epochs=1, batch_size=128, optimizer="sgd", lr=0.05, seed=0, weight_decay=1e-4)
    _compare(
        table,
        "32x32 (random images), 19 convs, width 16-64, batch 128",
        preset("resnet20"),
        large,
        config,
        pairs,
    )
    table.notes.append(
        "An epoch of CIFAR-10 has 390 steps: what comes once per epoch weighs 16 times less there."
    )
    return table


def _compare(
    table: Table, name: str, net: Architecture, data: TrainingData, config: TrainConfig, pairs: int
) -> None:
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(pairs):
        for run, times in ((_bare, bare), (_ours, ours)):
            network, before = build(net, 0), time.process_time()
            run(network, data, config)
            times.append(time.process_time() - before)
    found = ratios(ours, bare)
    middle = statistics.median(found)
    steps = config.epochs * (len(data.train_NHWC) // config.batch_size)
    table.add(
        name, str(steps), f"{statistics.median(bare):.2f}", f"{statistics.median(ours):.2f}",
        f"{middle:.3f}", f"{min(found):.3f} to {max(found):.3f}",
    )  # fmt: skip
    table.goals.append(
        Goal(
            f"a training run against the bare loop at most {MOST:g}x CPU: {name}",
            spread(found, 3, "x"),
            middle <= MOST,
        )
    )


def _ours(network: nn.Module, data: TrainingData, config: TrainConfig) -> None:
    train(network, data, config, lambda result: None)


def _bare(network: nn.Module, data: TrainingData, config: TrainConfig) -> None:
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay, fused=True
    )
    size, count = config.batch_size, len(data.train_NHWC)
    steps = config.epochs * (count // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(config.epochs):
        network.train()
        order = torch.randperm(count)
        for start in range(0, count // size * size, size):
            index = order[start : start + size]
            loss = F.cross_entropy(network(_nchw(data, data.train_NHWC[index])), data.train_labels_N[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            logits = network(_nchw(data, data.val_NHWC))
            (logits.argmax(1) == data.val_labels_N).float().mean().item()


def _nchw(data: TrainingData, pixels: Tensor) -> Tensor:
    return data.normalize(pixels).permute(0, 3, 1, 2)


def _images(count: int, side: int) -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count + 256, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count + 256,), generator=generator)
    scale = torch.full((3,), 127.5)
    return TrainingData(images[:count], labels[:count], images[count:], labels[count:], scale, scale, 10)
