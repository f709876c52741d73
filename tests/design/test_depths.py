from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.architecture import Architecture, Stage
from search.design.depths import (
    NEAR,
    depth_of,
    distance,
    is_near,
    nearest_depths,
    reachable_depths,
    share_out,
)
from search.spec.domains import Range
from search.spec.study_file import load_spec
from search.spec.tables import Space
from tests.support.made_up import Bottleneck, Gated, installed

DIGITS = load_spec(Path("studies/digits.toml"))
SHAPE = (1, 64, 64)


def space(**changes: Any) -> Space:
    return replace(DIGITS.space, **changes)


@pytest.mark.parametrize("transition", ["pool", "stride"])
@pytest.mark.parametrize("arm", ["plain", "preact", "gated", "bottleneck"])
@pytest.mark.parametrize("blocks", [(1,), (2, 5), (3, 1, 4)])
def test_depth_is_that_of_the_network(arm: str, transition: str, blocks: tuple[int, ...]) -> None:
    with installed(Bottleneck, Gated):
        widths = ((8,),) * len(blocks)
        found = depth_of(space(block=(arm,), widths=widths, transition=transition), sum(blocks))
        network = Architecture(
            image_shape=SHAPE, classes=2, block=arm, transition=transition,
            stages=tuple(Stage(width=8, blocks=count) for count in blocks),
        )  # fmt: skip
        assert found == network.depth


def test_distance_is_that_of_ratios() -> None:
    assert distance(10, 20) == distance(20, 10) == pytest.approx(distance(5, 10))
    assert distance(7, 7) == 0


def test_peers_of_20_convs_have_15_to_27() -> None:
    assert [depth for depth in range(1, 60) if is_near(depth, 20)] == list(range(15, 28))
    assert [depth for depth in range(1, 60) if is_near(20, depth)] == list(range(15, 28))
    assert [depth for depth in range(1, 60) if is_near(depth, 20, 1.1)] == list(range(19, 23))
    assert not is_near(0, 20), "of a trial that is being drawn"


def test_depths_that_a_space_reaches() -> None:
    assert reachable_depths(DIGITS.space) == list(range(9, 58, 2))
    assert reachable_depths(space(blocks=(1, 4), widths=((8,), (8,)))) == [6, 12, 18]
    assert reachable_depths(space(transition="stride", widths=((8,),), blocks=(3,))) == [7]


def test_the_nearest_reachable_depths_are_taken() -> None:
    assert nearest_depths(DIGITS.space, (8, 14, 20, 32, 44)) == [9, 15, 21, 33, 45]
    assert nearest_depths(DIGITS.space, (44, 8)) == [9, 45], "shallow first"
    assert nearest_depths(DIGITS.space, (20, 21, 22)) == [21, 23], "none twice"
    assert nearest_depths(DIGITS.space, (2, 6, 200)) == [], "none is near"
    single = space(transition="stride", widths=((8,),), blocks=(10,))
    assert reachable_depths(single) == [21]
    assert nearest_depths(single, (math.ceil(21 / NEAR),)) == [21]
    assert nearest_depths(single, (math.ceil(21 / NEAR) - 1,)) == []


@pytest.mark.parametrize("blocks", [(1, 1, 1), (9, 1, 1), (2, 7, 3), (9, 9, 9)])
@pytest.mark.parametrize("depth", [9, 21, 45, 57])
def test_blocks_are_shared_out_to_the_exact_depth(blocks: tuple[int, ...], depth: int) -> None:
    found = share_out(blocks, DIGITS.space, depth)
    assert depth_of(DIGITS.space, sum(found)) == depth
    assert all(1 <= count <= 9 for count in found)


def test_proportions_are_kept_where_they_can_be() -> None:
    assert share_out((1, 2, 1), DIGITS.space, depth_of(DIGITS.space, 12)) == [3, 6, 3]
    assert share_out((2, 3, 4), DIGITS.space, depth_of(DIGITS.space, 9)) == [2, 3, 4]


def test_no_other_plan_is_nearer_to_the_proportions() -> None:
    blocks, depth = (5, 2, 1), depth_of(DIGITS.space, 13)

    def cost(plan: tuple[int, ...]) -> float:
        return sum(math.log(count * 8 / (share * 13)) ** 2 for count, share in zip(plan, blocks, strict=True))

    plans = [(a, b, 13 - a - b) for a in range(1, 10) for b in range(1, 10) if 1 <= 13 - a - b <= 9]
    assert tuple(share_out(blocks, DIGITS.space, depth)) == min(plans, key=cost)


def test_a_depth_out_of_reach_is_refused() -> None:
    for depth in (8, 20, 7, 59):
        with pytest.raises(ValueError, match="no network of the space"):
            share_out((1, 1, 1), DIGITS.space, depth)
    assert share_out((1, 1, 1), space(blocks=(1, 4)), 21) == [1, 4, 4]


def test_blocks_of_three_convolutions_are_counted_as_three() -> None:
    with installed(Bottleneck):
        threes = space(block=("bottleneck",), blocks=Range(low=1, high=3), widths=((8,), (8,)))
        assert reachable_depths(threes) == [8, 11, 14, 17, 20]
        assert nearest_depths(threes, (9, 13, 20)) == [8, 14, 20]
        assert [share_out((1, 1), threes, depth) for depth in (8, 14, 20)] == [[1, 1], [2, 2], [3, 3]]
        assert share_out((1, 3), threes, 14) == [1, 3]
        for depth in (9, 10, 12, 13):
            with pytest.raises(ValueError, match=f"no network of the space has {depth} convs"):
                share_out((1, 1), threes, depth)
        for counts in itertools.product(range(1, 4), repeat=2):
            assert share_out(counts, threes, depth_of(threes, sum(counts))) == list(counts)
