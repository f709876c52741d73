"""Initializations: how the weights of a convolution begin. Adding one is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def default(conv: nn.Conv2d) -> None:
    """PyTorch's own, as the convolution was made: uniform, of variance 1 / (3 fan-in)."""


def he(conv: nn.Conv2d) -> None:
    """Normal of variance 2 / fan-in, biases zero (He et al. 2015, "Delving Deep into Rectifiers")."""
    from torch import nn

    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


INITS: dict[str, Callable[[nn.Conv2d], None]] = {"default": default, "he": he}
"""Every initialization, by its name in a study file."""
