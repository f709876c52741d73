"""Studies made by hand, as a search leaves them: plain stacks fail when deep, some trials are pruned."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from models.architecture import Architecture, Stage
from models.arms.arm import ARMS as REGISTRY
from search.storage.trial_record import TrialRecord
from search.views.findings import Findings, findings_of
from tests.support.arms import OURS


def made(
    number: int,
    arm: str,
    value: float | None = 0.9,
    *,
    group: int | None = 0,
    blocks: int = 3,
    state: TrialState = TrialState.COMPLETE,
    **attrs: Any,
) -> FrozenTrial:
    """A trial with the score `value`. It trains two points worse than it validates, so that the one taken for
    the other shows."""
    train = None if value is None else max(0.0, round(value - 0.02, 6))
    architecture = Architecture(
        image_shape=(1, 8, 8), classes=10, block=arm, stages=(Stage(width=16, blocks=blocks),)
    )
    outcome = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "error"}.get(state.name, "")
    start = datetime(2026, 1, 1)
    finished = state.is_finished()
    return optuna.trial.FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=value if finished and state != TrialState.FAIL else None,
        datetime_start=start,
        datetime_complete=start + timedelta(seconds=number) if finished else None,
        params={"block": arm},
        distributions={"block": optuna.distributions.CategoricalDistribution(list(REGISTRY))},
        user_attrs={
            "arm": arm, "group": group, "depth": architecture.depth, "params": 1234, "outcome": outcome,
            "architecture": architecture.to_json(), "train_accuracy": train, "val_accuracy": value,
            "epochs": 15, "train_seconds": 2.0, "images_per_second": 1000.0 + number,
        } | attrs,
        system_attrs={},
        intermediate_values={},
    )  # fmt: skip


def records(trials: Iterable[FrozenTrial]) -> list[TrialRecord]:
    return [TrialRecord(trial) for trial in trials]


def study_of(count: int, seed: int = 0, pruned: float = 0.3, **attrs: Any) -> list[FrozenTrial]:
    """`count` trials in groups of three, 1 to 27 blocks deep."""
    rng = random.Random(seed)
    trials: list[FrozenTrial] = []
    for number in range(count):
        group, place = divmod(number, 3)
        arm = OURS[place]
        if place == 0:
            blocks, luck = round(27 ** rng.random()), rng.gauss(0, 0.01)
        drop = max(0.0, blocks - 7) * (0.05 if arm == "plain" else 0.003)
        value = min(1.0, max(0.1, 0.98 - drop + luck + rng.gauss(0, 0.01)))
        state = TrialState.PRUNED if rng.random() < pruned else TrialState.COMPLETE
        trial = made(
            number, arm, value, group=group, blocks=blocks, state=state,
            macs=blocks * 300_000, params=blocks * 5_000, cause="fine" if value > 0.55 else "vanished",
            grad_ratio=-0.4 * blocks if arm == "plain" else rng.gauss(0, 0.3), fingerprint=f"{number}",
            feature_cosine=min(0.99, blocks / 20) if arm == "plain" else 0.4, **attrs,
        )  # fmt: skip
        epochs = rng.randint(1, 9) if state == TrialState.PRUNED else 15
        trial.intermediate_values = {epoch: value * epoch / (epoch + 1) for epoch in range(1, epochs + 1)}
        trials.append(trial)
    return trials


def deep_pairs(count: int, gain: float = 0.3, blocks: int = 13, first: int = 0) -> list[FrozenTrial]:
    """Pairs of plain and preact of 2 * blocks + 1 convs, preact ahead by about `gain`."""
    rng = random.Random(count)
    trials = []
    for i in range(count):
        plain = 0.6 + rng.gauss(0, 0.02)
        trials.append(made(first + 2 * i, "plain", plain, group=first + i, blocks=blocks))
        ours = plain + gain + (-1) ** i * 0.005
        trials.append(made(first + 2 * i + 1, "preact", ours, group=first + i, blocks=blocks))
    return trials


def findings(trials: list[FrozenTrial], name: str = "x") -> Findings:
    """The findings of a study in memory that holds the trials."""
    study = optuna.create_study(study_name=name, direction="maximize")
    study.add_trials(trials)
    return findings_of(study)


def keys_of(value: Any) -> Any:
    """The shape of a JSON value: keys, and of lists the first item."""
    if isinstance(value, dict):
        return {key: keys_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [keys_of(value[0])] if value else []
    return None


def shape_of(value: Any) -> Any:
    """The shape of a value as JSON has it."""
    return keys_of(json.loads(json.dumps(value, allow_nan=False)))
