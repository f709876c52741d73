"""Recorded draws of a study, and the searches that run on them: random ones, matched ones, stock Optuna."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler, TPESampler

from benchmarks.curves import Draw, Recorder, random_draws, whole
from benchmarks.replay import Tried, free_trials, matched_trials, search, seeded, shuffled
from search.design.pruners import PeerPruner, make_pruner
from search.design.samplers import MatchedSampler
from search.design.space import suggested_names
from search.spec.study import StudySpec
from search.spec.study_file import load_spec

DRAWS = {"digits": 40, "cifar5k": 20}
"""Draws in the pool, each trained as every arm."""
STARTS = 10
"""Random draws with which TPE begins; they are taken from the pool."""
FRESH = 2
"""Runs with fresh seeds that a choice is judged by."""

Pruner = Callable[[StudySpec], BasePruner]


def _named(pruner: str) -> Pruner:
    return lambda spec: make_pruner(seeded(spec, spec.search.seed, design="matched", pruner=pruner))


def _by_arm(make: Callable[[StudySpec], BasePruner]) -> Pruner:
    """A pruner that judges a trial among those of its arm, whatever the depth."""
    return lambda spec: PeerPruner(lambda: make(spec), spec.space, near=math.inf)


def _by_depth(make: Callable[[StudySpec], BasePruner]) -> Pruner:
    return lambda spec: PeerPruner(lambda: make(spec), spec.space)


def _hyperband(least: int, factor: int) -> Callable[[StudySpec], BasePruner]:
    return lambda spec: HyperbandPruner(least, spec.train.epochs, factor)


def _halving(least: int, factor: int) -> Callable[[StudySpec], BasePruner]:
    return lambda spec: SuccessiveHalvingPruner(least, factor)


def _median(startup: int, warmup: int) -> Callable[[StudySpec], BasePruner]:
    return lambda spec: MedianPruner(startup, warmup)


NONE = "none"
HYPERBAND = "arm and depth, Hyperband (as `pruner`)"
HALVING = "arm and depth, halving (as `pruner`)"
MEDIAN = "arm and depth, median (as `pruner`)"
ARM_HYPERBAND = "arm, Hyperband from 3, factor 2"
ARM_HALVING = "arm, halving from 3, factor 2"
MIXED_MEDIAN = "all together, stock MedianPruner"
PRUNERS: dict[str, Pruner] = {
    NONE: _named("none"),
    HYPERBAND: _named("hyperband"),
    HALVING: _named("halving"),
    MEDIAN: _named("median"),
    **{
        f"arm and depth, Hyperband from {least}, factor {factor}": _by_depth(_hyperband(least, factor))
        for least, factor in ((2, 2), (3, 2), (1, 3), (1, 4))
    },
    **{
        f"arm and depth, halving from {least}, factor {factor}": _by_depth(_halving(least, factor))
        for least, factor in ((2, 2), (1, 2), (1, 3), (2, 3))
    },
    **{
        f"arm, Hyperband from {least}, factor {factor}": _by_arm(_hyperband(least, factor))
        for least, factor in ((3, 2), (1, 2), (2, 2), (5, 2), (1, 3), (3, 3), (3, 4))
    },
    **{
        f"arm, halving from {least}, factor {factor}": _by_arm(_halving(least, factor))
        for least, factor in ((3, 2), (1, 2), (5, 2), (1, 3), (2, 3), (3, 3), (3, 4))
    },
    **{
        f"arm, median after {startup} trials, {warmup} epochs": _by_arm(_median(startup, warmup))
        for startup, warmup in ((5, 1), (5, 3), (5, 5), (10, 3))
    },
    "all together, Hyperband from 3, factor 2": _hyperband(3, 2),
    MIXED_MEDIAN: lambda spec: MedianPruner(),
    "all together, stock HyperbandPruner": lambda spec: HyperbandPruner(1, spec.train.epochs),
    "all together, stock SuccessiveHalvingPruner": lambda spec: SuccessiveHalvingPruner(),
}
"""Pruners, named by the trials among which one is judged. The number after "from" is the first rung, in
epochs."""


@dataclass(frozen=True)
class Pool:
    """A study's recorded draws."""

    recorder: Recorder
    draws: Sequence[Draw]

    @property
    def spec(self) -> StudySpec:
        return self.recorder.spec

    @property
    def arms(self) -> tuple[str, ...]:
        return self.spec.space.block

    @property
    def groups(self) -> int:
        """Groups of a random search: half the pool, so that a search that prunes can go on for as many
        epochs."""
        return len(self.draws) // 2

    @property
    def epochs(self) -> int:
        """Epochs that a random search without pruning spends."""
        return self.groups * len(self.arms) * self.spec.train.epochs

    def random(self, order: int, pruner: Pruner, enough: Callable[[Sequence[Tried]], bool]) -> list[Tried]:
        spec = seeded(self.spec, order)
        given = matched_trials(shuffled(self.draws, order), self.arms)
        return search(spec, RandomSampler(seed=order), pruner(spec), given, enough, self.recorder)

    def tpe(self, order: int, pruner: Pruner, starts: int) -> list[Tried]:
        """The search as search.run does it, its first draws those of random search number `order`. TPE
        begins after so many of them."""
        spec = seeded(self.spec, order)
        given = matched_trials(shuffled(self.draws, order)[:starts], self.arms)
        names = suggested_names(spec.space)
        sampler = MatchedSampler(
            self.arms, names, lambda seed: TPESampler(n_startup_trials=starts, seed=seed), spec.search.seed
        )
        return search(spec, sampler, pruner(spec), given, spent(self.epochs), self.recorder)

    def stock(self, order: int) -> list[Tried]:
        """What `optuna.create_study(pruner=MedianPruner())` does, the block one parameter among others."""
        spec = seeded(self.spec, order, design="free")
        given = free_trials(shuffled(self.draws, order)[:STARTS], self.arms, order)
        sampler = TPESampler(seed=order)
        return search(spec, sampler, MedianPruner(), given, spent(self.epochs), self.recorder)

    def score(self, chosen: Tried | None) -> float:
        """What it was chosen by, 0 to 1; an arm for which nothing ran to the end is at chance."""
        return chosen.value if chosen else self.recorder.chance

    def quality(self, chosen: Tried | None) -> float:
        """Mean value of a choice that is trained again: what it was chosen for is gone."""
        return self.recorder.retrained(chosen.values, FRESH) if chosen else self.recorder.chance


def spent(epochs: float, most: float = math.inf) -> Callable[[Sequence[Tried]], bool]:
    return lambda tried: len(tried) >= most or sum(trial.epochs for trial in tried) >= epochs


def pool_of(spec: StudySpec, until: float) -> Pool:
    recorder = Recorder(spec, until=until)
    return Pool(recorder, whole(recorder, random_draws(spec, DRAWS[spec.name])))


def cifar5k() -> StudySpec:
    """The study; its images come from cifar10.npz if the data folder has it, else as torchvision brings
    them."""
    spec = load_spec(Path(__file__).with_name("cifar5k.toml"))
    if (Path(os.environ.get("ARCHSEARCH_DATA") or "data") / "cifar10.npz").exists():
        return replace(spec, data=replace(spec.data, name="npz", path="cifar10.npz"))
    return spec
