"""A block: the convolutions that its arm names, their norms, and the arm's wiring.

Suffixes of tensors here and in models.network: N images, C channels, H height, W width, F features, K
classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arms.arm import Arm
from models.norms import Norm
from models.parts import Conv, Part


def conv_layer(conv: Conv, norm: Norm) -> nn.Conv2d:
    """The layer of a convolution."""
    padding = conv.kernel // 2 if conv.padded else 0
    bias = norm.biased if conv.normed else True
    return nn.Conv2d(conv.width_in, conv.width, conv.kernel, conv.stride, padding, bias=bias)


def weights_source(conv: Conv, place: int) -> AbstractContextManager[None]:
    """The context in which a convolution draws its initial weights: one that twins lack must not shift what
    they share.

    `place`: a number of its own in the network.
    """
    return _apart(place) if conv.own else nullcontext()


@contextmanager
def _apart(place: int) -> Iterator[None]:
    """Random numbers that are a function of the seed and the place alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((torch.initial_seed() + 0x9E3779B97F4A7C15 * place) % 2**63)
        yield


class Block(nn.Module):
    """Maps (stream, active) to (stream, active), both NCHW: see models.arms.arm.Arm.forward.

    Its layers are conv1, norm1, conv2, norm2 and so on, in the order of the arm's convolutions.
    """

    def __init__(self, arm: Arm, part: Part, norm: Norm, zero_branch: bool, place: int = 0) -> None:
        """`place`: the number of the block in its network, from 1."""
        super().__init__()
        self.arm, self.part, self.place = arm, part, place
        self.path = tuple(i for i, conv in enumerate(part.convs, start=1) if not conv.gate)
        """Numbers of the convolutions on the main path."""
        for i, conv in enumerate(part.convs, start=1):
            with weights_source(conv, self.number(i)):
                self.add_module(f"conv{i}", conv_layer(conv, norm))
            self.add_module(f"norm{i}", norm.layer(conv.width) if conv.normed else nn.Identity())
        self.start = arm.start(norm, zero_branch)
        self.scale: nn.Parameter | None = None
        """The scalar of the branch."""
        if self.start == "scale":
            self.scale = nn.Parameter(torch.zeros(()))
        if self.start == "gain":
            nn.init.zeros_(self.last_norm.weight)  # type: ignore[arg-type]

    def number(self, conv: int) -> int:
        """A number that no other convolution of the network has."""
        return 100 * self.place + conv

    def layer(self, name: str) -> nn.Module:
        """A layer by its name, as conv1."""
        module = self._modules[name]
        assert module is not None
        return module

    @property
    def convs(self) -> list[nn.Conv2d]:
        """The convolutions on the main path."""
        return [self.layer(f"conv{i}") for i in self.path]  # type: ignore[misc]

    @property
    def last_norm(self) -> nn.Module:
        """The norm of the last convolution on the main path."""
        return self.layer(f"norm{self.path[-1]}")

    def branch(self, active_NCHW: Tensor) -> Tensor:
        """The main path but for its last norm: conv, norm and relu in turn, up to the last convolution."""
        *before, last = self.path
        for i in before:
            active_NCHW = F.relu(self.layer(f"norm{i}")(self.layer(f"conv{i}")(active_NCHW)))
        return self.layer(f"conv{last}")(active_NCHW)  # type: ignore[no-any-return]

    def shortcut(self, stream_NCHW: Tensor) -> Tensor:
        """The identity; at another size subsampled and zero-padded (option A of He et al. 2015), the padding
        split evenly."""
        stride, widen = self.part.stride, self.part.width - self.part.width_in
        if stride > 1:
            stream_NCHW = stream_NCHW[:, :, ::stride, ::stride]
        if widen:
            before = widen // 2
            stream_NHWC = F.pad(stream_NCHW.permute(0, 2, 3, 1), (before, widen - before))
            stream_NCHW = stream_NHWC.permute(0, 3, 1, 2)
        return stream_NCHW

    def scaled(self, branch_NCHW: Tensor) -> Tensor:
        """The branch times its scalar, where it has one."""
        return branch_NCHW if self.scale is None else self.scale * branch_NCHW

    def forward(self, stream_NCHW: Tensor, active_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.arm.forward(self, stream_NCHW, active_NCHW)
