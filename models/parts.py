"""The parts of a network as values: stem, transitions and blocks, with the size of the maps that they get.

A network is built from these, its price and its memory are sums over them: nothing is derived twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.norms import Norm

Size = tuple[int, int]
"""Height and width of maps, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution, and behind it the network's norm."""

    width_in: int
    width: int
    kernel: int = 3
    stride: int = 1
    padded: bool = True
    """Zero padding that keeps the size of maps, but for the stride."""
    normed: bool = True
    """Whether the network's norm follows; where none does, the convolution keeps its bias."""
    gate: bool = False
    """Whether it reads the mean of each channel, so maps of 1x1, beside the main path: it adds no depth."""
    own: bool = False
    """Whether its twins lack it, so that it draws initial weights apart from theirs."""

    @property
    def weights(self) -> int:
        """Numbers in its kernels."""
        return self.width_in * self.width * self.kernel**2

    def params(self, norm: Norm) -> int:
        """Learned numbers: weights, bias or norm."""
        per_channel = norm.params + norm.biased if self.normed else 1
        return self.weights + per_channel * self.width

    def output(self, size: Size) -> Size:
        """Height and width of its maps from those of what it reads; below 1 where nothing is left."""
        if self.gate:
            return 1, 1
        lost = 0 if self.padded else self.kernel - 1
        height, width = (-(-(side - lost) // self.stride) for side in size)
        return height, width


@dataclass(frozen=True, kw_only=True)
class Part:
    """Convolutions in their order, on maps of one size."""

    kind: str
    """One of stem, transition (between stages) and block."""
    stage: int
    """The stage that it is in, or leads to, from 0."""
    size: Size
    """Height and width of the maps that it reads."""
    convs: tuple[Conv, ...]
    scalars: int = 0
    """Learned numbers beside convolutions and norms."""
    pool: bool = False
    """Whether max pooling by 2 ends it."""

    @property
    def depth(self) -> int:
        """Convolutions on the main path."""
        return sum(not conv.gate for conv in self.convs)

    @property
    def stride(self) -> int:
        """Factor by which its convolutions shrink the maps."""
        stride = 1
        for conv in self.convs:
            stride *= 1 if conv.gate else conv.stride
        return stride

    @property
    def width_in(self) -> int:
        """Channels of what it reads."""
        return self.convs[0].width_in

    @property
    def width(self) -> int:
        """Channels of what it gives."""
        return [conv.width for conv in self.convs if not conv.gate][-1]

    def traced(self) -> Iterator[tuple[Conv, Size, Size]]:
        """Each convolution with the sizes of what it reads and of its maps."""
        size = self.size
        for conv in self.convs:
            output = conv.output(size)
            yield conv, (1, 1) if conv.gate else size, output
            size = size if conv.gate else output

    @property
    def output(self) -> Size:
        """Height and width of what it gives; below 1 where nothing is left."""
        *_, size = (output for conv, _, output in self.traced() if not conv.gate)
        return (size[0] // 2, size[1] // 2) if self.pool else size

    def params(self, norm: Norm) -> int:
        """Learned numbers of all of it."""
        return sum(conv.params(norm) for conv in self.convs) + self.scalars

    @property
    def macs(self) -> int:
        """Multiply-adds of its convolutions for one image, forward."""
        return sum(conv.weights * height * width for conv, _, (height, width) in self.traced())
