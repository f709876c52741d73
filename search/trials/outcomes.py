"""What is recorded of a training run in the end."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import TrialState

from models.architecture import Architecture
from search.storage.trial_record import TrialRecord
from search.training.diagnostics import cause_of
from search.training.results import TrainResult

LAST_EPOCHS = 3
"""A trial's value is the mean validation accuracy of so many last epochs: a maximum would reward luck."""


@dataclass(frozen=True)
class Ending:
    """What came of a run that was not interrupted."""

    outcome: str
    state: TrialState
    value: float
    """Validation accuracy, 0 to 1."""
    attributes: dict[str, Any]
    """User attributes to be stored, TrialRecord's."""


def ending_of(architecture: Architecture, classes: int, result: TrainResult) -> Ending:
    """The ending of a run that was not interrupted. One that diverged is complete at chance: the sampler
    learns from it and no statistic loses it."""
    outcome = "pruned" if result.outcome == "stopped" else result.outcome
    chance = 1 / classes
    last = result.epochs[-1] if result.epochs else None
    recent = [epoch.val_accuracy for epoch in result.epochs[-LAST_EPOCHS:]]
    accuracy = chance if outcome == "diverged" else sum(recent) / len(recent)
    train_accuracy = last.train_accuracy if last else chance
    attributes = TrialRecord.attributes(
        outcome=outcome,
        epochs=len(result.epochs),
        train_accuracy=train_accuracy,
        val_accuracy=accuracy,
        val_loss=_finite(last.val_loss) if last else None,
        train_seconds=round(result.seconds, 3),
        images_per_second=round(result.images_per_second, 1),
        loss_at_start=_finite(result.loss_at_start),
        **_diagnosis(architecture, result, train_accuracy, chance),
    )
    if outcome == "pruned":  # Optuna's meaning of a pruned trial's value: the last one reported
        return Ending(outcome, TrialState.PRUNED, recent[-1], attributes)
    return Ending(outcome, TrialState.COMPLETE, accuracy, attributes)


def _diagnosis(
    architecture: Architecture, result: TrainResult, train_accuracy: float, chance: float
) -> dict[str, Any]:
    """Fields of TrialRecord: why it learned or did not."""
    start, end = result.start, result.epochs[-1].measures if result.epochs else None
    convs = sum(part.depth for part in architecture.parts if part.kind == "block")
    # one attribute for the rest: each is a row to read for everyone who opens the study
    measured = {name: asdict(measures) for name, measures in (("start", start), ("end", end)) if measures}
    gradients = {when: [round(x, 2) for x in v.pop("conv_gradients")] for when, v in measured.items()}
    return {
        "gradients": gradients or None,
        "cause": cause_of(result.outcome, train_accuracy, chance, start, convs),
        "grad_ratio": _four_digits(start.grad_ratio) if start else None,
        "feature_cosine": _four_digits(start.feature_cosine) if start else None,
        "diagnostics": {
            when: {name: _four_digits(x) for name, x in v.items()} for when, v in measured.items()
        },
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _four_digits(value: float) -> float | None:
    """The value in four significant digits; None where it is not finite."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
