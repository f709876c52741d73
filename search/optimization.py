"""How a network is trained, as a value, and what of torch it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int
    batch_size: int
    optimizer: str
    """sgd or adamw."""
    lr: float
    """At its peak: reached by linear warm-up, then annealed by a cosine to 0 over all optimizer steps."""
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


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step`, from 0."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def autocast_of(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config.precision, device))


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"
