"""Images on the device: one tensor per part, batches and augmentation as tensor code. Never sees test data.

Suffixes: N images, B images of a batch, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search.data.images import Images
from search.data.splits import steps_per_epoch

EVAL_BATCH = 256


@dataclass(frozen=True)
class TrainingData:
    """What a trial may see. Pixels keep their stored type (uint8 or float32) and are normalized by batch."""

    train_NHWC: Tensor
    train_labels_N: Tensor
    val_NHWC: Tensor
    val_labels_N: Tensor
    mean_C: Tensor
    """Mean of each channel in the training part alone."""
    std_C: Tensor
    """Standard deviation of each channel in the training part; 1 where a channel is constant."""
    classes: int

    @property
    def device(self) -> torch.device:
        return self.train_NHWC.device

    def normalize(self, pixels_BHWC: Tensor) -> Tensor:
        """The pixels in float32, less the mean, over the standard deviation."""
        return (pixels_BHWC.float() - self.mean_C) / self.std_C


def to_device(train: Images, val: Images, classes: int, device: torch.device) -> TrainingData:
    """Both parts as tensors on the device."""
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


class Feed:
    """The batches of a run, drawn epoch by epoch into tensors that stay where they are. At which step the
    epoch stands is a tensor too: a captured step finds its batch without Python."""

    def __init__(
        self, data: TrainingData, batch_size: int, seed: int, crop: int = 0, flip: bool = False
    ) -> None:
        count, device = len(data.train_NHWC), data.device
        self.data, self.seed, self.crop, self.flip = data, seed, crop, flip
        self.steps = steps_per_epoch(count, batch_size)
        self.size = min(batch_size, count)
        self.index_SB = torch.empty(self.steps, self.size, dtype=torch.int64, device=device)
        self.shift_SB2 = torch.empty(self.steps, self.size, 2, dtype=torch.int64, device=device)
        self.flip_SB = torch.empty(self.steps, self.size, dtype=torch.bool, device=device)
        self.step_1 = torch.zeros(1, dtype=torch.int64, device=device)

    def draw(self, epoch: int, first: int = 0) -> None:
        """Draws the epoch's batches, a function of seed and epoch alone; batch `first`, from 0, is next."""
        count, used = len(self.data.train_NHWC), self.steps * self.size
        # drawn on the CPU: every device sees the same batches
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        order_N = torch.randperm(count, generator=generator)
        shift_N2 = torch.randint(0, 2 * self.crop + 1, (count, 2), generator=generator)
        flip_N = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        refill(self.index_SB, order_N[:used].view(self.steps, self.size))
        refill(self.shift_SB2, shift_N2[:used].view(self.steps, self.size, 2))
        refill(self.flip_SB, flip_N[:used].view(self.steps, self.size))
        self.step_1.fill_(first)

    def batch(self) -> tuple[Tensor, Tensor]:
        """(images_BCHW in channels_last, labels_B) of the step at which the epoch stands."""
        data = self.data
        index_B = self.now(self.index_SB)
        images_BHWC = data.normalize(data.train_NHWC[index_B])
        if self.crop or self.flip:
            shift_B2, flip_B = self.now(self.shift_SB2), self.now(self.flip_SB)
            images_BHWC = augment(images_BHWC, shift_B2, flip_B, self.crop)
        return images_BHWC.permute(0, 3, 1, 2), data.train_labels_N[index_B]

    def now(self, values_S: Tensor) -> Tensor:
        """This step's of the values that every step has."""
        return values_S.index_select(0, self.step_1)[0]


def refill(buffer: Tensor, values: Tensor) -> None:
    """Fills the buffer without waiting for the device, which reads the old values as long as it has work with
    them."""
    buffer.copy_(values.pin_memory() if buffer.is_cuda else values, non_blocking=True)


def batches(
    data: TrainingData, batch_size: int, seed: int, epoch: int, crop: int = 0, flip: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images_BCHW in channels_last, labels_B)."""
    feed = Feed(data, batch_size, seed, crop, flip)
    feed.draw(epoch)
    for _ in range(feed.steps):
        yield feed.batch()
        feed.step_1 += 1


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
