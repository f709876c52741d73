"""One training run. Torch only: what happens with the results is the caller's, through `on_epoch`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from models.network import Network
from search.data.batches import Feed, TrainingData, refill
from search.spec.train_config import TrainConfig
from search.training.cuda_graph import Stepper, fixed_shapes, recorder_for
from search.training.diagnostics import Measures, Probe, watching
from search.training.optimizer import Optimizer, autocast_of
from search.training.results import EpochResult, State, TrainResult, evaluate

DIVERGED_LOSS = 10.0
"""Multiple of the starting loss above which a run has diverged."""

OnEpoch = Callable[[EpochResult], bool | None]
"""A function that is told of every epoch; true ends the run."""
Keep = Callable[[Callable[[], State], bool], None]
"""A function that is offered the state after an epoch; with True it is asked to keep it."""


def train(
    network: nn.Module,
    data: TrainingData,
    config: TrainConfig,
    on_epoch: OnEpoch,
    interrupted: Callable[[], bool] = lambda: False,
    keep: Keep = lambda state, must: None,
    resume: State | None = None,
) -> TrainResult:
    """Trains `network` in place on the data's device until done, diverged, or `on_epoch` returns True.

    `keep` is offered the state after every epoch, with True when the run is interrupted, perhaps in
    mid-epoch; a run that starts from such a state ends as if it had never stopped. On the CPU with one thread
    the same network, data and config give the same weights bit for bit. Raises torch.OutOfMemoryError as it
    comes, RuntimeError and KeyError for a state of another network.
    """
    network.to(data.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with closing(TrainingRun(network, data, config)) as run:
        if resume is not None:
            run.restore(resume)
        outcome = "complete"
        while outcome == "complete" and len(run.history) < config.epochs:
            with fixed_shapes(data.device):
                outcome = run.train_epoch(interrupted)
            if outcome == "interrupted":
                keep(run.state, True)
            if outcome == "complete":
                outcome = run.end_epoch(on_epoch, keep)
    return run.result(outcome)


class TrainingRun:
    """What one training run carries from step to step. Its network is on the data's device, in
    channels_last."""

    def __init__(self, network: nn.Module, data: TrainingData, config: TrainConfig) -> None:
        device = data.device
        self.network, self.data, self.config = network, data, config
        self.optimizer = Optimizer(network, config)
        self.autocast = autocast_of(config, device)
        self.feed = Feed(data, config.batch_size, config.seed, config.crop, config.flip)
        self.stepper = Stepper(recorder_for(device))
        self.steps = config.epochs * self.feed.steps
        self.step = self.images = self.done = 0
        """Steps and images so far; `done` counts the steps of the epoch."""
        self.loss_at_start = math.nan
        self.probe = Probe(network) if isinstance(network, Network) else None
        self.start: Measures | None = None
        self.history: list[EpochResult] = []
        # fused kernels read a rate in single precision on a GPU, in double on a CPU
        precision = torch.float32 if device.type == "cuda" else torch.float64
        self.rates_S = torch.zeros(self.feed.steps, dtype=precision, device=device)
        self.losses_S = torch.zeros(self.feed.steps, device=device)
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.averages = (math.nan, math.nan)
        """Loss and accuracy of the last epoch, on its images as they were trained on."""
        self.before, self.started = 0.0, time.perf_counter()
        """Training seconds before an interruption, and the clock at the start of those since."""

    def seconds(self) -> float:
        """Training seconds so far."""
        return self.before + time.perf_counter() - self.started

    def result(self, outcome: str) -> TrainResult:
        """What the run has shown when it ends with this outcome."""
        seconds = self.seconds()
        speed = self.images / seconds if seconds else 0.0
        return TrainResult(outcome, tuple(self.history), seconds, speed, self.loss_at_start, self.start)

    def close(self) -> None:
        """Frees what the network would carry on."""
        self.stepper.free()
        self.optimizer.zero_grad()

    def state(self) -> State:
        """The state of the run; `restore` takes it."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state(),
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds(),
            "loss_at_start": self.loss_at_start,
            "start": asdict(self.start) if self.start else None,
            "history": [asdict(result) for result in self.history],
            "losses": self.losses_S[: self.done].clone(),
            "right": self.right,
            "seen": self.done * self.feed.size,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.data.device.type == "cuda" else [],
        }

    def restore(self, state: State) -> None:
        """Goes on from a state. Raises RuntimeError and KeyError for one of another network."""
        self.network.load_state_dict(state["network"])
        self.optimizer.restore(state["optimizer"])
        self.step, self.images, self.before = state["step"], state["images"], state["seconds"]
        self.loss_at_start = state["loss_at_start"]
        self.start = Measures(**state["start"]) if state["start"] else None
        self.history = [EpochResult.of(values) for values in state["history"]]
        self.done = len(state["losses"])
        self.losses_S[: self.done] = state["losses"].to(self.data.device)
        self.right.copy_(state["right"])
        torch.set_rng_state(state["random"])
        for device, random in enumerate(state["random_cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(random, device)

    def train_epoch(self, interrupted: Callable[[], bool]) -> str:
        """Trains the epoch from where it stands. Returns complete, diverged or interrupted."""
        self.begin_epoch()
        while self.done < self.feed.steps:
            if interrupted():
                return "interrupted"
            self.before_step()
            with watching(self.network, self.probe if self.step == 0 else None):
                self.stepper.take(self.take_step)
            if self.after_step():
                return "diverged"
        return self.average()

    def begin_epoch(self) -> None:
        """Draws the epoch's batches and sets its rates; it may stand in its midst."""
        steps, first = self.feed.steps, self.step - self.done
        self.network.train()
        self.feed.draw(len(self.history) + 1, self.done)
        rates = [self.config.learning_rate(step, self.steps) for step in range(first, first + steps)]
        refill(self.rates_S, torch.tensor(rates, dtype=self.rates_S.dtype))

    def before_step(self) -> None:
        """Readies the probe for a step that is measured: the run's first, and the last of every epoch."""
        if self.probe and (self.step == 0 or self.done == self.feed.steps - 1):
            self.probe.before_step()

    def after_step(self) -> bool:
        """Counts the step. Returns whether the run is seen to have diverged."""
        self.done += 1
        self.step += 1
        self.images += self.feed.size
        self.optimizer.taken = self.step  # a replay does not count, a capture counts too often
        if self.step == 1:
            self.loss_at_start = self.losses_S[0].item()
            if self.probe and not self.probe.is_silent() and math.isfinite(self.loss_at_start):
                self.start = self.probe.measure()
        # to read a loss makes a GPU wait: there divergence is looked for at the end of the epoch
        return not self.losses_S.is_cuda and self.diverged([self.losses_S[self.done - 1].item()])

    def average(self) -> str:
        """Averages over the epoch's steps. Returns complete or diverged."""
        parts = (self.losses_S, self.losses_S.mean()[None], self.right[None])
        *losses, mean, right = torch.cat([part.double() for part in parts]).tolist()  # one wait for all
        self.averages = mean, right / (self.feed.steps * self.feed.size)
        return "diverged" if self.diverged(losses) else "complete"

    def end_epoch(self, on_epoch: OnEpoch, keep: Keep) -> str:
        """Validates, and tells of the epoch. Returns complete, diverged or stopped."""
        loss, accuracy = evaluate(self.network, self.data, self.autocast, self.probe)
        if not math.isfinite(loss):
            return "diverged"
        measures = self.probe.measure() if self.probe else None
        self.start = self.start or measures
        self.history.append(EpochResult(len(self.history) + 1, *self.averages, loss, accuracy, measures))
        self.done = 0
        self.right.zero_()
        if on_epoch(self.history[-1]):
            return "stopped"
        keep(self.state, False)
        return "complete"

    def take_step(self) -> None:
        """What a step does on the device, from tensors that stay where they are to such tensors: see Stepper.
        Nothing here may ask the device for a value."""
        config, feed = self.config, self.feed
        images_BCHW, labels_B = feed.batch()
        with self.autocast:
            logits_BK = self.network(images_BCHW)
            loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step(feed.now(self.rates_S))
        self.losses_S.index_copy_(0, feed.step_1, loss.detach()[None])
        self.right += (logits_BK.argmax(1) == labels_B).sum()
        feed.step_1 += 1

    def diverged(self, losses: list[float]) -> bool:
        """Whether one of these last losses is not finite, or far above the start when warm-up is over."""
        warmup, limit = round(self.config.warmup * self.steps), DIVERGED_LOSS * self.loss_at_start
        return any(
            not math.isfinite(loss) or (step >= warmup and loss > limit)
            for step, loss in enumerate(losses, start=self.step - len(losses))
        )
