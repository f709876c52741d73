"""One training run. Torch only: what happens with the results is the caller's, through `on_epoch`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import Network
from search.data import TrainingData, batches, steps_per_epoch, validation_batches
from search.diagnostics import Measures, Probe
from search.optimization import Optimizer, TrainConfig, autocast_of, learning_rate

DIVERGED_LOSS = 10.0
"""Times the starting loss."""


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


State = dict[str, Any]
"""Where a run stands, in tensors and plain values: loading it runs no code."""


def train(
    network: nn.Module,
    data: TrainingData,
    config: TrainConfig,
    on_epoch: Callable[[EpochResult], bool | None],
    interrupted: Callable[[], bool] = lambda: False,
    keep: Callable[[Callable[[], State], bool], None] = lambda state, must: None,
    resume: State | None = None,
) -> TrainResult:
    """Trains `network` in place on the data's device until done, diverged, or `on_epoch` returns True.

    `keep` is offered the state after every epoch, with True when the run is interrupted, perhaps in
    mid-epoch; a run that starts from such a state ends as if it had never stopped. On the CPU with one thread
    the same network, data and config give the same weights bit for bit. Raises torch.OutOfMemoryError as it
    comes, RuntimeError and KeyError for a state of another network.
    """
    run = _Run(network, data, config)
    if resume is not None:
        run.restore(resume)
    outcome = "complete"
    while len(run.history) < config.epochs:
        outcome = run.train_epoch(interrupted)
        if outcome == "interrupted":
            keep(run.state, True)
        if outcome != "complete":
            break
        loss, accuracy = run.averages()
        validation = evaluate(network, data, run.autocast, run.probe)
        if not math.isfinite(validation[0]):
            outcome = "diverged"
            break
        measures = run.probe.measure() if run.probe else None
        run.end_epoch(loss, accuracy, *validation, measures)
        if on_epoch(run.history[-1]):
            outcome = "stopped"
            break
        keep(run.state, False)
    seconds = run.seconds()
    speed = run.images / seconds if seconds else 0.0
    return TrainResult(outcome, tuple(run.history), seconds, speed, run.loss_at_start, run.start)


class _Run:
    """What one training run carries from step to step."""

    def __init__(self, network: nn.Module, data: TrainingData, config: TrainConfig) -> None:
        device = data.device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data, self.config = data, config
        self.optimizer = Optimizer(network, config)
        self.autocast = autocast_of(config, device)
        self.per_epoch = steps_per_epoch(len(data.train_NHWC), config.batch_size)
        self.steps = config.epochs * self.per_epoch
        self.step = self.images = 0
        self.loss_at_start = math.nan
        self.probe = Probe(network) if isinstance(network, Network) else None
        self.start: Measures | None = None
        self.history: list[EpochResult] = []
        self.losses: list[Tensor] = []
        """Of the epoch, as many as it has had steps."""
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.seen = 0
        self.before, self.started = 0.0, time.perf_counter()

    def seconds(self) -> float:
        """Of training, those before an interruption included."""
        return self.before + time.perf_counter() - self.started

    def state(self) -> State:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state(),
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds(),
            "loss_at_start": self.loss_at_start,
            "start": asdict(self.start) if self.start else None,
            "history": [asdict(result) for result in self.history],
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "right": self.right,
            "seen": self.seen,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.data.device.type == "cuda" else [],
        }

    def restore(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.restore(state["optimizer"])
        self.step, self.images, self.before = state["step"], state["images"], state["seconds"]
        self.loss_at_start = state["loss_at_start"]
        self.start = Measures(**state["start"]) if state["start"] else None
        self.history = [_result(values) for values in state["history"]]
        self.losses = list(state["losses"].to(self.data.device))
        self.right.copy_(state["right"])
        self.seen = state["seen"]
        torch.set_rng_state(state["random"])
        for device, random in enumerate(state["random_cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(random, device)

    def end_epoch(
        self, loss: float, accuracy: float, val_loss: float, val_accuracy: float, measures: Measures | None
    ) -> None:
        self.start = self.start or measures
        epoch = len(self.history) + 1
        self.history.append(EpochResult(epoch, loss, accuracy, val_loss, val_accuracy, measures))
        self.losses, self.seen = [], 0
        self.right.zero_()

    def train_epoch(self, interrupted: Callable[[], bool]) -> str:
        """From where it stands. Returns complete, diverged or interrupted."""
        config, done = self.config, len(self.losses)
        # reading a loss makes a GPU wait for it; there divergence is looked for once per epoch
        check_every = 1 if self.data.device.type == "cpu" else self.per_epoch
        self.network.train()
        for images_BCHW, labels_B in batches(
            self.data, config.batch_size, config.seed, len(self.history) + 1, config.crop, config.flip, done
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
        with self.autocast:
            logits_BK = self.network(images_BCHW)
            loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step(learning_rate(self.step, self.steps, config))
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


def _result(values: State) -> EpochResult:
    measures = Measures(**values["measures"]) if values["measures"] else None
    return EpochResult(**{**values, "measures": measures})
