"""Strata of depth: what a stratified design takes turns over, and which arm leads in whose turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from search.design.depths import reachable_depths
from search.errors import SpecError
from search.spec.study import StudySpec
from search.spec.tables import Space


class Stratum(NamedTuple):
    """Depths in convs, both ends included and both of them depths of the space."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """The stratum as it is stored and shown: "9-13", or "9" where it is one depth."""
        return f"{self.low}-{self.high}" if self.low < self.high else str(self.low)

    def middle(self, space: Space) -> int:
        """The depth of the space in its middle, by the logarithm."""
        depths = [depth for depth in reachable_depths(space) if self.has(depth)]
        middle = math.sqrt(self.low * self.high)
        return min(depths, key=lambda depth: (abs(math.log(depth / middle)), depth))

    def has(self, depth: int) -> bool:
        """Whether a depth belongs to it."""
        return self.low <= depth <= self.high


class Turn(NamedTuple):
    """What a group of a stratified design is to be."""

    stratum: int
    """The index of its stratum, shallow first."""
    lead: int
    """The index of the arm that leads."""


def strata_of(space: Space, strata: int | Sequence[int]) -> tuple[Stratum, ...]:
    """The strata of a space, shallow first: so many, as wide as each other by the logarithm of depth, without
    those that the space has no depth in; or those that begin at the depths given. Raises SpecError where one
    of these is empty."""
    depths = reachable_depths(space)
    if isinstance(strata, int):
        steps = strata
        reach = math.log(depths[-1] / depths[0]) or 1.0
        index = {depth: min(steps - 1, int(steps * math.log(depth / depths[0]) / reach)) for depth in depths}
        members = [[depth for depth in depths if index[depth] == i] for i in range(steps)]
        return tuple(Stratum(found[0], found[-1]) for found in members if found)
    found = []
    for low, after in zip(strata, [*strata[1:], depths[-1] + 1], strict=True):
        inside = [depth for depth in depths if low <= depth < after]
        if not inside:
            raise SpecError(
                f"search.strata must list depths of the space ({depths[0]} to {depths[-1]} convs) so that "
                f"each stratum has one, got none from {low} on"
            )
        found.append(Stratum(inside[0], inside[-1]))
    return tuple(found)


def strata_of_spec(spec: StudySpec) -> tuple[Stratum, ...]:
    """The strata of a study; none where its design has none."""
    return strata_of(spec.space, spec.search.strata) if spec.search.design == "stratified" else ()


def turn_of(group: int, strata: int, arms: int, seed: int) -> Turn:
    """The turn of a group, of so many strata and arms: the strata in blocks, each shuffled anew, so that any
    prefix of a search is balanced; and in as many blocks as there are arms, each arm leads once in each
    stratum."""
    block, place = divmod(group, strata)
    order = np.random.default_rng([seed, 4, block]).permutation(strata)
    stratum = int(order[place])
    return Turn(stratum, (block + stratum) % arms)
