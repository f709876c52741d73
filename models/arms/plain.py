"""A stack without a shortcut: relu(norm(conv(relu(norm(conv(x)))))). What the others are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.arms.arm import Arm, add

if TYPE_CHECKING:
    from torch import Tensor

    from models.block import Block


@add
class Plain(Arm):
    name, noun = "plain", "plain stack"
    color, symbol, rank = "#D55E00", "circle", 0

    def forward(self, block: Block, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        out = block.last_norm(block.branch(active)).relu()
        return out, out
