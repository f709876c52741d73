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
from optuna.trial import FrozenTrial, TrialState

from models.architecture import Architecture
from models.cost import measure_cost
from models.network import Network, build
from search.arms import place_of, training_seed
from search.artifacts import keep_if_best
from search.attempt import Attempt, Setup, described
from search.checkpoints import StudyCheckpoints
from search.claims import ClaimStorage
from search.data import TrainingData
from search.diagnostics import cause_of
from search.errors import DeviceError, SearchError
from search.evaluation import TrainResult
from search.leases import ClaimLost
from search.reporter import WAIT, Reporter
from search.room import admission
from search.space import configuration_fingerprint, make_architecture, make_config, suggest
from search.spec import StudySpec
from search.train import train

LAST_EPOCHS = 3
"""A trial's value is the mean validation accuracy of so many last epochs: a maximum would reward luck."""
PASSING = (SearchError, ClaimLost, optuna.exceptions.StorageInternalError)
"""Errors that are not of a trial's own making."""
MAX_TRACEBACK = 8000
"""Characters kept of an error, its end."""


@dataclass(frozen=True)
class Ending:
    """What is recorded of a trial in the end. `value`: validation accuracy, 0 to 1."""

    outcome: str
    state: TrialState
    value: float
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Objective:
    """Of a search."""

    spec: StudySpec
    data: TrainingData
    image_shape: tuple[int, int, int]
    claims: ClaimStorage
    checkpoints: StudyCheckpoints

    def run(self, trial: optuna.Trial, interrupted: Callable[[], bool]) -> str:
        """Trains the trial and finishes it in the database. Returns its outcome; after "interrupted" the
        trial is still this worker's and unfinished. Raises ClaimLost.
        """
        setup = self.begin(trial)
        return self.train(trial, setup, interrupted) if setup else "infeasible"

    def begin(self, trial: optuna.Trial) -> Setup | None:
        """Records what the trial will train. None where that is infeasible, and the trial has finished."""
        setup = self.set_up(trial)
        cost = measure_cost(setup.architecture)
        attrs = described(setup) | {"params": cost.params, "macs": cost.macs} | setup.attrs
        self.claims.annotate(trial._trial_id, attrs)
        cap = self.spec.space.max_params
        if cap is not None and cost.params > cap:
            self.claims.finish(
                trial._trial_id, TrialState.PRUNED, None, {"outcome": "infeasible", "epochs": 0}
            )
            return None
        return setup

    def set_up(self, trial: optuna.Trial) -> Setup:
        frozen = trial._cached_frozen_trial
        values = suggest(trial, self.spec.space)
        architecture = make_architecture(values, self.spec.space, self.image_shape, self.data.classes)
        seed = trial.user_attrs.get("seed", training_seed(self.spec, frozen))
        fingerprint = configuration_fingerprint(architecture, make_config(values, self.spec, seed))
        seed, replicate = _replicate(trial, fingerprint, seed)
        matched = self.spec.search.design == "matched"
        place = place_of(frozen, self.spec.space.block) if matched else None
        group = {"group": place.group, "lead": place.lead} if place else {}
        return Setup(architecture, make_config(values, self.spec, seed), self.data, group | replicate)

    def conclude(
        self, trial: optuna.Trial, setup: Setup, network: Network, result: TrainResult, ending: Ending
    ) -> dict[str, Any]:
        """What is left to do before the trial is finished, and attributes that come of it."""
        if ending.outcome == "complete":
            keep_if_best(trial, ending.value, setup.architecture, network, setup.data, result.epochs)
        return {}

    def build(self, trial: optuna.Trial, setup: Setup) -> Network:
        return build(setup.architecture, setup.config.seed)

    def attempt(self, trial: optuna.Trial, setup: Setup, wait: float = WAIT) -> Attempt:
        """To be closed."""
        identity = described(setup) | {"spec": self.spec.fingerprint(), "torch": torch.__version__}
        kept = self.checkpoints.trial(trial.number, self.claims.worker or "", identity)
        return Attempt(trial, setup, kept, Reporter(trial, wait))

    def train(self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]) -> str:
        images, device = len(setup.data.train_NHWC), setup.data.device
        try:
            refused = admission(setup.architecture, setup.config, images, device, interrupted)
        except Exception as error:
            return self.fail(trial, error)
        if refused:
            if refused == "oom":
                self.claims.finish(trial._trial_id, TrialState.PRUNED, None, {"outcome": "oom"})
            return refused
        attempt = self.attempt(trial, setup)
        keep = attempt.kept.keep
        try:
            network = self.build(trial, setup)
            resume = attempt.kept.newest()
            attempt.replay(resume)
            result = train(network, setup.data, setup.config, attempt.report, interrupted, keep, resume)
            ending = self.ending(attempt, network, result, interrupted)
        except PASSING:
            raise
        except Exception as error:
            outcome = self.fail(trial, error)
            attempt.kept.remove()
            return outcome
        finally:
            attempt.close()
            network = None  # type: ignore[assignment]
            free(device)
        return self.finish(attempt, ending) if ending else "interrupted"

    def ending(
        self, attempt: Attempt, network: Network, result: TrainResult, interrupted: Callable[[], bool]
    ) -> Ending | None:
        """None for a run that was interrupted, also while its reports were written."""
        if result.outcome == "interrupted" or not attempt.reporter.flush(interrupted):
            return None
        trial, setup = attempt.trial, attempt.setup
        ending = ending_of(setup.architecture, setup.data.classes, result)
        ending.attrs.update(self.conclude(trial, setup, network, result, ending))
        return ending

    def finish(self, attempt: Attempt, ending: Ending) -> str:
        self.claims.finish(attempt.trial._trial_id, ending.state, ending.value, ending.attrs)
        attempt.kept.remove()
        return ending.outcome

    def fail(self, trial: optuna.Trial, error: Exception) -> str:
        """Deterministic errors are not tried again. Raises DeviceError when the GPU failed: no trial runs in
        this process any more, and this one is for another worker."""
        out_of_memory = is_out_of_memory(error)
        if _is_device_failure(error) and not out_of_memory:
            self.claims.release(trial._trial_id, spent=traceback.format_exc()[-MAX_TRACEBACK:])
            raise_device_failure(error)
        attrs: dict[str, Any] = {"outcome": "oom" if out_of_memory else "error"}
        if not out_of_memory:
            attrs["error"] = traceback.format_exc()[-MAX_TRACEBACK:]
        state = TrialState.PRUNED if out_of_memory else TrialState.FAIL
        self.claims.finish(trial._trial_id, state, None, attrs)
        return str(attrs["outcome"])


