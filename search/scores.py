"""What a trial scored, and trials by arm, depth and draw: what every table and figure begins with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from models.architecture import BLOCKS

BANDS = (8, 14, 20, 32, 44, 56, 110)
"""Upper ends of the depth bands, in convs."""
TIE = 0.01
"""Accuracies closer than one point are a tie: seeds alone move a trained digits net by 0.75 points."""


def depth_band(depth: int) -> str:
    low = 1
    for high in BANDS:
        if depth <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"{low}+"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def ran_to_the_end(trial: FrozenTrial) -> bool:
    """Complete and diverged trials have a final score; a pruned one has only where it was stopped."""
    return trial.state == TrialState.COMPLETE


def final_score(trial: FrozenTrial) -> float:
    assert trial.value is not None, "of a trial that ran to the end"
    return trial.value


def arms_of(trials: Sequence[FrozenTrial]) -> list[str]:
    present = {trial.user_attrs.get("arm") for trial in trials}
    return [arm for arm in BLOCKS if arm in present]


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    scored = [trial for trial in trials if ran_to_the_end(trial)]
    return max(scored, key=lambda trial: (final_score(trial), -trial.number)) if scored else None


def groups_of(trials: Sequence[FrozenTrial]) -> list[dict[str, FrozenTrial]]:
    """The trials of each draw by arm, in order of their groups."""
    groups: dict[int, dict[str, FrozenTrial]] = defaultdict(dict)
    for trial in trials:
        if "group" in trial.user_attrs:
            groups[trial.user_attrs["group"]][trial.user_attrs["arm"]] = trial
    return [groups[number] for number in sorted(groups)]


def outcome_counts(trials: Sequence[FrozenTrial]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for trial in trials:
        if trial.state.is_finished():
            counts[trial.user_attrs.get("outcome", trial.state.name.lower())] += 1
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none"
