"""The price of an architecture, summed over its parts: no network is built for it."""

from __future__ import annotations

from dataclasses import dataclass

from models.architecture import Architecture
from models.norms import NORMS


@dataclass(frozen=True)
class Cost:
    """The price of a network."""

    params: int
    """Trained numbers."""
    macs: int
    """Multiply-adds of convolutions and classifier for one image, forward."""


def measure_cost(architecture: Architecture) -> Cost:
    """The price of an architecture's network, in whatever size."""
    norm, features, classes = NORMS[architecture.norm], architecture.features, architecture.classes
    params = sum(part.params(norm) for part in architecture.parts)
    macs = sum(part.macs for part in architecture.parts)
    return Cost(params + (features + 1) * classes, macs + features * classes)
