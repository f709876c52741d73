"""One training run. Torch only: what happens with the results is the caller's, through `on_epoch`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.data import TrainingData, batches, steps_per_epoch, validation_batches

DIVERGED_LOSS = 10.0
"""Times the starting loss."""


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


@dataclass(frozen=True)
class EpochResult:
    epoch: int
    """From 1."""
    train_loss: float
    train_accuracy: float
    """Share of the epoch's images classified right as they were trained on."""
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class TrainResult:
    outcome: str
    """complete; stopped, by on_epoch; diverged; interrupted, in mid-epoch."""
    epochs: tuple[EpochResult, ...]
    seconds: float
    images_per_second: float
    """Trained, validation included in the time."""
    loss_at_start: float


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step`, from 0."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train(
    network: nn.Module,
    data: TrainingData,
    config: TrainConfig,
    on_epoch: Callable[[EpochResult], bool | None],
    interrupted: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Trains `network` in place on the data's device until done, diverged, or `on_epoch` returns True.

    On the CPU with one thread, the same network, data and config give the same weights bit for bit. Raises
    torch.OutOfMemoryError as it comes.
    """
    device = data.device
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, config)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config.precision, device))
    per_epoch = steps_per_epoch(data, config.batch_size)
    steps, warmup = config.epochs * per_epoch, round(config.warmup * config.epochs * per_epoch)
    # reading a loss makes a GPU wait for it; there divergence is looked for once per epoch
    check_every = 1 if device.type == "cpu" else per_epoch
    history: list[EpochResult] = []
    loss_at_start = math.nan
    images, step, outcome = 0, 0, "complete"
    started = time.perf_counter()

    while outcome == "complete" and len(history) < config.epochs:
        network.train()
        losses: list[Tensor] = []
        right = torch.zeros((), dtype=torch.int64, device=device)
        seen = 0
        epoch = len(history) + 1
        for images_BCHW, labels_B in batches(
            data, config.batch_size, config.seed, epoch, config.crop, config.flip
        ):
            if interrupted():
                outcome = "interrupted"
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, config)
            with autocast:
                logits_BK = network(images_BCHW)
                loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if config.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            right += (logits_BK.argmax(1) == labels_B).sum()
            losses.append(loss.detach())
            seen += len(labels_B)
            step += 1
            if step == 1:
                loss_at_start = loss.item()
            if len(losses) % check_every == 0:
                since = step - check_every
                recent = torch.stack(losses[-check_every:]).tolist()
                if any(_diverged(x, loss_at_start, since + i >= warmup) for i, x in enumerate(recent)):
                    outcome = "diverged"
                    break
        images += seen
        if outcome != "complete":
            break
        val_loss, val_accuracy = evaluate(network, data, autocast)
        result = EpochResult(
            epoch, torch.stack(losses).mean().item(), right.item() / seen, val_loss, val_accuracy
        )
        history.append(result)
        if on_epoch(result):
            outcome = "stopped"

    seconds = time.perf_counter() - started
    return TrainResult(outcome, tuple(history), seconds, images / seconds, loss_at_start)


def _diverged(loss: float, loss_at_start: float, warmed_up: bool) -> bool:
    return not math.isfinite(loss) or (warmed_up and loss > DIVERGED_LOSS * loss_at_start)


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


@torch.no_grad()
def evaluate(network: nn.Module, data: TrainingData, autocast: torch.autocast) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0 to 1) on the validation part, in evaluation mode."""
    network.eval()
    loss = torch.zeros((), device=data.device)
    right = torch.zeros((), dtype=torch.int64, device=data.device)
    for images_BCHW, labels_B in validation_batches(data):
        with autocast:
            logits_BK = network(images_BCHW)
        loss += F.cross_entropy(logits_BK.float(), labels_B, reduction="sum")
        right += (logits_BK.argmax(1) == labels_B).sum()
    count = len(data.val_labels_N)
    return loss.item() / count, right.item() / count