def free(device: torch.device) -> None:
    """What is no longer used of a GPU's memory, for others."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def ending_of(architecture: Architecture, classes: int, result: TrainResult) -> Ending:
    """Of a run that was not interrupted. One that diverged is complete at chance: the sampler learns from it
    and no statistic loses it."""
    outcome = "pruned" if result.outcome == "stopped" else result.outcome
    chance = 1 / classes
    last = result.epochs[-1] if result.epochs else None
    recent = [epoch.val_accuracy for epoch in result.epochs[-LAST_EPOCHS:]]
    accuracy = chance if outcome == "diverged" else sum(recent) / len(recent)
    attrs: dict[str, Any] = {
        "outcome": outcome,
        "epochs": len(result.epochs),
        "train_accuracy": last.train_accuracy if last else chance,
        "val_accuracy": accuracy,
        "val_loss": last.val_loss if last and math.isfinite(last.val_loss) else None,
        "train_seconds": round(result.seconds, 3),
        "images_per_second": round(result.images_per_second, 1),
        "loss_at_start": result.loss_at_start if math.isfinite(result.loss_at_start) else None,
    }
    attrs |= _diagnosis(architecture, result, attrs["train_accuracy"], chance)
    if outcome == "pruned":  # Optuna's meaning of a pruned trial's value: the last one reported
        return Ending(outcome, TrialState.PRUNED, recent[-1], attrs)
    return Ending(outcome, TrialState.COMPLETE, accuracy, attrs)


def _diagnosis(
    architecture: Architecture, result: TrainResult, train_accuracy: float, chance: float
) -> dict[str, Any]:
    start, end = result.start, result.epochs[-1].measures if result.epochs else None
    convs = 2 * architecture.blocks
    attrs: dict[str, Any] = {"cause": cause_of(result.outcome, train_accuracy, chance, start, convs)}
    if start is not None:
        attrs |= {"grad_ratio": _short(start.grad_ratio), "feature_cosine": _short(start.feature_cosine)}
    # one attribute for the rest: each is a row to read for everyone who opens the study
    packed = {name: asdict(measures) for name, measures in (("start", start), ("end", end)) if measures}
    return attrs | {"diagnostics": {k: {n: _short(x) for n, x in v.items()} for k, v in packed.items()}}


def _replicate(trial: optuna.Trial, fingerprint: str, seed: int) -> tuple[int, dict[str, Any]]:
    """The seed to train with: never one with which this configuration was trained before."""
    earlier: list[FrozenTrial] = [
        t
        for t in trial.study.get_trials(deepcopy=False)
        if t.number < trial.number and t.user_attrs.get("fingerprint") == fingerprint
    ]
    if not earlier:
        return seed, {}
    used = {t.user_attrs["seed"] for t in earlier}
    while seed in used:
        seed = (seed + trial.number + 1) % 2**31
    return seed, {"replicate_of": earlier[0].number}


def _short(value: float) -> float | None:
    """Four significant digits; JSON has no NaN."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def raise_device_failure(error: Exception) -> None:
    """Raises DeviceError where it was the GPU that failed: no trial runs in this process any more."""
    if _is_device_failure(error) and not is_out_of_memory(error):
        raise DeviceError(f"the GPU failed: {str(error).splitlines()[0]}") from error


def _is_device_failure(error: Exception) -> bool:
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)


def is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")  # of CPU, CUDA, cuBLAS, cuDNN
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
