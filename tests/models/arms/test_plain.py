from __future__ import annotations

import torch

from models.network import build
from models.presets import preset


def test_a_plain_block_is_its_branch_alone() -> None:
    """relu(norm(F(x))): no shortcut, and the stream is what convolutions read."""
    block = build(preset("resnet20", "plain"), seed=3).blocks[0]
    torch.nn.init.constant_(block.last_norm.bias, 0.5)  # type: ignore[arg-type]
    x = torch.randn(2, 16, 12, 12)
    stream, active = block(x, x)
    assert stream is active
    torch.testing.assert_close(active, block.last_norm(block.branch(x)).relu())
    assert torch.equal(block(torch.randn_like(x), x)[1], active), "what a shortcut would carry is not read"
