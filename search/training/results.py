"""What a training run shows: after every epoch, on validation images, and in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from search.data.batches import TrainingData, validation_batches
from search.training.diagnostics import Measures, Probe, watching

State = dict[str, Any]
"""Where a run stands, in tensors and plain values: loading it runs no code."""


@dataclass(frozen=True)
class EpochResult:
    epoch: int
    """From 1."""
    train_loss: float
    train_accuracy: float
    """Share of the epoch's images classified right as they were trained on."""
    val_loss: float
    val_accuracy: float
    measures: Measures | None
    """Measured at the epoch's last step and on validation images; None for networks that are not ours."""

    @staticmethod
    def of(values: State) -> EpochResult:
        """The result that asdict made `values` of."""
        measures = Measures(**values["measures"]) if values["measures"] else None
        return EpochResult(**{**values, "measures": measures})


@dataclass(frozen=True)
class TrainResult:
    outcome: str
    """complete; stopped, by on_epoch; diverged; interrupted, in mid-epoch."""
    epochs: tuple[EpochResult, ...]
    seconds: float
    """Training seconds, those before an interruption included."""
    images_per_second: float
    """Images trained on by second; validation counts in the time."""
    loss_at_start: float
    start: Measures | None
    """Measured at the first step; at the first epoch's last step where branches start at zero."""


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
