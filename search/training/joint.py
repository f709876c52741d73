"""Several training runs of one architecture as one network: each has its own images, batches and start, and
ends as it would alone, within the rounding of floating-point sums. Torch only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.architecture import Architecture
from models.joined import join, share_gradients, view
from models.network import Network, build
from search.data.batches import TrainingData
from search.spec.train_config import TrainConfig
from search.training.cuda_graph import Stepper, fixed_shapes, recorder_for
from search.training.diagnostics import watching
from search.training.optimizer import Optimizer
from search.training.results import State, TrainResult
from search.training.run import Keep, OnEpoch, TrainingRun

ROUNDS, STEPS_BEFORE = 3, {"cpu": 1, "cuda": 5}
"""Steps that are measured, and the number of those before them. On a GPU the fourth is captured."""


def train_together(
    architecture: Architecture,
    networks: Sequence[Network],
    data: Sequence[TrainingData],
    configs: Sequence[TrainConfig],
    on_epoch: Sequence[OnEpoch],
    interrupted: Callable[[], bool] = lambda: False,
    keep: Sequence[Keep] | None = None,
    resume: Sequence[State] | None = None,
) -> list[TrainResult]:
    """What search.training.run.train does, for all of them at once, in as few steps as one takes.

    The configs differ in their seeds alone, the data in their images, not in how many there are; states to
    resume are of one and the same step. Whoever diverges or is stopped has ended, the others go on. A run's
    seconds are its share of the time.
    """
    keep = keep or [lambda state, must: None] * len(networks)
    with closing(_Together(architecture, networks, data, configs)) as together:
        if resume is not None:
            together.restore(resume)
        while together.live and len(together.runs[together.live[0]].history) < configs[0].epochs:
            with fixed_shapes(together.device):
                whole = together.train_epoch(interrupted)
            if not whole:
                for i in together.live:
                    keep[i](together.runs[i].state, True)
                together.end("interrupted")
                break
            for i in tuple(together.live):
                outcome = together.runs[i].end_epoch(on_epoch[i], keep[i])
                if outcome != "complete":
                    together.end(outcome, i)
        together.end("complete")
    return together.results


class _Member(TrainingRun):
    def state(self) -> State:
        """A copy: what is saved of a view is all that it is a view of."""
        copied: State = _copied(super().state())
        return copied


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


class _Together:
    """Every run keeps its own books, in tensors that are views of what is computed as one."""

    def __init__(
        self,
        architecture: Architecture,
        networks: Sequence[Network],
        data: Sequence[TrainingData],
        configs: Sequence[TrainConfig],
    ) -> None:
        alike = {(replace(c, seed=0), len(d.train_NHWC)) for c, d in zip(configs, data, strict=True)}
        assert len(alike) == 1, "runs in step have as many steps, of one size and rate"
        self.device, self.config = data[0].device, configs[0]
        for network in networks:
            network.to(self.device)
        self.networks, self.joined = networks, join(architecture, networks)
        self.runs = [_Member(*run) for run in zip(networks, data, configs, strict=True)]
        for run in self.runs:
            run.share = 1 / len(networks)
        self.optimizer = Optimizer(self.joined, self.config)
        self._share_memory()
        self.stepper = Stepper(recorder_for(self.device))
        self.live = list(range(len(networks)))
        """Indices of the runs that have not ended."""
        self.results = [run.result("complete") for run in self.runs]
        self.diverged = 0
        """How many have diverged in this epoch."""

    def _share_memory(self) -> None:
        """What the optimizer remembers of a run is part of what it remembers of all."""
        for i, run in enumerate(self.runs):
            for whole, part in zip(self.optimizer.groups, run.optimizer.groups, strict=True):
                part.first = [view(w, i, p) for w, p in zip(whole.first, part.first, strict=True)]
                part.second = [view(w, i, p) for w, p in zip(whole.second, part.second, strict=True)]
                part.steps = whole.steps

    def restore(self, states: Sequence[State]) -> None:
        for run, state in zip(self.runs, states, strict=True):
            run.restore(state)
        self.optimizer.taken = self.runs[0].step
        assert len({(run.step, run.done) for run in self.runs}) == 1

    def end(self, outcome: str, *which: int) -> None:
        """Ends the runs named; all that live, where none is."""
        for i in which or tuple(self.live):
            self.results[i] = self.runs[i].result(outcome)
            self.live.remove(i)
            if outcome == "diverged":
                self._silence(i)

    def _silence(self, member: int) -> None:
        """What is not finite may spread: kernels that pad a group multiply its neighbour's values by zero,
        as bfloat16 ones of oneDNN do. A spread within the epoch shows as more than one that diverges."""
        self.diverged += 1
        if self.diverged > 1:
            raise RuntimeError("several runs diverged in one epoch, perhaps of each other")
        run = self.runs[member]
        statistics = [buffer for buffer in run.network.buffers() if buffer.ndim]  # others are shared by all
        tensors = [*run.network.parameters(), *statistics]
        for group in run.optimizer.groups:
            tensors += [*group.first, *group.second]
        with torch.no_grad():
            for tensor in tensors:
                tensor.zero_()

    def close(self) -> None:
        self.stepper.free()
        for optimizer in (self.optimizer, *(run.optimizer for run in self.runs)):
            optimizer.zero_grad()

    def train_epoch(self, interrupted: Callable[[], bool]) -> bool:
        """Trains the epoch from where it stands; False when interrupted. Runs that have ended are computed
        along."""
        lead, self.diverged = self.runs[self.live[0]], 0
        for run in self.runs:
            run.optimizer.zero_grad()  # what was shared to be measured
            run.done = lead.done
            run.begin_epoch()
        self.joined.train()
        while self.live and lead.done < lead.feed.steps:
            if interrupted():
                return False
            self.step()
        for i in tuple(self.live):
            if self.runs[i].average() == "diverged":
                self.end("diverged", i)
        return True

    def step(self) -> None:
        lead = self.runs[0]
        first, measured = lead.step == 0, lead.step == 0 or lead.done == lead.feed.steps - 1
        for run in self.runs:
            run.before_step()
        probes = [run.probe for run in self.runs if run.probe and first]
        with watching(self.joined, probes):
            self.stepper.take(self.take_step)
        self.optimizer.taken = lead.step + 1
        if measured:
            share_gradients(self.joined, self.networks)
        for i, run in enumerate(self.runs):
            if run.after_step() and i in self.live:
                self.end("diverged", i)

    def take_step(self) -> None:
        """What TrainingRun.take_step does, for all runs; see Stepper."""
        lead, config, members = self.runs[0], self.config, len(self.runs)
        images, labels = zip(*(run.feed.batch() for run in self.runs), strict=True)
        images_BCHW, labels_N = torch.cat(images, 1), torch.cat(labels)  # members side by side in C, in N
        with lead.autocast:
            logits_MBK = self.joined(images_BCHW)
            losses_N = F.cross_entropy(
                logits_MBK.flatten(0, 1), labels_N, reduction="none", label_smoothing=config.label_smoothing
            )
        self.optimizer.zero_grad()
        losses_M = losses_N.view(members, -1).mean(1)
        losses_M.sum().backward()  # type: ignore[no-untyped-call]
        if config.clip is not None:
            share_gradients(self.joined, self.networks)
            for network in self.networks:
                nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        self.optimizer.step(lead.feed.now(lead.rates_S))
        right_M = (logits_MBK.argmax(2) == labels_N.view(members, -1)).sum(1)
        for i, run in enumerate(self.runs):
            run.losses_S.index_copy_(0, run.feed.step_1, losses_M.detach()[i : i + 1])
            run.right += right_M[i]
            run.feed.step_1 += 1


def gain(architecture: Architecture, config: TrainConfig, data: TrainingData, members: int) -> float:
    """How many times as fast so many runs are as one network, by the medians of a few steps of either."""
    network = build(architecture, 0)
    network.to(data.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks = [build(architecture, i) for i in range(members)]
    with (
        fixed_shapes(data.device),
        closing(TrainingRun(network, data, config)) as alone,
        closing(_Together(architecture, networks, [data] * members, [config] * members)) as together,
    ):
        both: tuple[TrainingRun | _Together, ...] = (alone, together)
        for run in (alone, *together.runs):
            run.begin_epoch()
        times: list[list[float]] = [[], []]
        for step in range(STEPS_BEFORE[data.device.type] + ROUNDS):
            for runs, seconds in zip(both, times, strict=True):
                before = time.perf_counter()
                runs.stepper.take(runs.take_step)
                if data.device.type == "cuda":
                    torch.cuda.synchronize(data.device)
                seconds.append(time.perf_counter() - before)
                runs.optimizer.taken = step + 1
            for run in (alone, *together.runs):
                run.feed.step_1.zero_()  # the same batch again: an epoch may be shorter than this
    one, all_of_them = (statistics.median(seconds[-ROUNDS:]) for seconds in times)
    return members * one / all_of_them
