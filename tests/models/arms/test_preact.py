from __future__ import annotations

import dataclasses

import torch

from models.architecture import Stage
from models.network import build
from models.presets import preset


def test_the_stream_is_an_exact_sum() -> None:
    """x_L = x_0 + sum of all branches (He et al. 2016, eq. 4): nothing rectifies the stream."""
    network = build(
        dataclasses.replace(preset("resnet20", "preact"), stages=(Stage(width=8, blocks=3),)), seed=0
    )
    stream = active = network.stem(torch.randn(2, 3, 32, 32))
    total = stream
    for block in network.blocks:
        total = total + block.branch(active)
        stream, active = block(stream, active)
    torch.testing.assert_close(stream, total)
    assert stream.min() < 0


def test_what_convolutions_read_is_the_stream_normalized_and_rectified() -> None:
    block = build(preset("resnet20", "preact"), seed=0).blocks[0]
    torch.nn.init.constant_(block.last_norm.bias, 0.5)  # type: ignore[arg-type]
    stream, active = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)
    after, read = block(stream, active)
    torch.testing.assert_close(after, stream + block.branch(active))
    torch.testing.assert_close(read, block.last_norm(after).relu())
