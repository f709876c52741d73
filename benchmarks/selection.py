"""What selection by the lead does to a search's estimates: its stopped groups are trained to their ends after
all, and gains of whole groups are set against gains of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.curves import Recorder
from search.analysis.bands import halves_of
from search.analysis.trials import described
from search.design.space import values_of
from search.stats.trimmed import trimmed_mean
from search.storage.trial_record import TrialRecord


def completed(trials: Sequence[TrialRecord], recorder: Recorder) -> list[dict[str, Any]]:
    """For each rival and half of depths: the gain in points over whole groups, over all, and their numbers.
    Trains what is missing, each run in a thread of a CPU."""
    groups: dict[int, list[TrialRecord]] = defaultdict(list)
    for trial in described(trials):
        if trial.group is not None:
            groups[trial.group].append(trial)
    arms = recorder.spec.space.block
    rivals = [arm for arm in arms if arm != recorder.spec.search.baseline]
    found = []
    for half, upper in zip(halves_of(described(trials)), (False, True), strict=True):
        whole, every = [], []
        for members in groups.values():
            if not half.has(members[0]):
                continue
            ended = {trial.arm: trial.score for trial in members if trial.ran_to_the_end}
            lacking = [arm for arm in arms if arm not in ended]
            every.append(ended | {arm: _score(members[0], arm, recorder) for arm in lacking})
            if len(ended) == len(arms):
                whole.append(ended)
        for arm in rivals:
            found.append(
                {"arm": arm, "upper": upper, "whole": _gain(whole, arm, recorder), "groups": len(whole),
                 "every": _gain(every, arm, recorder), "of": len(every)}
            )  # fmt: skip
    return found


def _score(trial: TrialRecord, arm: str, recorder: Recorder) -> float:
    """The score of an arm under a trial's draw."""
    assert trial.seed is not None
    values = values_of(trial.drawn, recorder.spec.space) | {"block": arm}
    return recorder.run(values, trial.seed).value(recorder.chance)


def _gain(groups: Sequence[Mapping[str, float]], arm: str, recorder: Recorder) -> float | None:
    """The location of the differences, in points."""
    base = recorder.spec.search.baseline
    return trimmed_mean([100 * (group[arm] - group[base]) for group in groups]) if groups else None
