from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.heads import HEADS
from models.network import build
from models.presets import preset


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_a_head_gives_as_many_features_as_it_says(name: str, size: tuple[int, int]) -> None:
    head = HEADS[name]
    assert head.pool(torch.zeros(2, 6, *size)).shape == (2, head.features(6, size))


def test_average_is_the_mean_of_each_channel_and_flatten_keeps_every_number() -> None:
    active_NCHW = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert HEADS["average"].pool(active_NCHW).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
    assert HEADS["flatten"].pool(active_NCHW).tolist() == active_NCHW.reshape(2, 12).tolist()


@pytest.mark.parametrize(
    ("size", "features"), [((28, 28), 32 * 4 * 4), ((32, 28), 32 * 5 * 4), ((40, 40), 32 * 7 * 7)]
)
def test_flatten_sizes_are_computed(size: tuple[int, int], features: int) -> None:
    network = build(replace(preset("post"), image_shape=(1, *size)), seed=0)
    assert network.head.in_features == features
    assert network(torch.zeros(1, 1, *size)).shape == (1, 10)
