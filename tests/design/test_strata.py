from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from search.design.depths import reachable_depths
from search.design.strata import Stratum, strata_of, strata_of_spec, turn_of
from search.errors import SpecError
from search.spec.domains import Range
from search.spec.study_file import find_study, load_spec

DIGITS = load_spec(find_study("digits"))


def names(strata: tuple[Stratum, ...]) -> list[str]:
    return [stratum.name for stratum in strata]


def test_strata_are_as_wide_as_each_other_by_the_logarithm() -> None:
    assert names(strata_of_spec(DIGITS)) == ["9-13", "15-21", "23-35", "37-57"]
    assert [stratum.middle(DIGITS.space) for stratum in strata_of_spec(DIGITS)] == [11, 17, 29, 45]


@pytest.mark.parametrize("strata", [1, 2, 3, 5, 8, 100, (9, 21), (1, 30, 50), (12,)])
def test_every_depth_of_the_space_is_in_one_stratum(strata: int | tuple[int, ...]) -> None:
    """Those that begin above the first depth leave out what is below them."""
    found = strata_of(DIGITS.space, strata)
    depths = [depth for depth in reachable_depths(DIGITS.space) if depth >= found[0].low]
    assert [[stratum.has(depth) for stratum in found].count(True) for depth in depths] == [1] * len(depths)
    assert all(stratum.middle(DIGITS.space) in depths for stratum in found)
    assert len(found) <= (strata if isinstance(strata, int) else len(strata))


def test_strata_may_begin_where_a_person_wants() -> None:
    assert names(strata_of(DIGITS.space, (9, 20, 40))) == ["9-19", "21-39", "41-57"]
    with pytest.raises(SpecError, match=r"search\.strata .* \(9 to 57 convs\) .* got none from 60 on"):
        strata_of(DIGITS.space, (9, 60))


def test_a_space_of_one_depth_is_one_stratum() -> None:
    space = replace(DIGITS.space, blocks=(2,))
    assert names(strata_of(space, 4)) == ["15"]
    few = replace(DIGITS.space, blocks=Range(low=1, high=2))
    assert names(strata_of(few, 4)) == ["9", "11", "13", "15"]


@pytest.mark.parametrize("design", ["matched", "free"])
def test_other_designs_have_none(design: str) -> None:
    assert strata_of_spec(replace(DIGITS, search=replace(DIGITS.search, design=design))) == ()


@pytest.mark.parametrize(("strata", "arms"), [(4, 3), (1, 2), (5, 1), (3, 5)])
def test_any_prefix_of_turns_is_balanced(strata: int, arms: int) -> None:
    """Of strata to a group; of the arms that lead in a stratum, after as many blocks as there are arms."""
    turns = [turn_of(group, strata, arms, seed=7) for group in range(6 * strata * arms)]
    for end in range(1, len(turns) + 1):
        counts = Counter(turn.stratum for turn in turns[:end])
        assert max(counts.values()) - min(counts[i] for i in range(strata)) <= 1
    cycle = strata * arms
    for begin in range(0, len(turns), cycle):
        assert len(set(turns[begin : begin + cycle])) == cycle


def test_blocks_are_shuffled_and_by_the_seed() -> None:
    def order(seed: int) -> list[int]:
        return [turn_of(group, 4, 3, seed).stratum for group in range(40)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    blocks = {tuple(order(0)[i : i + 4]) for i in range(0, 40, 4)}
    assert len(blocks) > 5
