"""Validation curves, each trained once and kept: what searches are replayed from.

A run is a function of its configuration and seed, bit for bit on one thread of a CPU, so a curve that is on
file stands for the run. Files lie in benchmarks/pool, which git ignores; training makes them again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from models.network import build
from search.data.batches import to_device
from search.data.datasets import load
from search.design.seeds import confirmation_seed, draw_seed
from search.design.space import configuration_fingerprint, make_architecture, make_config, suggest
from search.spec.study import StudySpec
from search.training.results import EpochResult
from search.training.run import train
from search.trials.outcomes import LAST_EPOCHS

POOL = Path(__file__).with_name("pool")
Values = Mapping[str, Any]


class Late(Exception):
    """The time for training is over."""


@dataclass(frozen=True)
class Curve:
    accuracies: tuple[float, ...]
    """Accuracies on validation images after each epoch, 0 to 1."""
    outcome: str
    """complete, diverged or stopped."""

    def value(self, chance: float) -> float:
        """The value as search.trials.outcomes has it: the mean of the last epochs; chance if the run
        diverged; the last accuracy if it was stopped."""
        if self.outcome == "diverged":
            return chance
        last = self.accuracies[-1 if self.outcome == "stopped" else -LAST_EPOCHS :]
        return sum(last) / len(last)

    def after(self, epoch: int, chance: float) -> float:
        return self.accuracies[epoch - 1] if epoch <= len(self.accuracies) else chance


class Recorder:
    """Runs of one study, from its file or by training, which is then written there."""

    def __init__(self, spec: StudySpec, folder: Path = POOL, until: float = float("inf")) -> None:
        """`until`, on time.monotonic's clock: from then on nothing is trained, Late is raised instead."""
        parts = load(spec.data)
        self.spec, self.until = spec, until
        self.image_shape, self.classes = parts.image_shape, parts.classes
        self.data = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
        self.path = folder / f"{spec.name}-{parts.fingerprint()}.jsonl"
        self.trained_seconds = 0.0
        """CPU time of all runs on file."""
        self.curves: dict[str, Curve] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                self._remember(json.loads(line))

    def _remember(self, run: dict[str, Any]) -> None:
        self.curves[run["key"]] = Curve(tuple(run["accuracies"]), run["outcome"])
        self.trained_seconds += run["seconds"]

    @property
    def chance(self) -> float:
        return 1 / self.classes

    def run(
        self,
        values: Values,
        seed: int,
        on_epoch: Callable[[int, float], bool] = lambda *_: False,
    ) -> Curve:
        """Until `on_epoch(epoch from 1, accuracy)` is True, or to the end. No network of the spaces that are
        searched here is larger than they allow."""
        architecture = make_architecture(dict(values), self.spec.space, self.image_shape, self.classes)
        config = make_config(dict(values), self.spec, seed)
        key = f"{configuration_fingerprint(architecture, config)}-{seed}"
        known = self.curves.get(key)
        for epoch, accuracy in enumerate(known.accuracies if known else (), start=1):
            if on_epoch(epoch, accuracy):
                return Curve(known.accuracies[:epoch] if known else (), "stopped")
        if known and known.outcome != "stopped":
            return known
        if time.monotonic() > self.until:
            raise Late
        told = len(known.accuracies) if known else 0

        def listen(result: EpochResult) -> bool:
            return result.epoch > told and on_epoch(result.epoch, result.val_accuracy)

        before = time.process_time()
        result = train(build(architecture, seed), self.data, config, listen)
        accuracies = [epoch.val_accuracy for epoch in result.epochs]  # in full: samplers and pruners see ties
        run = {
            "key": key, "arm": architecture.block, "depth": architecture.depth, "accuracies": accuracies,
            "outcome": result.outcome, "seconds": round(time.process_time() - before, 2),
        }  # fmt: skip
        self._remember(run)
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        return self.curves[key]

    def retrained(self, values: Values, seeds: int) -> float:
        """Mean value of runs with fresh seeds, which no search draws."""
        runs = [self.run(values, confirmation_seed(0, replicate)) for replicate in range(seeds)]
        return sum(run.value(self.chance) for run in runs) / seeds


@dataclass(frozen=True)
class Draw:
    """One random draw of the space, the block apart, and the seed it is trained with as every arm."""

    values: dict[str, Any]
    seed: int

    def of(self, arm: str) -> dict[str, Any]:
        return self.values | {"block": arm}


def random_draws(spec: StudySpec, count: int) -> list[Draw]:
    """Independent draws, as RandomSampler and the start of TPE make them."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=spec.search.seed))
    asked = [suggest(study.ask(), spec.space) for _ in range(count)]
    return [Draw(values, draw_seed(spec.search.seed, number)) for number, values in enumerate(asked)]


def whole(recorder: Recorder, draws: Sequence[Draw]) -> list[Draw]:
    """Trains every draw as every arm to the end. Those for which there was time."""
    for number, draw in enumerate(draws):
        try:
            for arm in recorder.spec.space.block:
                recorder.run(draw.of(arm), draw.seed)
        except Late:
            return list(draws[:number])
    return list(draws)
