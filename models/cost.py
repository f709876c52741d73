"""The price of an architecture, known before any memory is spent on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.network import Network


@dataclass(frozen=True)
class Cost:
    params: int
    """Trained numbers."""
    macs: int
    """Multiply-adds of convs and classifier for one image, forward."""


def count_params(architecture: Architecture) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Network(architecture).parameters())


def measure_cost(architecture: Architecture) -> Cost:
    """Runs one image through the network on the meta device, which has shapes but no memory."""
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d | nn.Linear)
        macs += out.numel() * module.weight[0].numel()

    with torch.device("meta"):
        network = Network(architecture).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        with torch.no_grad():
            network(torch.empty(1, *architecture.image_shape))
    return Cost(params=count_params(architecture), macs=macs)
