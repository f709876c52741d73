from __future__ import annotations

import numpy as np
import pytest
import torch

from search.data.batches import (
    EVAL_BATCH,
    Feed,
    TrainingData,
    augment,
    batches,
    to_device,
    validation_batches,
)
from search.data.config import DataConfig
from search.data.datasets import load
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


def test_the_order_of_a_seed_is_recorded() -> None:
    """Whole numbers drawn on the CPU, the same on every processor; other ones would be another science."""
    parts = load(DataConfig(name="digits"))
    feed = Feed(to_device(parts.train, parts.val, 10, CPU), 64, seed=5, crop=2, flip=True)
    feed.draw(3)
    assert feed.index_SB[0, :6].tolist() == [54, 527, 783, 714, 439, 235]
    assert feed.index_SB[-1, -3:].tolist() == [777, 909, 305]
    assert feed.shift_SB2[0, :3].tolist() == [[1, 4], [1, 2], [4, 0]]
    assert feed.flip_SB[0, :8].tolist() == [True, False, False, False, False, False, False, True]


@pytest.mark.parametrize(("crop", "flip"), [(1, False), (0, True), (2, True)])
def test_augmentation_leaves_the_order_alone(data: TrainingData, crop: int, flip: bool) -> None:
    augmented = [label for _, labels in batches(data, 8, 0, 1, crop, flip) for label in labels.tolist()]
    assert augmented == labels_of(data, 0, 1)


def test_an_epoch_goes_on_with_the_batch_at_which_it_stands(data: TrainingData) -> None:
    whole = list(batches(data, 8, 4, 2, crop=1, flip=True))
    feed = Feed(data, 8, 4, crop=1, flip=True)
    for epoch, first in ((1, 0), (2, 3)):
        feed.draw(epoch, first)
    for images, labels in whole[3:]:
        found = feed.batch()
        assert torch.equal(found[0], images)
        assert torch.equal(found[1], labels)
        feed.step_1 += 1
    assert int(feed.step_1) == feed.steps == len(whole)


def test_a_feed_draws_into_tensors_that_stay_where_they_are(data: TrainingData) -> None:
    """A captured step finds its batch there."""
    feed = Feed(data, 8, 0, crop=1, flip=True)
    tensors = (feed.index_SB, feed.shift_SB2, feed.flip_SB, feed.step_1)
    feed.draw(1)
    before = [(tensor.data_ptr(), tensor.clone()) for tensor in tensors]
    feed.draw(2, first=1)
    for tensor, (place, values) in zip(tensors, before, strict=True):
        assert tensor.data_ptr() == place
        assert not torch.equal(tensor, values)


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


def test_each_channel_has_its_own_statistics() -> None:
    """The images are made by hand: values -1 and 1 of a channel around its middle, times its spread."""
    middle, spread = np.array([10.0, 100.0, 200.0]), np.array([1.0, 5.0, 25.0])
    signs = np.array([-1.0, 1.0] * 8).reshape(4, 2, 2, 1)
    images = Images((middle + spread * signs).astype(np.uint8), np.zeros(4, np.int64))
    data = to_device(images, images, 2, CPU)
    assert (data.mean_C.tolist(), data.std_C.tolist()) == (middle.tolist(), spread.tolist())
    assert np.array_equal(data.normalize(data.train_NHWC).numpy(), np.broadcast_to(signs, (4, 2, 2, 3)))
    assert (data.mean_C.dtype, data.train_NHWC.dtype) == (torch.float32, torch.uint8)


def test_the_validation_part_comes_whole_in_order_and_unchanged() -> None:
    """The images come in batches, the last of them ragged."""
    count = 2 * EVAL_BATCH + 17
    pixels = np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 3, 1), np.float32)
    val = Images(pixels, np.arange(count, dtype=np.int64)[::-1].copy())
    data = to_device(numbered(50), val, count, CPU)
    found = list(validation_batches(data))
    assert [len(labels) for _, labels in found] == [EVAL_BATCH, EVAL_BATCH, 17]
    assert torch.cat([labels for _, labels in found]).tolist() == list(range(count))[::-1]
    images = torch.cat([images for images, _ in found])
    assert torch.equal(images, data.normalize(data.val_NHWC).permute(0, 3, 1, 2))


def test_a_constant_channel_stays_finite() -> None:
    black = Images(np.zeros((4, 3, 3, 2), np.float32), np.zeros(4, np.int64))
    data = to_device(black, black, 2, CPU)
    assert data.normalize(data.train_NHWC).abs().max() == 0


def test_batches_are_channels_last_without_a_copy(data: TrainingData) -> None:
    for images, _ in batches(data, 8, 0, 1):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_augmentation_is_per_image_and_exact() -> None:
    """The result is compared with the same crop and flip done image by image."""
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


def test_crops_and_flips_come_each_alone(data: TrainingData) -> None:
    """An arrow that points to the right: crops move it and never turn it, flips turn half and move none."""
    arrow = np.zeros((400, 5, 5, 1), np.float32)
    arrow[:, 2, 1:3, 0] = [1, 2]
    data = to_device(Images(arrow, np.zeros(400, np.int64)), numbered(2), 2, CPU)

    def found(crop: int, flip: bool) -> set[tuple[int, ...]]:
        """Places of the 1 and of the 2."""
        ((images, _),) = batches(data, 400, 0, 1, crop, flip)
        raw = (images * data.std_C + data.mean_C)[:, 0].round()
        return {tuple(map(int, (*(image == 1).nonzero()[0], *(image == 2).nonzero()[0]))) for image in raw}

    assert found(0, False) == {(2, 1, 2, 2)}
    assert found(0, True) == {(2, 1, 2, 2), (2, 3, 2, 2)}
    moved = {(row, column, row, column + 1) for row in (1, 2, 3) for column in (0, 1, 2)}
    assert found(1, False) == moved


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
