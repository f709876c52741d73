"""A study as a value: what is trained, over which space, searched how."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from search.datasets import DataConfig


@dataclass(frozen=True, kw_only=True)
class Range:
    """Whole numbers if both ends are, else floats. Both ends included."""

    low: float
    high: float
    log: bool = False


NEAR = 1.35
"""Factor of depth up to which networks are peers, when one is pruned and when recipes are chosen: 15 to 27
convs for 20."""

Domain = Range | tuple[Any, ...]
"""A range, or choices; one choice is a fixed value."""


@dataclass(frozen=True, kw_only=True)
class Space:
    block: tuple[str, ...]
    """The arms, in the order in which they take turns as lead."""
    blocks: Domain
    """Per stage."""
    widths: tuple[tuple[int, ...], ...]
    """Choices for each stage, in channels."""
    norm: tuple[str, ...]
    init: tuple[str, ...]
    zero_branch: tuple[bool, ...]
    optimizer: tuple[str, ...]
    lr_sgd: Domain
    lr_adamw: Domain
    weight_decay: Domain
    warmup: Domain
    """Share of all optimizer steps."""
    max_params: int | None
    kernel: int
    padding: str
    stem_pool: bool
    transition: str
    head: str


def depth_of(space: Space, blocks: int) -> int:
    """Convs of a network with so many blocks in all; Architecture.depth of a network yet to be made."""
    transitions = len(space.widths) - 1 if space.transition == "pool" else 0
    return 1 + transitions + 2 * blocks


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    epochs: int = 15
    batch_size: int = 64
    precision: str = "auto"
    """auto: bfloat16 autocast on a GPU that has it, else float32."""
    momentum: float = 0.9
    """Of SGD."""
    clip: float | None = None
    """Largest norm of the gradient; left out: no clipping."""
    label_smoothing: float = 0.0
    crop: int = 0
    """Random crops after padding with so many pixels; 0: none."""
    flip: bool = False
    """Random horizontal flips."""
    schedule: str = "cosine"
    """Of the learning rate after warm-up: cosine to 0, or step: a tenth after half of the steps, a hundredth
    after three quarters, as He et al. 2015 trained CIFAR-10."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    design: str = "matched"
    """matched: every draw is trained as each arm; free: Optuna alone decides, the block included."""
    sampler: str = "tpe"
    pruner: str = "hyperband"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings:
    """For a confirmation of what a search suggests. No part of the search: it may change in between."""

    depths: tuple[int, ...] = (8, 14, 20, 32, 44)
    """In convs."""
    seeds: int = 10
    margin: float = 1.0
    """Percentage points that count as a difference."""


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    name: str
    data: DataConfig
    space: Space
    train: TrainSettings
    search: SearchSettings
    confirm: ConfirmSettings

    def canonical(self) -> dict[str, Any]:
        """Everything that decides a result, as JSON has it. Not the name, nor where the data lies: its
        fingerprint is compared instead; nor how the search will be confirmed."""
        values = asdict(self)
        del values["name"], values["confirm"], values["data"]["path"]
        if values["train"]["schedule"] == "cosine":  # the only one when the first studies were made
            del values["train"]["schedule"]
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    @staticmethod
    def from_canonical(name: str, values: dict[str, Any]) -> StudySpec:
        """The spec that a study was made with, but for where its data lie and how it is to be confirmed."""
        return StudySpec(
            name=name,
            data=DataConfig(**values["data"]),
            space=Space(**{key: _domain(value) for key, value in values["space"].items()}),
            train=TrainSettings(**values["train"]),
            search=SearchSettings(**values["search"]),
            confirm=ConfirmSettings(),
        )

    def fingerprint(self) -> str:
        """16 hex digits of the canonical spec."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()[:16]


def _domain(value: Any) -> Any:
    """As it was before JSON, which has no tuples."""
    if isinstance(value, dict):
        return Range(**value)
    return tuple(_domain(item) for item in value) if isinstance(value, list) else value


def differences(stored: dict[str, Any], given: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for each key whose value is not the same in two canonical specs."""
    lines = []
    for key in sorted(stored.keys() | given.keys()):
        old, new = stored.get(key, "(absent)"), given.get(key, "(absent)")
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {json.dumps(old)} in the study, {json.dumps(new)} now")
    return lines
