"""Three blocks of two 3x3 convs with the same parameters under the same names; only the wiring differs.

A block maps (stream, active) to (stream, active), both NCHW. The stream is what shortcuts carry, active is
what convs read. They are one tensor, but in preact, whose stream is never normalized or rectified.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def norm_layer(norm: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width, eps=1e-5) if norm == "batch" else nn.Identity()


class PlainBlock(nn.Module):
    """relu(norm(conv(relu(norm(conv(x)))))): a stack without a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=bias)
        self.norm1 = norm_layer(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, width)
        self.stride = stride
        self.widen = width - width_in

    def branch(self, active_NCHW: Tensor) -> Tensor:
        return self.conv2(F.relu(self.norm1(self.conv1(active_NCHW))))  # type: ignore[no-any-return]

    def shortcut(self, stream_NCHW: Tensor) -> Tensor:
        """The identity; at another size subsampled and zero-padded (option A), the padding split evenly."""
        if self.stride > 1:
            stream_NCHW = stream_NCHW[:, :, :: self.stride, :: self.stride]
        if self.widen:
            before = self.widen // 2
            stream_NCHW = F.pad(stream_NCHW, (0, 0, 0, 0, before, self.widen - before))
        return stream_NCHW

    def forward(self, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        out = F.relu(self.norm2(self.branch(active)))
        return out, out


class ResidualBlock(PlainBlock):
    """relu(F(x) + x), the original unit of He et al. 2015."""

    def __init__(self, width_in: int, width: int, stride: int, norm: str, zero_branch: bool) -> None:
        super().__init__(width_in, width, stride, norm)
        if zero_branch and isinstance(self.norm2, nn.BatchNorm2d):
            nn.init.zeros_(self.norm2.weight)
        self.scale = nn.Parameter(torch.zeros(())) if zero_branch and norm == "none" else None

    def forward(self, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        branch = self.norm2(self.branch(active))
        if self.scale is not None:
            branch = self.scale * branch
        out = F.relu(self.shortcut(stream) + branch)
        return out, out


class PreactBlock(PlainBlock):
    """F(relu(norm(x))) + x, the full pre-activation unit of He et al. 2016.

    norm2 stands behind the addition and feeds the next unit: every norm keeps the conv it follows in the
    other arms, so the count of parameters is theirs. The last unit's norm2 is the extra final norm of the
    paper, the stem's norm is its first. The branch ends in a conv, so zero_branch is a SkipInit scalar
    (De & Smith 2020) under either norm.
    """

    def __init__(self, width_in: int, width: int, stride: int, norm: str, zero_branch: bool) -> None:
        super().__init__(width_in, width, stride, norm)
        self.scale = nn.Parameter(torch.zeros(())) if zero_branch else None

    def forward(self, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        branch = self.branch(active)
        if self.scale is not None:
            branch = self.scale * branch
        stream = self.shortcut(stream) + branch
        return stream, F.relu(self.norm2(stream))


def make_block(
    block: str, width_in: int, width: int, stride: int, norm: str, zero_branch: bool
) -> PlainBlock:
    if block == "plain":
        return PlainBlock(width_in, width, stride, norm)
    block_class = {"residual": ResidualBlock, "preact": PreactBlock}[block]
    return block_class(width_in, width, stride, norm, zero_branch)
