"""Three blocks of two 3x3 convs with the same parameters under the same names; only the wiring differs.

A block maps (stream, active) to (stream, active), both NCHW. The stream is what shortcuts carry, active is
what convs read. They are one tensor, but in preact, whose stream is never normalized or rectified.

`members` networks may be computed as one, their channels side by side: convs are grouped, and whatever else
there is works on each member's channels alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def norm_layer(norm: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width, eps=1e-5) if norm == "batch" else nn.Identity()


def conv_layer(
    width_in: int, width: int, kernel: int, members: int, bias: bool, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    return nn.Conv2d(members * width_in, members * width, kernel, stride, padding, groups=members, bias=bias)


class PlainBlock(nn.Module):
    """relu(norm(conv(relu(norm(conv(x)))))): a stack without a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int, norm: str, members: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_layer(width_in, width, 3, members, norm == "none", stride=stride, padding=1)
        self.norm1 = norm_layer(norm, members * width)
        self.conv2 = conv_layer(width, width, 3, members, norm == "none", padding=1)
        self.norm2 = norm_layer(norm, members * width)
        self.stride, self.members = stride, members
        self.widen = width - width_in
        self.scale: nn.Parameter | None = None
        """SkipInit's, of the branch; one per member."""

    def branch(self, active_NCHW: Tensor) -> Tensor:
        return self.conv2(F.relu(self.norm1(self.conv1(active_NCHW))))  # type: ignore[no-any-return]

    def shortcut(self, stream_NCHW: Tensor) -> Tensor:
        """The identity; at another size subsampled and zero-padded (option A), the padding split evenly."""
        if self.stride > 1:
            stream_NCHW = stream_NCHW[:, :, :: self.stride, :: self.stride]
        if self.widen:
            before = self.widen // 2
            stream_NHWC = stream_NCHW.permute(0, 2, 3, 1)
            stream_NHWMC = stream_NHWC.reshape(*stream_NHWC.shape[:3], self.members, -1)
            stream_NHWMC = F.pad(stream_NHWMC, (before, self.widen - before))
            stream_NCHW = stream_NHWMC.flatten(3).permute(0, 3, 1, 2)
        return stream_NCHW

    def scaled(self, branch_NCHW: Tensor) -> Tensor:
        if self.scale is None:
            return branch_NCHW
        if self.members == 1:
            return self.scale * branch_NCHW
        scale_C = self.scale.repeat_interleave(branch_NCHW.shape[1] // self.members)
        return scale_C[:, None, None] * branch_NCHW

    def forward(self, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        out = F.relu(self.norm2(self.branch(active)))
        return out, out


class ResidualBlock(PlainBlock):
    """relu(F(x) + x), the original unit of He et al. 2015."""

    def __init__(
        self, width_in: int, width: int, stride: int, norm: str, zero_branch: bool, members: int = 1
    ) -> None:
        super().__init__(width_in, width, stride, norm, members)
        if zero_branch and isinstance(self.norm2, nn.BatchNorm2d):
            nn.init.zeros_(self.norm2.weight)
        if zero_branch and norm == "none":
            self.scale = _skip_init(members)

    def forward(self, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        branch = self.scaled(self.norm2(self.branch(active)))
        out = F.relu(self.shortcut(stream) + branch)
        return out, out


class PreactBlock(PlainBlock):
    """F(relu(norm(x))) + x, the full pre-activation unit of He et al. 2016.

    norm2 stands behind the addition and feeds the next unit: every norm keeps the conv it follows in the
    other arms, so the count of parameters is theirs. The last unit's norm2 is the extra final norm of the
    paper, the stem's norm is its first. The branch ends in a conv, so zero_branch is a SkipInit scalar
    (De & Smith 2020) under either norm.
    """

    def __init__(
        self, width_in: int, width: int, stride: int, norm: str, zero_branch: bool, members: int = 1
    ) -> None:
        super().__init__(width_in, width, stride, norm, members)
        if zero_branch:
            self.scale = _skip_init(members)

    def forward(self, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        stream = self.shortcut(stream) + self.scaled(self.branch(active))
        return stream, F.relu(self.norm2(stream))


def _skip_init(members: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(() if members == 1 else members))


def make_block(
    block: str, width_in: int, width: int, stride: int, norm: str, zero_branch: bool, members: int = 1
) -> PlainBlock:
    if block == "plain":
        return PlainBlock(width_in, width, stride, norm, members)
    block_class = {"residual": ResidualBlock, "preact": PreactBlock}[block]
    return block_class(width_in, width, stride, norm, zero_branch, members)
