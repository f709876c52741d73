"""relu(F(x) + x): the residual unit of He et al. 2015, "Deep Residual Learning for Image Recognition"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.arms.arm import Arm, Start, add
from models.norms import Norm

if TYPE_CHECKING:
    from torch import Tensor

    from models.block import Block


@add
class Residual(Arm):
    name = "residual"
    color, symbol, rank = "#0072B2", "square", 1

    def start(self, norm: Norm, zero_branch: bool) -> Start:
        if not zero_branch:
            return "usual"
        return "gain" if norm.gain else "scale"

    def forward(self, block: Block, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        branch = block.scaled(block.last_norm(block.branch(active)))
        out = (block.shortcut(stream) + branch).relu()
        return out, out
