"""Normalizations: what follows a convolution. Adding one is one entry here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn


class Norm:
    """A normalization, or none. Torch is imported where a layer is made, so that values can be read
    without."""

    name: ClassVar[str]
    params: ClassVar[int]
    """Learned numbers per channel."""
    biased: ClassVar[bool]
    """Whether the convolution before it keeps a bias: a norm that shifts makes it redundant."""
    gain: ClassVar[bool]
    """Whether it scales each channel by a learned `weight`, which may start at zero."""
    keeps_input: ClassVar[bool]
    """Whether its backward pass reads its input, so that a training step keeps one more map."""
    across_images: ClassVar[bool]
    """Whether it averages over the batch, and so needs more than one value per channel."""

    def layer(self, width: int, members: int = 1) -> nn.Module:
        """The layer for `members` networks side by side, each of `width` channels, which it must not mix."""
        raise TypeError(f"the norm {self.name} makes no layer")


class NoNorm(Norm):
    """The identity; convolutions keep their bias."""

    name = "none"
    params, biased, gain, keeps_input, across_images = 0, True, False, False, False

    def layer(self, width: int, members: int = 1) -> nn.Module:
        from torch import nn

        return nn.Identity()


class BatchNorm(Norm):
    """Batch normalization (Ioffe & Szegedy 2015)."""

    name = "batch"
    params, biased, gain, keeps_input, across_images = 2, False, True, True, True

    def layer(self, width: int, members: int = 1) -> nn.Module:
        from torch import nn

        return nn.BatchNorm2d(members * width, eps=1e-5)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (NoNorm(), BatchNorm())}
"""Every normalization, by its name in a study file."""
