"""Normalizations: what follows a convolution. Adding one is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A normalization: facts about it, and its layer."""

    name: str
    params: int
    """Learned numbers per channel."""
    biased: bool
    """Whether the convolution before it keeps a bias: a norm that shifts makes it redundant."""
    gain: bool
    """Whether it scales each channel by a learned `weight`, which may start at zero."""
    keeps_input: bool
    """Whether its backward pass reads its input, so that a training step keeps one more map."""
    across_images: bool
    """Whether it averages over the batch, and so needs more than one value per channel."""
    layer: Callable[[int], nn.Module]
    """Makes the layer for so many channels. It imports torch itself, so that the facts are read without."""


def _identity(_: int) -> nn.Module:
    from torch import nn

    return nn.Identity()


def _batch(width: int) -> nn.Module:
    """Batch normalization (Ioffe & Szegedy 2015)."""
    from torch import nn

    return nn.BatchNorm2d(width, eps=1e-5)


NORMS = {
    norm.name: norm
    for norm in (
        Norm(
            name="none", params=0, biased=True, gain=False, keeps_input=False, across_images=False,
            layer=_identity,
        ),
        Norm(
            name="batch", params=2, biased=False, gain=True, keeps_input=True, across_images=True,
            layer=_batch,
        ),
    )
}  # fmt: skip
"""Every normalization, by its name in a study file."""
