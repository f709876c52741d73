from __future__ import annotations

import numpy as np
import pytest
import torch

from search.data.batches import TrainingData, augment, batches, to_device, validation_batches
from search.data.images import Images
from search.data.splits import steps_per_epoch

CPU = torch.device("cpu")


def numbered(count: int, height: int = 4, width: int = 6, channels: int = 1) -> Images:
    """Image i is i everywhere, and so is its label."""
    pixels = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, channels)
    )
    return Images(np.ascontiguousarray(pixels), np.arange(count, dtype=np.int64))


@pytest.fixture
def data() -> TrainingData:
    return to_device(numbered(50), numbered(20), 50, CPU)


def labels_of(data: TrainingData, seed: int, epoch: int) -> list[int]:
    return [int(label) for _, labels in batches(data, 8, seed, epoch) for label in labels]


def test_an_epoch_is_whole_batches_without_repeats(data: TrainingData) -> None:
    labels = labels_of(data, seed=0, epoch=1)
    assert len(labels) == 8 * steps_per_epoch(len(data.train_NHWC), 8) == 48
    assert len(set(labels)) == 48


def test_batches_are_a_function_of_seed_and_epoch(data: TrainingData) -> None:
    assert labels_of(data, 0, 1) == labels_of(data, 0, 1)
    assert len({tuple(labels_of(data, seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6


def test_labels_stay_with_their_images(data: TrainingData) -> None:
    for images, labels in batches(data, 8, 0, 1):
        assert images.shape == (8, 1, 4, 6)
        values = images * data.std_C + data.mean_C
        torch.testing.assert_close(values.mean((1, 2, 3)), labels.float(), atol=1e-4, rtol=0)


def test_a_part_smaller_than_a_batch_is_one_step() -> None:
    data = to_device(numbered(5), numbered(2), 5, CPU)
    assert [len(labels) for _, labels in batches(data, 64, 0, 1)] == [5]


def test_statistics_come_from_the_training_part_alone() -> None:
    rng = np.random.default_rng(0)
    train = Images(rng.integers(0, 256, (40, 5, 5, 3)).astype(np.uint8), np.zeros(40, np.int64))
    bright = Images(np.full((10, 5, 5, 3), 255, np.uint8), np.zeros(10, np.int64))
    data = to_device(train, bright, 2, CPU)
    images = data.normalize(data.train_NHWC)
    torch.testing.assert_close(images.mean((0, 1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 1, 2), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    (val, _), *rest = validation_batches(data)
    assert not rest
    assert val.min() > 1


def test_a_constant_channel_stays_finite() -> None:
    black = Images(np.zeros((4, 3, 3, 2), np.float32), np.zeros(4, np.int64))
    data = to_device(black, black, 2, CPU)
    assert data.normalize(data.train_NHWC).abs().max() == 0


def test_batches_are_channels_last_without_a_copy(data: TrainingData) -> None:
    for images, _ in batches(data, 8, 0, 1):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_augmentation_is_per_image_and_exact() -> None:
    """Against the same crop and flip done image by image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 7, 9, 3, generator=generator)
    shift = torch.randint(0, 5, (32, 2), generator=generator)
    flip = torch.rand(32, generator=generator) < 0.5
    out = augment(images, shift, flip, crop=2)
    for i in range(32):
        padded = torch.zeros(11, 13, 3)
        padded[2:9, 2:11] = images[i]
        down, right = (int(x) for x in shift[i])
        expected = padded[down : down + 7, right : right + 9]
        assert torch.equal(out[i], expected.flip(1) if flip[i] else expected)


def test_crops_reach_every_shift_and_flips_are_half() -> None:
    count = 4000
    pixels = np.zeros((count, 3, 3, 1), np.float32)
    pixels[:, 1, 0] = 1
    data = to_device(Images(pixels, np.zeros(count, np.int64)), numbered(2), 2, CPU)
    spots: dict[tuple[int, int], int] = {}
    for images, _ in batches(data, count, seed=3, epoch=1, crop=1, flip=True):
        raw = (images * data.std_C + data.mean_C)[:, 0]
        for found in raw.round().nonzero():
            spot = (int(found[1]), int(found[2]))
            spots[spot] = spots.get(spot, 0) + 1
    # a third of the shifts in each direction; mirrored or not, one of three columns is out of the picture
    assert set(spots) == {(row, column) for row in range(3) for column in range(3)}
    left = sum(n for (_, column), n in spots.items() if column == 0)
    right = sum(n for (_, column), n in spots.items() if column == 2)
    assert abs(left - right) < 200
