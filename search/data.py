"""Images on the device: one tensor per part, batches and augmentation as tensor code. Never sees test data.

Suffixes: N images, B images of a batch, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search.datasets import Images

EVAL_BATCH = 256


@dataclass(frozen=True)
class TrainingData:
    """What a trial may see. Pixels keep their stored type (uint8 or float32) and are normalized by batch."""

    train_NHWC: Tensor
    train_labels_N: Tensor
    val_NHWC: Tensor
    val_labels_N: Tensor
    mean_C: Tensor
    """Of the training part alone."""
    std_C: Tensor
    classes: int

    @property
    def device(self) -> torch.device:
        return self.train_NHWC.device

    def normalize(self, pixels_BHWC: Tensor) -> Tensor:
        return (pixels_BHWC.float() - self.mean_C) / self.std_C


def to_device(train: Images, val: Images, classes: int, device: torch.device) -> TrainingData:
    pixels = train.pixels_NHWC
    mean = pixels.mean((0, 1, 2), dtype=np.float64)
    std = pixels.std((0, 1, 2), dtype=np.float64)
    std[std == 0] = 1.0  # a constant channel carries nothing; dividing by 0 would make it NaN
    return TrainingData(
        train_NHWC=torch.from_numpy(pixels).to(device),
        train_labels_N=torch.from_numpy(train.labels_N).to(device),
        val_NHWC=torch.from_numpy(val.pixels_NHWC).to(device),
        val_labels_N=torch.from_numpy(val.labels_N).to(device),
        mean_C=torch.tensor(mean, dtype=torch.float32, device=device),
        std_C=torch.tensor(std, dtype=torch.float32, device=device),
        classes=classes,
    )


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches; fewer images than one batch are one step."""
    return max(1, images // batch_size)


def batches(
    data: TrainingData,
    batch_size: int,
    seed: int,
    epoch: int,
    crop: int = 0,
    flip: bool = False,
    first: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images_BCHW in channels_last, labels_B), a function of seed and epoch alone; from batch
    `first` on."""
    device, count = data.device, len(data.train_NHWC)
    # drawn on the CPU: every device sees the same batches
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0]))
    order_N = torch.randperm(count, generator=generator).to(device)
    shift_N2 = torch.randint(0, 2 * crop + 1, (count, 2), generator=generator).to(device)
    flip_N = (torch.rand(count, generator=generator) < (0.5 if flip else 0.0)).to(device)
    for step in range(first, steps_per_epoch(count, batch_size)):
        picked = slice(step * batch_size, (step + 1) * batch_size)
        index_B = order_N[picked]
        images_BHWC = data.normalize(data.train_NHWC[index_B])
        if crop or flip:
            images_BHWC = augment(images_BHWC, shift_N2[picked], flip_N[picked], crop)
        yield images_BHWC.permute(0, 3, 1, 2), data.train_labels_N[index_B]


def augment(images_BHWC: Tensor, shift_B2: Tensor, flip_B: Tensor, crop: int) -> Tensor:
    """Each image padded with zeros by `crop`, cut out again at its own shift (down, right), and mirrored."""
    _, height, width, _ = images_BHWC.shape
    padded = torch.nn.functional.pad(images_BHWC, (0, 0, crop, crop, crop, crop))
    device = images_BHWC.device
    rows_BH = shift_B2[:, :1] + torch.arange(height, device=device)
    columns_W = torch.arange(width, device=device)
    columns_BW = shift_B2[:, 1:] + torch.where(flip_B[:, None], columns_W.flip(0), columns_W)
    image_B11 = torch.arange(len(images_BHWC), device=device)[:, None, None]
    return padded[image_B11, rows_BH[:, :, None], columns_BW[:, None, :]]


def validation_batches(data: TrainingData) -> Iterator[tuple[Tensor, Tensor]]:
    """The validation part in order, as (images_BCHW, labels_B)."""
    for start in range(0, len(data.val_NHWC), EVAL_BATCH):
        picked = slice(start, start + EVAL_BATCH)
        yield data.normalize(data.val_NHWC[picked]).permute(0, 3, 1, 2), data.val_labels_N[picked]
