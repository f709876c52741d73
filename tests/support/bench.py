"""A search in this process, trial by trial."""

from __future__ import annotations

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
        url = f"sqlite:///{folder}/objective.db"
        parts = load(spec.data)
        open_study(url, "s", spec, parts.fingerprint(), budget)
        self.study, self.claims = join_study(url, "s", "here", budget)
        self.study.sampler = make_sampler(spec, suggested_names(spec.space))
        self.study.pruner = make_pruner(spec)
        data = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
        kept = StudyCheckpoints.of("s", "key")
        self.runner = TrialRunner(SearchTrials(spec, data, parts.image_shape), self.claims, kept)

    def run(self, interrupted: bool = False) -> FrozenTrial:
        self.outcome = self.runner.run(self.study.ask(), lambda: interrupted)
        return self.study.get_trials()[-1]
