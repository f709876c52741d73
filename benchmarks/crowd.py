"""A stratified search of many workers, simulated: the real rules of design give the places and decide, and a
trial takes the time that its depth and epochs take, on workers that are all as fast."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from benchmarks.table import Table
from search.design.places import Places
from search.design.pruners import in_better_half
from search.design.strata import strata_of_spec
from search.spec.study import StudySpec
from search.storage.rows import Placed


@dataclass(frozen=True)
class Crowd:
    """What came of one search."""

    trials: int
    groups: int
    whole: int
    cut: int
    """Groups that are neither whole nor a stopped lead: what the budget had left over."""
    idle: float
    """Share of the workers' time in which one waited for leads to decide, until the budget was spent."""
    straggling: float
    """The same from then on, until the last trial had ended."""


def simulate(spec: StudySpec, workers: int, budget: int, seed: int) -> Crowd:
    """One search; what a lead scores at its rung is drawn at random."""
    return _Simulation(spec, workers, budget, seed).run()


class _Simulation:
    def __init__(self, spec: StudySpec, workers: int, budget: int, seed: int) -> None:
        self.places, self.strata, self.rng = Places(spec), strata_of_spec(spec), random.Random(seed)
        self.epochs, self.budget, self.workers = spec.train.epochs, budget, workers
        self.placed: list[Placed] = []
        self.events: list[tuple[float, int, bool]] = []
        """Times, trials, and whether it ends then or decides."""
        self.scores: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.depths: dict[int, int] = {}
        self.now = self.waited = self.straggled = 0.0
        self.free = workers

    def run(self) -> Crowd:
        self._take()
        while self.events:
            then, number, ends = heapq.heappop(self.events)
            lost = self.free * (then - self.now)
            self.waited += lost if len(self.placed) < self.budget else 0
            self.straggled += lost if len(self.placed) >= self.budget else 0
            self.now = then
            if ends:
                self.placed[number] = self.placed[number]._replace(state=TrialState.COMPLETE)
                self.free += 1
            else:
                self._decide(number)
            self._take()
        groups: dict[int, list[Placed]] = defaultdict(list)
        for one in self.placed:
            groups[one.place["group"]].append(one)
        whole = sum(len(members) == len(self.places.arms) for members in groups.values())
        stopped = sum(members[0].state == TrialState.PRUNED for members in groups.values())
        total = self.workers * self.now
        return Crowd(
            len(self.placed), len(groups), whole, len(groups) - whole - stopped, self.waited / total,
            self.straggled / total,
        )  # fmt: skip

    def _take(self) -> None:
        """Every free worker asks for a trial."""
        while self.free and len(self.placed) < self.budget:
            place = self.places(self.placed, self.budget - len(self.placed))
            if place is None:
                return
            number = len(self.placed)
            self.placed.append(Placed(place, TrialState.RUNNING, goes_on=False))
            self.free -= 1
            rung = max(1, self.epochs // 5)
            first = rung if place["lead"] else self.epochs
            heapq.heappush(self.events, (self.now + self._seconds(place, first), number, not place["lead"]))

    def _seconds(self, place: dict[str, Any], epochs: int) -> float:
        """Of so many epochs: all arms of a group are as deep."""
        stratum = self.strata[place["stratum"]]
        depth = self.depths.setdefault(place["group"], self.rng.randint(stratum.low, stratum.high))
        return depth * epochs * self.rng.uniform(0.9, 1.1)

    def _decide(self, number: int) -> None:
        place, score = self.placed[number].place, self.rng.random()
        peers = self.scores[place["arm"], place["stratum"]]
        goes_on = in_better_half(score, peers)
        peers.append(score)
        if goes_on:
            self.placed[number] = self.placed[number]._replace(goes_on=True)
            left = self.epochs - max(1, self.epochs // 5)
            heapq.heappush(self.events, (self.now + self._seconds(place, left), number, True))
        else:
            self.placed[number] = self.placed[number]._replace(state=TrialState.PRUNED)
            self.free += 1


def crowds(spec: StudySpec, searches: int = 200) -> Table:
    """The same search by one worker and by many."""
    table = Table(
        "Many workers",
        f"100 trials, {searches} simulated searches, means: the design's own rules, trials that take as long "
        "as their depth and epochs do. Left over: groups that are neither whole nor a stopped lead. Waiting: "
        "share of the workers' time until the budget is spent; straggling: from then to the end.",
        ("workers", "trials", "groups", "whole", "left over", "waiting, %", "straggling, %"),
    )
    for workers in (1, 2, 8, 40):
        found = [simulate(spec, workers, 100, seed) for seed in range(searches)]

        def mean(name: str, scale: float = 1.0, found: list[Crowd] = found) -> str:
            return f"{scale * sum(getattr(one, name) for one in found) / len(found):.1f}"

        table.add(
            str(workers), " to ".join(sorted({str(one.trials) for one in found})), mean("groups"),
            mean("whole"), mean("cut"), mean("idle", 100), mean("straggling", 100),
        )  # fmt: skip
    return table
