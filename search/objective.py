"""One trial: price, build, train, report, prune, record. The only place where trial and network meet."""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from models.architecture import Architecture
from models.cost import measure_cost
from models.network import build
from search.arms import place_of, training_seed
from search.claims import ClaimLost, ClaimStorage
from search.data import TrainingData
from search.diagnostics import cause_of
from search.errors import SearchError
from search.space import configuration_fingerprint, make_architecture, make_config, suggest
from search.spec import StudySpec
from search.train import EpochResult, TrainConfig, TrainResult, train

LAST_EPOCHS = 3
"""A trial's value is the mean validation accuracy of so many last epochs: a maximum would reward luck."""
MAX_TRACEBACK = 8000
"""Characters kept of an error, its end."""


@dataclass(frozen=True)
class Objective:
    spec: StudySpec
    data: TrainingData
    image_shape: tuple[int, int, int]
    claims: ClaimStorage

    def run(self, trial: optuna.Trial, interrupted: Callable[[], bool]) -> str:
        """Trains the trial and finishes it in the database. Returns its outcome; after "interrupted" the
        trial is still this worker's and unfinished. Raises ClaimLost.
        """
        trial_id = trial._trial_id
        values = suggest(trial, self.spec.space)
        architecture = make_architecture(values, self.spec.space, self.image_shape, self.data.classes)
        seed = trial.user_attrs.get("seed", training_seed(self.spec, self._frozen(trial)))
        config = make_config(values, self.spec, seed)
        seed, replicate = self._replicate(trial, architecture, config)
        config = make_config(values, self.spec, seed)
        cost = measure_cost(architecture)
        about = {
            **self._placement(trial, architecture.block),
            **replicate,
            "seed": seed,
            "depth": architecture.depth,
            "params": cost.params,
            "macs": cost.macs,
            "architecture": architecture.to_json(),
            "fingerprint": configuration_fingerprint(architecture, config),
            "device": self.data.device.type,
        }
        self.claims.annotate(trial_id, about)
        cap = self.spec.space.max_params
        if cap is not None and cost.params > cap:
            self.claims.finish(trial_id, TrialState.PRUNED, None, {"outcome": "infeasible", "epochs": 0})
            return "infeasible"
        return self._train(trial, architecture, config, interrupted)

    def _train(
        self,
        trial: optuna.Trial,
        architecture: Architecture,
        config: TrainConfig,
        interrupted: Callable[[], bool],
    ) -> str:
        def report(result: EpochResult) -> bool:
            trial.report(result.val_accuracy, step=result.epoch)
            return result.epoch < config.epochs and trial.should_prune()

        try:
            network = build(architecture, config.seed)
            result = train(network, self.data, config, report, interrupted)
        except (SearchError, ClaimLost, optuna.exceptions.StorageInternalError):
            raise
        except Exception as error:
            attrs: dict[str, Any] = {"outcome": "oom" if _is_out_of_memory(error) else "error"}
            if attrs["outcome"] == "error":
                attrs["error"] = traceback.format_exc()[-MAX_TRACEBACK:]
            state = TrialState.PRUNED if attrs["outcome"] == "oom" else TrialState.FAIL
            self.claims.finish(trial._trial_id, state, None, attrs)
            return str(attrs["outcome"])
        finally:
            network = None  # type: ignore[assignment]
            if self.data.device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
        if result.outcome == "interrupted":
            return "interrupted"
        return self._finish(trial, architecture, result)

    def _finish(self, trial: optuna.Trial, architecture: Architecture, result: TrainResult) -> str:
        outcome = "pruned" if result.outcome == "stopped" else result.outcome
        chance = 1 / self.data.classes
        last = result.epochs[-1] if result.epochs else None
        attrs: dict[str, Any] = {
            "outcome": outcome,
            "epochs": len(result.epochs),
            "train_accuracy": last.train_accuracy if last else chance,
            "val_accuracy": chance,
            "val_loss": last.val_loss if last and math.isfinite(last.val_loss) else None,
            "train_seconds": round(result.seconds, 3),
            "images_per_second": round(result.images_per_second, 1),
            "loss_at_start": result.loss_at_start if math.isfinite(result.loss_at_start) else None,
        }
        attrs |= self._diagnosis(architecture, result, attrs["train_accuracy"])
        if outcome == "diverged":
            # complete, at chance: the sampler learns from it and no statistic loses it
            self.claims.finish(trial._trial_id, TrialState.COMPLETE, chance, attrs)
            return outcome
        recent = [epoch.val_accuracy for epoch in result.epochs[-LAST_EPOCHS:]]
        attrs["val_accuracy"] = sum(recent) / len(recent)
        if outcome == "pruned":
            # Optuna's meaning of a pruned trial's value: the last one reported
            self.claims.finish(trial._trial_id, TrialState.PRUNED, recent[-1], attrs)
        else:
            self.claims.finish(trial._trial_id, TrialState.COMPLETE, attrs["val_accuracy"], attrs)
        return outcome

    def _diagnosis(
        self, architecture: Architecture, result: TrainResult, train_accuracy: float
    ) -> dict[str, Any]:
        start, end = result.start, result.epochs[-1].measures if result.epochs else None
        chance, convs = 1 / self.data.classes, 2 * architecture.blocks
        attrs: dict[str, Any] = {"cause": cause_of(result.outcome, train_accuracy, chance, start, convs)}
        if start is not None:
            attrs |= {"grad_ratio": _short(start.grad_ratio), "feature_cosine": _short(start.feature_cosine)}
        # one attribute for the rest: each is a row to read for everyone who opens the study
        packed = {name: asdict(measures) for name, measures in (("start", start), ("end", end)) if measures}
        return attrs | {"diagnostics": {k: {n: _short(x) for n, x in v.items()} for k, v in packed.items()}}

    def _frozen(self, trial: optuna.Trial) -> optuna.trial.FrozenTrial:
        return trial._cached_frozen_trial

    def _placement(self, trial: optuna.Trial, arm: str) -> dict[str, Any]:
        place = None
        if self.spec.search.design == "matched":
            place = place_of(self._frozen(trial), self.spec.space.block)
        return {"arm": arm, "group": place.group, "lead": place.lead} if place else {"arm": arm}

    def _replicate(
        self, trial: optuna.Trial, architecture: Architecture, config: TrainConfig
    ) -> tuple[int, dict[str, Any]]:
        """The seed to train with: never one with which this configuration was trained before."""
        fingerprint = configuration_fingerprint(architecture, config)
        earlier = [
            t
            for t in trial.study.get_trials(deepcopy=False)
            if t.number < trial.number and t.user_attrs.get("fingerprint") == fingerprint
        ]
        if not earlier:
            return config.seed, {}
        seed, used = config.seed, {t.user_attrs["seed"] for t in earlier}
        while seed in used:
            seed = (seed + trial.number + 1) % 2**31
        return seed, {"replicate_of": earlier[0].number}


def _short(value: float) -> float | None:
    """Four significant digits; JSON has no NaN."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")  # of CPU, CUDA, cuBLAS, cuDNN
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
