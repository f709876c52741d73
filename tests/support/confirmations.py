"""Confirmations that are quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import optuna
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.data.datasets import read
from search.design.confirmation import open_confirmation
from search.design.plan import Plan
from search.spec.study import StudySpec
from search.storage.connections import join_study
from search.training.checkpoints import StudyCheckpoints
from search.trials.confirming import ConfirmationTrials, Splits
from search.trials.runner import TrialRunner
from tests.support.arms import OURS
from tests.support.plans import choice, plan

NAME = "tiny-confirm"
SETTINGS = "\n[confirm]\ndepths = [3, 7]\nseeds = 2\n"


PARAMS = {
    "blocks_1": 2, "width_1": 4, "norm": "batch", "init": "default", "zero_branch": False, "optimizer": "sgd",
    "lr_sgd": 0.05, "lr_adamw": 0.001, "weight_decay": 1e-5, "warmup": 0.0,
}  # fmt: skip
TINY_PLAN = plan([replace(choice(arm, 5), params=PARAMS) for arm in OURS], seeds=(4,))


def opened(url: str, spec: StudySpec, given: Plan = TINY_PLAN) -> tuple[Study, Plan, int]:
    fingerprint = read(spec.data).split(spec.data).fingerprint()
    return open_confirmation(url, NAME, spec, fingerprint, given)


class Worker:
    """One worker of a confirmation, in this process."""

    def __init__(self, url: str, spec: StudySpec, given: Plan = TINY_PLAN) -> None:
        torch.set_num_threads(1)
        _, _, runs = opened(url, spec, given)
        self.study, self.claims = join_study(url, NAME, "here", runs)
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)
        self.study.pruner = optuna.pruners.NopPruner()
        whole, device = read(spec.data), torch.device("cpu")
        shape = whole.split(spec.data).image_shape
        self.splits = Splits(whole, spec.data, device)
        trials = ConfirmationTrials(spec, shape, self.splits, self.claims)
        self.runner = TrialRunner(trials, self.claims, StudyCheckpoints.of(NAME, "key"))

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> FrozenTrial:
        trial = self.study.ask()
        if self.runner.run(trial, interrupted) == "interrupted":
            self.claims.give_back()
        return self.study.get_trials()[trial.number]
