"""What each arm was given and what became of it: trials, failures, budgets, noise. Exploratory.

Accuracies are in %, differences in points.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial

from search.runs import expected_best, failure_table, noise_floor
from search.scores import final_score, ran_to_the_end

UNEQUAL = 0.05
"""Share by which what arms were given may differ."""
BUDGETS = 24
"""Points of a budget curve, about."""


@dataclass(frozen=True)
class Failures:
    """Runs to the end that did not learn: diverged, or training accuracy below twice chance."""

    arm: str
    failed: int
    to_the_end: int
    p_against_plain: float | None
    """Fisher's exact test, two-sided, not corrected."""
    outcomes: dict[str, int]
    """Of all finished trials."""


@dataclass(frozen=True)
class Budget:
    """Expected best accuracy, %, of k trials of one arm; a pruned trial is spent and counts as chance."""

    arm: str
    trials: tuple[int, ...]
    expected: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Account:
    """What an arm was given."""

    arm: str
    trials: int
    to_the_end: int
    epochs: int
    seconds: float
    mean_params: float | None
    mean_macs: float | None


@dataclass(frozen=True)
class Noise:
    """Standard deviation over seeds of one configuration, points."""

    sd: float
    degrees_of_freedom: int


def classes_of(trials: Sequence[FrozenTrial]) -> int:
    """Ten where no trial says."""
    described_by = (t.user_attrs["architecture"] for t in trials if "architecture" in t.user_attrs)
    text = next(described_by, None)
    return max(2, int(json.loads(text).get("classes", 10))) if text else 10


def failures_of(arm: str, by_arm: Mapping[str, Sequence[FrozenTrial]], classes: int) -> Failures:
    def trained(trial: FrozenTrial) -> float:
        diverged = trial.user_attrs.get("outcome") == "diverged"
        value = trial.user_attrs.get("train_accuracy")
        return 1 / classes if diverged else final_score(trial) if value is None else float(value)

    ours, plain = (
        [trained(trial) for trial in by_arm.get(name, []) if ran_to_the_end(trial)] for name in (arm, "plain")
    )
    table = failure_table(ours, plain or ours, classes) if ours else None
    outcomes = Counter(t.user_attrs.get("outcome", t.state.name.lower()) for t in by_arm[arm])
    return Failures(
        arm=arm,
        failed=table.failed_a if table else 0,
        to_the_end=len(ours),
        p_against_plain=table.p if table and plain and arm != "plain" else None,
        outcomes=dict(outcomes),
    )


def budget_of(arm: str, trials: Sequence[FrozenTrial], chance: float) -> Budget | None:
    if not any(ran_to_the_end(trial) for trial in trials):
        return None
    trained = [trial for trial in trials if trial.user_attrs.get("epochs") or ran_to_the_end(trial)]
    scores = [100 * (final_score(trial) if ran_to_the_end(trial) else chance) for trial in trained]
    n = len(scores)
    ks = sorted({round(n ** (i / BUDGETS)) for i in range(BUDGETS + 1)})
    curve = expected_best(scores, ks)
    return Budget(arm, *(tuple(round(x, 3) for x in row) for row in asdict(curve).values()))


def noise_of(trials: Sequence[FrozenTrial]) -> Noise | None:
    scores: dict[Any, list[float]] = defaultdict(list)
    for trial in trials:
        if ran_to_the_end(trial) and "fingerprint" in trial.user_attrs:
            scores[trial.user_attrs["fingerprint"]].append(100 * final_score(trial))
    replicated = [group for group in scores.values() if len(group) > 1]
    return Noise(*asdict(noise_floor(replicated)).values()) if replicated else None


def account_of(arm: str, trials: Sequence[FrozenTrial]) -> Account:
    def mean(name: str) -> float | None:
        values = [t.user_attrs[name] for t in trials if t.user_attrs.get(name) is not None]
        return statistics.fmean(values) if values else None

    return Account(
        arm=arm,
        trials=len(trials),
        to_the_end=sum(ran_to_the_end(trial) for trial in trials),
        epochs=sum(trial.user_attrs.get("epochs", 0) for trial in trials),
        seconds=round(sum(trial.user_attrs.get("train_seconds", 0.0) for trial in trials), 1),
        mean_params=mean("params"),
        mean_macs=mean("macs"),
    )


def unequal_columns(ledger: Sequence[Account]) -> tuple[str, ...]:
    found = []
    for column in ("trials", "epochs", "seconds", "mean_params", "mean_macs"):
        values = [value for account in ledger if (value := getattr(account, column)) is not None]
        if values and max(values) - min(values) > UNEQUAL * max(values):
            found.append(column)
    return tuple(found)
