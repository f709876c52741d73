"""What a person sees of a repeat: what is trained, its epochs beside those of then, what came of it."""

from __future__ import annotations

from typing import Any

from search.storage.attributes import Attribute
from search.storage.studies import versions
from search.storage.study_record import StudyRecord
from search.storage.trial_record import TrialRecord
from search.training.results import EpochResult
from search.trials.listeners import Listener
from search.trials.repetition import Repetition, difference
from search.views.terminal import recipe_line

TOLD: dict[str, tuple[Attribute[Any], float | None]] = {
    "validation accuracy, %": (TrialRecord.val_accuracy, 100),
    "training accuracy, %": (TrialRecord.train_accuracy, 100),
    "depth, convs": (TrialRecord.depth, 1),
    "parameters": (TrialRecord.num_params, 1),
    "log10 gradient ratio": (TrialRecord.grad_ratio, 1),
    "feature cosine": (TrialRecord.feature_cosine, 1),
    "ended": (TrialRecord.cause, None),
}
"""What is told of a changed trial: its attribute, and the factor to show it with."""


class EpochLines(Listener):
    """A line for every epoch, with the accuracy that the stored trial had."""

    def __init__(self, origin: TrialRecord, epochs: int) -> None:
        self.origin, self.epochs = origin, epochs

    def epoch_ended(self, result: EpochResult) -> bool:
        then = self.origin.reported.get(result.epoch)
        before = "" if then is None else f", then {100 * then:.1f} %"
        print(
            f"epoch {result.epoch}/{self.epochs}: training {100 * result.train_accuracy:.1f} %, "
            f"validation {100 * result.val_accuracy:.1f} %{before}",
            flush=True,
        )
        return False


def introduce(study: str, origin: TrialRecord, changes: dict[str, Any]) -> None:
    """What is about to be trained."""
    print(f"trial {origin.number} of {study}: {recipe_line(origin)}")
    if changes:
        print("changed: " + ", ".join(f"{name} = {value}" for name, value in changes.items()))


def tell_result(
    origin: TrialRecord, repetition: Repetition, changes: dict[str, Any], stored: StudyRecord
) -> None:
    """What came of it, beside what was then."""
    now = repetition.attributes
    if changes:
        for name, (attribute, scale) in TOLD.items():
            then = origin.stored.get(attribute.name)
            print(f"{name}: {_shown(then, scale)} then, {_shown(now.get(attribute.name), scale)} now")
        if origin.outcome == "pruned":
            print(f"(then: pruned after {origin.epochs} epochs; now: trained to the end)")
        return
    print(difference(origin, repetition))
    machine = origin.device, stored.versions.get("torch")
    here = now[TrialRecord.device.name], versions()["torch"]
    if machine != here:
        print(f"then on {machine[0]} with torch {machine[1]}, now on {here[0]} with torch {here[1]}")


def _shown(value: Any, scale: float | None) -> str:
    if value is None or scale is None:
        return "-" if value is None else str(value)
    return f"{scale * value:,.4g}" if isinstance(value, float) else f"{scale * value:,}"
