"""A search in this process, trial by trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from optuna.trial import FrozenTrial

from search.data.batches import to_device
from search.data.datasets import load
from search.design.pruners import make_pruner
from search.design.samplers import make_sampler
from search.design.space import suggested_names
from search.spec.study import StudySpec
from search.storage.connections import join_study
from search.storage.studies import open_study
from search.training.checkpoints import StudyCheckpoints
from search.trials.runner import TrialRunner
from search.trials.searching import SearchTrials


class Bench:
    """A study, a worker's connection to it and its runner."""

    def __init__(self, folder: Path, spec: StudySpec, budget: int = 100) -> None:
        torch.set_num_threads(1)
        self.url = f"sqlite:///{folder}/bench.db"
        parts = load(spec.data)
        self.fingerprint = parts.fingerprint()
        open_study(self.url, "s", spec, self.fingerprint, budget)
        self.study, self.claims = join_study(self.url, "s", "here", budget)
        self.study.sampler = make_sampler(spec, suggested_names(spec.space))
        self.study.pruner = make_pruner(spec)
        data = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
        kept = StudyCheckpoints.of("s", "key")
        self.runner = TrialRunner(SearchTrials(spec, data, parts.image_shape), self.claims, kept)

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> FrozenTrial:
        """The next trial, as it stands in the database afterwards."""
        trial = self.study.ask()
        self.outcome = self.runner.run(trial, interrupted)
        return self.study.get_trials()[trial.number]

    def put_back(self, trial: FrozenTrial) -> None:
        """An interrupted trial goes back into the queue, as its worker does it."""
        self.claims.release(trial._trial_id)


def after(steps: int) -> Callable[[], bool]:
    """Interrupts a training run when it has taken so many steps."""
    asked = [0]

    def interrupted() -> bool:
        asked[0] += 1
        return asked[0] > steps

    return interrupted
