"""Training images per second, before a network sees them: ours, and a DataLoader in the same process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.table import Goal, Table, ratios, spread
from search.data.batches import TrainingData, batches, to_device
from search.data.datasets import load
from search.data.images import Images
from search.spec.study_file import find_study, load_spec

BATCH = 128


class Augmented(Dataset[Any]):
    """One image at a time, cropped, mirrored and normalized by torchvision."""

    def __init__(self, data: TrainingData, crop: int) -> None:
        self.pixels_NHWC, self.labels_N = data.train_NHWC.numpy(), data.train_labels_N.tolist()
        side = data.train_NHWC.shape[1]
        self.transform = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.RandomCrop(side, padding=crop),
                transforms.RandomHorizontalFlip(),
                transforms.Normalize(data.mean_C / 255, data.std_C / 255),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.pixels_NHWC[index]), self.labels_N[index]


def measure(images: int = 5000, repeats: int = 5) -> Table:
    torch.set_num_threads(1)
    table = Table(
        "Loading: images per second, normalized, cropped at random and mirrored",
        f"One thread, batches of {BATCH}, epochs in turns, n = {repeats}; median, least and most. torch: "
        "DataLoader without worker processes, torchvision's transforms on single images.",
        ("images", "ours", "torch", "ours against torch"),
    )
    parts = load(load_spec(find_study("digits")).data)
    cpu = torch.device("cpu")
    found = []
    for name, data, crop in (
        ("digits, 8x8x1, crop 1", to_device(parts.train, parts.val, parts.classes, cpu), 1),
        (f"{images:,} random ones, 32x32x3, crop 4", _random(images), 4),
    ):
        usual = DataLoader(Augmented(data, crop), batch_size=BATCH, shuffle=True, drop_last=True)
        ours_speeds, usual_speeds = [], []
        for epoch in range(repeats + 1):
            ours_speed = _speed(batches(data, BATCH, 0, epoch, crop=crop, flip=True))
            usual_speed = _speed(usual)
            if epoch:  # the first warms up
                ours_speeds.append(ours_speed)
                usual_speeds.append(usual_speed)
        found.append(ratios(ours_speeds, usual_speeds))
        table.add(name, spread(ours_speeds, 0), spread(usual_speeds, 0), spread(found[-1], 1, "x"))
    table.goals.append(
        Goal("images per second against a DataLoader, 32x32x3", spread(found[-1], 1, "x"), None)
    )
    return table


def _speed(loader: Iterable[Any]) -> float:
    began, count = time.perf_counter(), 0
    for images, _ in loader:
        count += len(images)
    return count / (time.perf_counter() - began)


def _random(count: int) -> TrainingData:
    random = np.random.default_rng(0)

    def part(size: int) -> Images:
        return Images(
            random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, size)
        )

    return to_device(part(count), part(256), 10, torch.device("cpu"))
