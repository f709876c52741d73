"""The account of each arm, its trials and failures, budgets, and the noise of seeds. Exploratory.

Accuracies are in %, differences in points.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from search.analysis.trials import outcomes_of
from search.stats.runs import compare_failures, expected_best, noise_floor
from search.storage.trial_record import TrialRecord

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
    p_against_baseline: float | None
    """p of Fisher's exact test, two-sided, not corrected."""
    outcomes: dict[str, int]
    """Numbers of all finished trials, by their ends."""


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
    """The trials and the resources that an arm was given."""

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


def classes_of(trials: Sequence[TrialRecord]) -> int:
    """The number of classes of the images; ten where no trial says."""
    text = next((trial.architecture_json for trial in trials if trial.architecture_json), None)
    return max(2, int(json.loads(text).get("classes", 10))) if text else 10


def failures_of(
    arm: str, by_arm: Mapping[str, Sequence[TrialRecord]], baseline: str, classes: int
) -> Failures:
    """The failures of an arm, against those of the baseline."""

    def trained(trial: TrialRecord) -> float:
        if trial.diverged:
            return 1 / classes
        return trial.score if trial.train_accuracy is None else trial.train_accuracy

    ours, theirs = (
        [trained(trial) for trial in by_arm.get(name, []) if trial.ran_to_the_end] for name in (arm, baseline)
    )
    table = compare_failures(ours, theirs or ours, classes) if ours else None
    return Failures(
        arm=arm,
        failed=table.failed_a if table else 0,
        to_the_end=len(ours),
        p_against_baseline=table.p if table and theirs and arm != baseline else None,
        outcomes=outcomes_of(by_arm[arm]),
    )


def budget_of(arm: str, trials: Sequence[TrialRecord], chance: float) -> Budget | None:
    """The budget curve of an arm's trials; None where none ran to the end."""
    if not any(trial.ran_to_the_end for trial in trials):
        return None
    trained = [trial for trial in trials if trial.epochs or trial.ran_to_the_end]
    scores = [100 * (trial.score if trial.ran_to_the_end else chance) for trial in trained]
    n = len(scores)
    ks = sorted({round(n ** (i / BUDGETS)) for i in range(BUDGETS + 1)})
    curve = expected_best(scores, ks)
    return Budget(arm, *(tuple(round(x, 3) for x in row) for row in asdict(curve).values()))


def noise_of(trials: Sequence[TrialRecord]) -> Noise | None:
    """The noise of configurations that ran under several seeds; None where there is none."""
    scores: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.ran_to_the_end and trial.fingerprint:
            scores[trial.fingerprint].append(100 * trial.score)
    replicated = [group for group in scores.values() if len(group) > 1]
    return Noise(*asdict(noise_floor(replicated)).values()) if replicated else None


def account_of(arm: str, trials: Sequence[TrialRecord]) -> Account:
    """The account of an arm from its trials."""
    return Account(
        arm=arm,
        trials=len(trials),
        to_the_end=sum(trial.ran_to_the_end for trial in trials),
        epochs=sum(trial.epochs for trial in trials),
        seconds=round(sum(trial.train_seconds or 0.0 for trial in trials), 1),
        mean_params=_mean([trial.num_params for trial in trials]),
        mean_macs=_mean([trial.macs for trial in trials]),
    )


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def unequal_columns(accounts: Sequence[Account]) -> tuple[str, ...]:
    """Names of the columns in which arms differ by more than UNEQUAL."""
    found = []
    for column in ("trials", "epochs", "seconds", "mean_params", "mean_macs"):
        values = [value for account in accounts if (value := getattr(account, column)) is not None]
        if values and max(values) - min(values) > UNEQUAL * max(values):
            found.append(column)
    return tuple(found)
