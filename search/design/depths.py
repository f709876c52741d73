"""Depths of a space: which there are, which are near, and how blocks are shared out to make one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.arms.arm import ARMS
from search.spec.domains import Range
from search.spec.tables import Space

NEAR = 1.35
"""Factor of depth up to which networks are peers, when one is pruned and when recipes are chosen: 15 to 27
convs for 20."""


def depth_of(space: Space, blocks: int) -> int:
    """Convolutions on the main path of a network with so many blocks in all, of any arm of the space."""
    transitions = len(space.widths) - 1 if space.transition == "pool" else 0
    return 1 + transitions + ARMS[space.block[0]].depth * blocks


def distance(depth: int, other: int) -> float:
    """The distance of two depths: the logarithm of their ratio, without its sign."""
    return abs(math.log(depth / other))


def is_near(depth: int, other: int, factor: float = NEAR) -> bool:
    """Whether two depths differ by the factor at most."""
    return max(depth, other) <= factor * min(depth, other)


def reachable_depths(space: Space) -> list[int]:
    """Every depth that the space has, in convs, shallow first."""
    sums = {0}
    for _ in space.widths:
        sums = {total + blocks for total in sums for blocks in _block_choices(space)}
    return sorted(depth_of(space, total) for total in sums)


def nearest_depths(space: Space, depths: Sequence[int]) -> list[int]:
    """The reachable depth nearest to each of `depths`, none twice; those far from all are left out."""
    reachable = reachable_depths(space)
    nearest = {depth: min(reachable, key=lambda d: (distance(d, depth), d)) for depth in depths}
    return sorted({found for depth, found in nearest.items() if distance(found, depth) <= math.log(NEAR)})


def share_out(blocks: Sequence[int], space: Space, depth: int) -> list[int]:
    """Blocks per stage that make `depth` convs, as near as the space has it to the proportions of `blocks`
    (least squares of log ratios). Raises ValueError where the space has no such depth."""
    total = (depth - depth_of(space, 0)) // ARMS[space.block[0]].depth
    wanted = [count * total / sum(blocks) for count in blocks]
    plans: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for share in wanted:
        longer: dict[int, tuple[float, list[int]]] = {}
        for used, (cost, plan) in plans.items():
            for count in _block_choices(space):
                offer = cost + math.log(count / share) ** 2, [*plan, count]
                if used + count <= total and (used + count not in longer or offer < longer[used + count]):
                    longer[used + count] = offer
        plans = longer
    if total not in plans or depth_of(space, total) != depth:
        raise ValueError(f"no network of the space has {depth} convs")
    return plans[total][1]


def _block_choices(space: Space) -> Sequence[int]:
    if isinstance(space.blocks, Range):
        return range(int(space.blocks.low), int(space.blocks.high) + 1)
    return space.blocks
