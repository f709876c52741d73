"""How a network is trained, as a value, and what of torch it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int
    batch_size: int
    optimizer: str
    """sgd or adamw."""
    lr: float
    """At its peak: reached by linear warm-up, then it falls by the schedule."""
    seed: int
    """Of batch order and augmentation."""
    weight_decay: float = 0.0
    """Not applied to norms, biases and scalars."""
    warmup: float = 0.0
    """Share of all steps."""
    momentum: float = 0.9
    clip: float | None = None
    label_smoothing: float = 0.0
    precision: str = "auto"
    crop: int = 0
    flip: bool = False
    schedule: str = "cosine"
    """Over all optimizer steps: cosine, to 0; step, by 10 after a half and again after three quarters."""


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step`, from 0."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "step":
        return config.lr * 0.1 ** ((step >= steps / 2) + (step >= steps * 3 / 4))
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Optimizer:
    """SGD with momentum, or AdamW with PyTorch's betas and eps: the kernels of torch.optim's fused versions,
    and their results bit for bit. torch.optim itself imports torch's compiler at its first use, two seconds
    in every process, and takes no part in a captured step without some persuasion.
    """

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        self.sgd, self.momentum = config.optimizer == "sgd", config.momentum
        parameters = list(network.parameters())
        groups = [
            ([p for p in parameters if p.ndim > 1], config.weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ]
        self.groups = [_Group(group, decay, self.sgd) for group, decay in groups if group]
        self.taken = 0
        """Steps."""

    def zero_grad(self) -> None:
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """A tensor, on the device, may be changed in place between replays of a captured step."""
        for group in self.groups:
            if self.sgd:
                torch._fused_sgd_(
                    group.parameters, group.gradients(), group.first if self.momentum else [],
                    weight_decay=group.decay, momentum=self.momentum, lr=lr, dampening=0.0, nesterov=False,
                    maximize=False, is_first_step=self.taken == 0,
                )  # fmt: skip
            else:
                torch._foreach_add_(group.steps, 1)
                torch._fused_adamw_(
                    group.parameters, group.gradients(), group.first, group.second, [], group.steps, lr=lr,
                    beta1=0.9, beta2=0.999, weight_decay=group.decay, eps=1e-8, amsgrad=False, maximize=False,
                )  # fmt: skip
        self.taken += 1

    def state(self) -> dict[str, Any]:
        return {"taken": self.taken, "groups": [group.tensors() for group in self.groups]}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
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
        """Momentum, or Adam's first moment."""
        self.second = [] if sgd else [torch.zeros_like(p) for p in parameters]
        self.steps = [] if sgd else [torch.zeros((), device=p.device) for p in parameters]

    def gradients(self) -> list[Tensor]:
        found = [p.grad for p in self.parameters]
        assert all(gradient is not None for gradient in found), "every parameter takes part in the loss"
        return found  # type: ignore[return-value]

    def tensors(self) -> list[Tensor]:
        return [*self.first, *self.second, *self.steps]


def autocast_of(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config.precision, device))


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"
