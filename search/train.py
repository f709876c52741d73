"""One training run. Torch only: what happens with the results is the caller's, through `on_epoch`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import Network
from search.data import TrainingData, batches, steps_per_epoch, validation_batches
from search.diagnostics import Measures, Probe

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
    measures: Measures | None
    """Of the epoch's last step and of validation images; None for networks that are not ours."""


@dataclass(frozen=True)
class TrainResult:
    outcome: str
    """complete; stopped, by on_epoch; diverged; interrupted, in mid-epoch."""
    epochs: tuple[EpochResult, ...]
    seconds: float
    images_per_second: float
    """Trained, validation included in the time."""
    loss_at_start: float
    start: Measures | None
    """Of the first step; of the first epoch's last step where branches start at zero."""


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
    run = _Run(network, data, config)
    history: list[EpochResult] = []
    outcome = "complete"
    started = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        outcome = run.train_epoch(epoch, interrupted)
        if outcome != "complete":
            break
        loss, accuracy = run.averages()
        validation = evaluate(network, data, run.autocast, run.probe)
        if not math.isfinite(validation[0]):
            outcome = "diverged"
            break
        measures = run.probe.measure() if run.probe else None
        run.start = run.start or measures
        history.append(EpochResult(epoch, loss, accuracy, *validation, measures))
        if on_epoch(history[-1]):
            outcome = "stopped"
            break
    seconds = time.perf_counter() - started
    speed = run.images / seconds
    return TrainResult(outcome, tuple(history), seconds, speed, run.loss_at_start, run.start)


class _Run:
    """What one training run carries from step to step."""

    def __init__(self, network: nn.Module, data: TrainingData, config: TrainConfig) -> None:
        device = data.device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data, self.config = data, config
        self.optimizer = make_optimizer(network, config)
        self.autocast = autocast_of(config, device)
        self.per_epoch = steps_per_epoch(len(data.train_NHWC), config.batch_size)
        self.steps = config.epochs * self.per_epoch
        self.step = self.images = 0
        self.loss_at_start = math.nan
        self.probe = Probe(network) if isinstance(network, Network) else None
        self.start: Measures | None = None
        self.losses: list[Tensor] = []
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.seen = 0

    def train_epoch(self, epoch: int, interrupted: Callable[[], bool]) -> str:
        """Returns complete, diverged or interrupted."""
        config = self.config
        # reading a loss makes a GPU wait for it; there divergence is looked for once per epoch
        check_every = 1 if self.data.device.type == "cpu" else self.per_epoch
        self.network.train()
        self.losses, self.seen = [], 0
        self.right.zero_()
        for images_BCHW, labels_B in batches(
            self.data, config.batch_size, config.seed, epoch, config.crop, config.flip
        ):
            if interrupted():
                return "interrupted"
            if self.step == 0:
                self.first_step(images_BCHW, labels_B)
            else:
                if self.probe and len(self.losses) == self.per_epoch - 1:
                    self.probe.before_step()
                self.take_step(images_BCHW, labels_B)
            if len(self.losses) % check_every == 0 and self.diverged(check_every):
                return "diverged"
        return "complete"

    def first_step(self, images_BCHW: Tensor, labels_B: Tensor) -> None:
        probe = self.probe
        if probe:
            probe.before_step()
        with probe.watching() if probe else nullcontext():
            self.take_step(images_BCHW, labels_B)
        self.loss_at_start = self.losses[0].item()
        if probe and not probe.is_silent() and math.isfinite(self.loss_at_start):
            self.start = probe.measure()

    def take_step(self, images_BCHW: Tensor, labels_B: Tensor) -> None:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, config)
        with self.autocast:
            logits_BK = self.network(images_BCHW)
            loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.losses.append(loss.detach())
        self.right += (logits_BK.argmax(1) == labels_B).sum()
        self.seen += len(labels_B)
        self.images += len(labels_B)
        self.step += 1

    def diverged(self, last: int) -> bool:
        """Whether one of the `last` losses is not finite, or far above the start when warm-up is over."""
        warmup = round(self.config.warmup * self.steps)
        losses = torch.stack(self.losses[-last:]).tolist()
        limit = DIVERGED_LOSS * self.loss_at_start
        return any(
            not math.isfinite(loss) or (step >= warmup and loss > limit)
            for step, loss in enumerate(losses, start=self.step - last)
        )

    def averages(self) -> tuple[float, float]:
        """Loss and accuracy of the epoch, on its images as they were trained on."""
        return torch.stack(self.losses).mean().item(), self.right.item() / self.seen


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


@torch.no_grad()
def evaluate(
    network: nn.Module, data: TrainingData, autocast: torch.autocast, probe: Probe | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0 to 1) on the validation part, in evaluation mode; the probe
    watches the first batch."""
    network.eval()
    loss = torch.zeros((), device=data.device)
    right = torch.zeros((), dtype=torch.int64, device=data.device)
    for i, (images_BCHW, labels_B) in enumerate(validation_batches(data)):
        with autocast, probe.watching() if probe and i == 0 else nullcontext():
            logits_BK = network(images_BCHW)
        loss += F.cross_entropy(logits_BK.float(), labels_B, reduction="sum")
        right += (logits_BK.argmax(1) == labels_B).sum()
    count = len(data.val_labels_N)
    return loss.item() / count, right.item() / count
