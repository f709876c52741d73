"""The optimizer, and the precision that a configuration stands for on a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from search.spec.tables import OPTIMIZERS
from search.spec.train_config import TrainConfig
from search.training import kernels


class Optimizer:
    """SGD with momentum, or AdamW with PyTorch's betas and eps: the kernels of torch.optim's fused versions,
    and their results bit for bit. torch.optim itself imports torch's compiler at its first use, two seconds
    in every process, and takes no part in a captured step without some persuasion.
    """

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        assert config.optimizer in OPTIMIZERS, config.optimizer
        self.sgd, self.momentum = config.optimizer == "sgd", config.momentum
        parameters = list(network.parameters())
        groups = [
            ([p for p in parameters if p.ndim > 1], config.weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ]
        self.groups = [_Group(group, decay, self.sgd) for group, decay in groups if group]
        self.taken = 0
        """Steps taken so far."""

    def zero_grad(self) -> None:
        """Lets all gradients go."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """Takes a step at the rate `lr`. One that is a tensor, on the device, may be changed in place between
        replays of a captured step."""
        for group in self.groups:
            parameters, gradients, decay = group.parameters, group.gradients(), group.decay
            if self.sgd:
                momenta = group.first if self.momentum else []
                kernels.sgd_step(parameters, gradients, momenta, lr, self.momentum, decay, self.taken == 0)
            else:
                kernels.adamw_step(parameters, gradients, group.first, group.second, group.steps, lr, decay)
        self.taken += 1

    def state(self) -> dict[str, Any]:
        """What it remembers of earlier steps; `restore` takes it."""
        return {"taken": self.taken, "groups": [group.tensors() for group in self.groups]}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave, of the same network."""
        self.taken = state["taken"]
        for group, stored in zip(self.groups, state["groups"], strict=True):
            for tensor, value in zip(group.tensors(), stored, strict=True):
                tensor.copy_(value)


class _Group:
    """Parameters with one weight decay, and what the optimizer remembers of each."""

    def __init__(self, parameters: list[nn.Parameter], decay: float, sgd: bool) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.decay = decay
        self.first = [torch.zeros_like(p) for p in parameters]
        """Momenta, or Adam's first moments."""
        self.second = [] if sgd else [torch.zeros_like(p) for p in parameters]
        self.steps = [] if sgd else [torch.zeros((), device=p.device) for p in parameters]

    def gradients(self) -> list[Tensor]:
        found = [p.grad for p in self.parameters]
        assert all(gradient is not None for gradient in found), "every parameter takes part in the loss"
        return found  # type: ignore[return-value]

    def tensors(self) -> list[Tensor]:
        return [*self.first, *self.second, *self.steps]


def autocast_of(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The context of a forward pass."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config.precision, device))


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether maps are kept in bfloat16: see search.spec.tables.TrainSettings.precision."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"
