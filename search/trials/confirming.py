"""The trials of a confirmation: fixed recipe, fresh seed and split, no pruner, test images looked at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import optuna
import torch

from models.arms.arm import ARMS
from models.network import Network, build, weights_fingerprint
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import DataSet
from search.data.images import Images, Parts
from search.errors import StudyFailed
from search.spec.study import StudySpec
from search.storage.internals import as_begun, study_id_of, trial_id_of
from search.storage.patience import PatientStorage
from search.storage.study_record import StudyRecord
from search.storage.trial_record import TrialRecord, records_of
from search.training.optimizer import autocast_of
from search.training.results import evaluate
from search.trials.listeners import Ended, Listener
from search.trials.setup import Setup, drawn_setup


class Splits:
    """The split that a seed makes: what a run trains and validates on, and its test images. The last one is
    kept, since runs are queued seed by seed."""

    def __init__(self, whole: DataSet, config: DataConfig, device: torch.device) -> None:
        self.whole, self.config, self.device = whole, config, device
        self.last: tuple[int, TrainingData, Images] | None = None

    def __call__(self, seed: int) -> TrainingData:
        """What a run trains and validates on."""
        if self.last is None or self.last[0] != seed:
            parts = self._parts(seed)
            data = to_device(parts.train, parts.val, parts.classes, self.device)
            self.last = seed, data, parts.test
        return self.last[1]

    def test(self, seed: int) -> Images:
        """The test images of such a run, none of which it has seen."""
        return self.last[2] if self.last and self.last[0] == seed else self._parts(seed).test

    def _parts(self, seed: int) -> Parts:
        return self.whole.split(replace(self.config, seed=seed))


@dataclass(frozen=True)
class ConfirmationTrials:
    """The trials of a confirmation: their recipes and seeds were queued when it began."""

    spec: StudySpec
    image_shape: tuple[int, int, int]
    splits: Splits
    claims: PatientStorage

    def set_up(self, trial: optuna.Trial) -> Setup:
        seed = TrialRecord(as_begun(trial)).seed
        assert seed is not None, "it was queued with one"
        return drawn_setup(trial, self.spec, self.image_shape, self.splits(seed), seed, data_seed=seed)

    def build(self, trial: optuna.Trial, setup: Setup) -> Network:
        """Builds the network. Raises StudyFailed when a twin, perhaps on another machine, started from other
        weights."""
        network = build(setup.architecture, setup.config.seed)
        weights, arm = weights_fingerprint(network), ARMS[setup.architecture.block]
        self.claims.annotate(trial_id_of(trial), TrialRecord.attributes(weights=weights))
        group = TrialRecord(as_begun(trial)).group
        for twin in records_of(trial.study):
            comparable = twin.group == group and twin.arm and arm.shares_weights_with(ARMS[twin.arm])
            if comparable and twin.weights not in (None, weights):
                raise StudyFailed(
                    f"trials {trial.number} and {twin.number} are twins, but start from different weights: "
                    "do all workers have the same version of torch?"
                )
        return network

    def listeners(self, trial: optuna.Trial) -> list[Listener]:
        return [TestAccuracy(trial, self.splits, self.claims)]


class TestAccuracy(Listener):
    """Evaluates a network on its test images, once, when it is trained."""

    essential = True
    __test__ = False  # it is no test case of pytest's

    def __init__(self, trial: optuna.Trial, splits: Splits, claims: PatientStorage) -> None:
        self.trial, self.splits, self.claims = trial, splits, claims

    def ended(self, end: Ended) -> dict[str, Any]:
        if end.ending.outcome == "diverged":
            return {"test_accuracy": end.ending.value}
        # first, since a reading that is lost counts too
        self.claims.count_up(study_id_of(self.trial.study), StudyRecord.test_reads.name)
        images, data = self.splits.test(end.setup.config.seed), end.setup.data
        data = replace(
            data,
            val_NHWC=torch.from_numpy(images.pixels_NHWC).to(data.device),
            val_labels_N=torch.from_numpy(images.labels_N).to(data.device),
        )
        _, accuracy = evaluate(end.network, data, autocast_of(end.setup.config, data.device))
        return {"test_accuracy": accuracy}
