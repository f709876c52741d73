"""What a training run shows: after every epoch, and in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from search.data.batches import TrainingData, validation_batches
from search.training.diagnostics import Measures, Probe, watching

State = dict[str, Any]
"""The state of a run, in tensors and plain values: loading it runs no code."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch shows. Losses are mean cross-entropies, accuracies shares of images."""

    epoch: int
    """Its number, from 1."""
    train_loss: float
    train_accuracy: float
    """Share classified right as they were trained on: augmented, by the weights before each step."""
    val_loss: float
    val_accuracy: float
    measures: Measures | None
    """Measures of the epoch's last step and of validation images; None for networks that are not ours."""

    @staticmethod
    def of(values: State) -> EpochResult:
        """The result that asdict made `values` of."""
        measures = Measures(**values["measures"]) if values["measures"] else None
        return EpochResult(**{**values, "measures": measures})


@dataclass(frozen=True)
class TrainResult:
    """What a run shows in the end."""

    outcome: str
    """complete, stopped (by on_epoch), diverged or interrupted."""
    epochs: tuple[EpochResult, ...]
    seconds: float
    """Training seconds, those before an interruption included."""
    images_per_second: float
    """Images trained on per second of the whole run, validation included."""
    loss_at_start: float
    start: Measures | None
    """Measures of the first step; of the first epoch's last step where branches start at zero."""


@torch.no_grad()
def evaluate(
    network: nn.Module, data: TrainingData, autocast: torch.autocast, probe: Probe | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0 to 1) on the validation part, in evaluation mode; the probe
    watches the first batch."""
    network.eval()
    loss = torch.zeros((), device=data.device)
    right = torch.zeros((), dtype=torch.int64, device=data.device)
    for i, (images_BCHW, labels_B) in enumerate(validation_batches(data)):
        with autocast, watching(network, probe if i == 0 else None):
            logits_BK = network(images_BCHW)
        loss += F.cross_entropy(logits_BK.float(), labels_B, reduction="sum")
        right += (logits_BK.argmax(1) == labels_B).sum()
    count = len(data.val_labels_N)
    return loss.item() / count, right.item() / count
