"""F(relu(norm(x))) + x: the pre-activation unit of He et al. 2016, "Identity Mappings in Deep Residual
Networks".

norm2 stands behind the addition and feeds the next unit: every norm keeps the convolution that it follows in
the other arms, so the count of parameters is theirs. The last unit's norm2 is the extra final norm of the
paper, the stem's norm is its first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.arms.arm import Arm, Start, add
from models.norms import Norm

if TYPE_CHECKING:
    from torch import Tensor

    from models.block import Block


@add
class Preact(Arm):
    name, label, brief = "preact", "pre-activation", "pre-act."
    color, symbol, rank = "#009E73", "diamond", 2

    def start(self, norm: Norm, zero_branch: bool) -> Start:
        """A scalar under any norm: the branch ends in a convolution."""
        return "scale" if zero_branch else "usual"

    def forward(self, block: Block, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        stream = block.shortcut(stream) + block.scaled(block.branch(active))
        return stream, block.last_norm(stream).relu()
