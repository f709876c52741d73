"""Arms and a norm that the product does not have: what it must bear without a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from models.arms.arm import ARMS, Arm, add
from models.arms.residual import Residual
from models.block import Block
from models.norms import NORMS, Norm
from models.parts import Conv


class Halved(Arm):
    """relu(F(x) + x / 2): a name and a wiring, all else left out."""

    name = "halved"

    def forward(self, block: Block, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        out = (block.shortcut(stream) / 2 + block.last_norm(block.branch(active))).relu()
        return out, out


class Gated(Residual):
    """Squeeze and excitation (Hu et al. 2018), its gate one convolution that its twins lack."""

    name, label = "gated", "gated residual"

    def convs(self, width_in: int, width: int, stride: int) -> tuple[Conv, ...]:
        gate = Conv(width_in=width, width=width, kernel=1, normed=False, gate=True, own=True)
        return (*super().convs(width_in, width, stride), gate)

    def forward(self, block: Block, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        branch = block.scaled(block.last_norm(block.branch(active)))
        gate = block.layer("conv3")(branch.mean((2, 3), keepdim=True)).sigmoid()
        out = (block.shortcut(stream) + gate * branch).relu()
        return out, out


class Bottleneck(Residual):
    """Three convolutions in a block, none of them its twins'."""

    name = "bottleneck"

    def convs(self, width_in: int, width: int, stride: int) -> tuple[Conv, ...]:
        inner = max(1, width // 4)
        return (
            Conv(width_in=width_in, width=inner, kernel=1, own=True),
            Conv(width_in=inner, width=inner, stride=stride, own=True),
            Conv(width_in=inner, width=width, kernel=1, own=True),
        )


@contextmanager
def installed(*arms: type[Arm]) -> Iterator[None]:
    """Adds arms, as if each had a file in models/arms. One of the same name is away meanwhile."""
    before = dict(ARMS)
    try:
        for arm in arms:
            ARMS.pop(arm.name, None)
            add(arm)
        yield
    finally:
        ARMS.clear()
        ARMS.update(before)


@contextmanager
def group_norm() -> Iterator[None]:
    """Adds a norm, as if models/norms.py had it."""
    NORMS["made_up"] = Norm(
        name="made_up",
        params=2,
        biased=False,
        gain=True,
        keeps_input=True,
        across_images=False,
        layer=lambda width: nn.GroupNorm(1, width),
    )
    try:
        yield
    finally:
        del NORMS["made_up"]
