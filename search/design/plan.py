"""The plan of a confirmation, its networks and its hypotheses, written down before the first run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.arms.arm import look
from search.spec.tables import DEFAULT_BASELINE
from search.stats.paired import ALPHA, MIN_PAIRS


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The best recipe of one arm near one depth, by validation accuracy."""

    arm: str
    depth: int
    """Convs; `params` makes a network of exactly this depth."""
    trial: int
    """Number of the trial in the search."""
    trial_depth: int
    val_accuracy: float
    """Validation accuracy of that trial: the best of `candidates`, so a lucky one."""
    candidates: int
    params: dict[str, Any]
    """Optuna's parameters, but for the block."""
    seconds: float
    """Training seconds of one run to the end, estimated from the trial by price."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One network to train."""

    arm: str
    depth: int
    """Convs."""
    replicate: int
    """Number of its seed, from 0; all runs of the replicate share it."""
    best_of: tuple[str, ...]
    """The arms of which the recipe is the best."""
    twins: int
    """A number that the runs of this recipe with this seed share: they differ in the block alone."""
    params: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Recipes, seeds and hypotheses of a confirmation. More seeds may be added, and then it says so."""

    search: str
    """Name of the study that the recipes come from."""
    trials: int
    """Finished trials of the search when the recipes were chosen."""
    margin: float
    """Points that count as a difference."""
    seeds: tuple[int, ...]
    """Number of seeds at first, then after each addition."""
    epochs: int
    steps: int
    """Optimizer steps of every run."""
    choices: tuple[Choice, ...]
    baseline: str = DEFAULT_BASELINE
    """The arm that the others are held against."""

    @property
    def rivals(self) -> list[str]:
        """All arms but the baseline."""
        return [arm for arm in self.arms if arm != self.baseline]

    @property
    def depths(self) -> list[int]:
        """Depths with a recipe, shallow first."""
        return sorted({choice.depth for choice in self.choices})

    @property
    def arms(self) -> list[str]:
        """Arms with a recipe, in the order of the choices."""
        return list(dict.fromkeys(choice.arm for choice in self.choices))

    def choice(self, arm: str, depth: int) -> Choice | None:
        """The recipe of an arm at a depth; None where the search has none."""
        return next((c for c in self.choices if (c.arm, c.depth) == (arm, depth)), None)

    @property
    def shallow(self) -> int | None:
        """The depth that the baseline's deepest networks are held against: of those above it, the one whose
        recipe validated best in the search. None where the baseline has one depth only."""
        own = sorted((c for c in self.choices if c.arm == self.baseline), key=lambda c: c.depth)
        return max(own[:-1], key=lambda c: (c.val_accuracy, -c.depth)).depth if len(own) > 1 else None

    def least_seeds(self) -> int:
        """The number of seeds below which no "beats" can be earned at a single depth: the least p of all sign
        flips is too large after Holm."""
        return next(n for n in range(MIN_PAIRS, 100) if len(self.depths) * 2.0 ** (1 - n) < ALPHA)

    def hypotheses(self) -> dict[str, str]:
        """The hypotheses in words, by name; those on depth where the baseline has two depths or more."""
        rivals, baseline = " and ".join(self.rivals), self.baseline
        deepest, points = max(self.depths), f"{self.margin:g} point{'s' * (self.margin != 1)}"
        at_each_depth = {
            "beats": f"At each depth, {rivals} against {baseline}, each under its own best recipe: the mean "
            f"paired difference of test accuracy exceeds {points} (95 % interval above it, "
            "sign-flip p below 0.05 after Holm over the depths).",
            "twins": f"The same with one recipe for both, {baseline}'s best and the rival's best: equal "
            "initial weights, split and batches, only the block differs.",
        }
        if self.shallow is None:
            return at_each_depth
        return at_each_depth | {
            "degradation": f"{look(baseline).noun.capitalize()}s of {deepest} convs train worse than those "
            f"of {self.shallow}: the mean paired difference of training accuracy is below 0.",
            "interaction": f"From {min(self.depths)} to {deepest} convs, {baseline} loses more test accuracy "
            f"than {rivals}.",
        }

    def runs(self) -> Iterator[PlannedRun]:
        """The networks to train, seed by seed: an unfinished confirmation has whole replicates, and one with
        more seeds begins with the same runs."""
        recipes = [recipe for depth in self.depths for recipe in self._recipes(depth)]
        for replicate in range(self.seeds[-1]):
            for i, (best_of, choice) in enumerate(recipes):
                base = self.baseline
                arms = [a for a in self.arms if base in best_of or a == base or a in best_of]
                for arm in arms:
                    yield PlannedRun(
                        arm=arm,
                        depth=choice.depth,
                        replicate=replicate,
                        best_of=best_of,
                        twins=replicate * len(recipes) + i,
                        params=choice.params,
                    )

    def _recipes(self, depth: int) -> list[tuple[tuple[str, ...], Choice]]:
        """The different recipes of a depth, each with the arms of which it is the best."""
        found: dict[str, tuple[tuple[str, ...], Choice]] = {}
        for choice in self.choices:
            if choice.depth == depth:
                key = json.dumps(choice.params, sort_keys=True)
                best_of, first = found.get(key, ((), choice))
                found[key] = ((*best_of, choice.arm), first)
        return list(found.values())

    def seconds(self) -> float:
        """Training seconds in all, on one core or device like the search's; an estimate."""
        estimates = {(c.depth, json.dumps(c.params, sort_keys=True)): c.seconds for c in self.choices}
        return sum(estimates[run.depth, json.dumps(run.params, sort_keys=True)] for run in self.runs())

    def with_seeds(self, seeds: int) -> Plan:
        """The plan with seeds added; none are taken away."""
        return self if seeds <= self.seeds[-1] else replace(self, seeds=(*self.seeds, seeds))

    def to_json(self) -> dict[str, Any]:
        """The plan as it is stored, hypotheses included."""
        values = asdict(self) | {"hypotheses": self.hypotheses()}
        if self.baseline == DEFAULT_BASELINE:  # the only one when the first plans were stored
            del values["baseline"]
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    @staticmethod
    def from_json(values: dict[str, Any]) -> Plan:
        """The plan that `to_json` wrote."""
        known = {name: value for name, value in values.items() if name != "hypotheses"}
        choices = tuple(Choice(**choice) for choice in values["choices"])
        return Plan(**{**known, "seeds": tuple(values["seeds"]), "choices": choices})
