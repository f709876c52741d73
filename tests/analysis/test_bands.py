from __future__ import annotations

import pytest

from search.analysis.bands import (
    UNSTRATIFIED,
    band_of,
    bands_of,
    depth_band,
    first_depth,
    halves_of,
    in_band,
    last_depth,
)
from tests.support.made_trials import made, records


@pytest.mark.parametrize(
    ("depth", "band"),
    [
        (1, "1-8"), (8, "1-8"), (9, "9-14"), (14, "9-14"), (15, "15-20"), (20, "15-20"), (21, "21-32"),
        (32, "21-32"), (33, "33-44"), (45, "45-56"), (56, "45-56"), (57, "57-110"), (110, "57-110"),
        (111, "111+"), (2000, "111+"),
    ],
)  # fmt: skip
def test_depth_bands(depth: int, band: str) -> None:
    assert depth_band(depth) == band
    assert first_depth(band) <= depth


def test_bands_are_those_present_in_order_of_depth_and_not_of_the_alphabet() -> None:
    trials = records(made(i, "plain", blocks=blocks) for i, blocks in enumerate((60, 20, 3, 4, 5)))
    assert [band_of(trial) for trial in trials] == ["111+", "33-44", "1-8", "9-14", "9-14"]
    assert bands_of(trials) == ["1-8", "9-14", "33-44", "111+"]
    assert [trial.depth for trial in in_band(trials, "9-14")] == [9, 11]


def test_the_stratum_of_a_trial_goes_before_the_band_of_its_depth() -> None:
    """A stratum may be a single depth."""
    trials = records([made(0, "plain", depth=9, stratum="9-13"), made(1, "plain", depth=15, stratum="15")])
    assert bands_of(trials) == ["9-13", "15"]
    assert [(first_depth(band), last_depth(band)) for band in bands_of(trials)] == [(9, 13), (15, 15)]


@pytest.mark.parametrize(
    ("strata", "names"),
    [
        (["9-13", "15-21", "23-35", "37-57"], ("9-21", "23-57")),
        (["37-57", "9-13"], ("9-13", "37-57")),
        (["9", "11-13", "15-21"], ("9", "11-21")),
        (["9-13"], ("1-20", "21+")),
        ([], ("1-20", "21+")),
    ],
)
def test_halves_are_made_of_whole_strata(strata: list[str], names: tuple[str, str]) -> None:
    trials = records(
        made(i, "plain", depth=first_depth(name), stratum=name) for i, name in enumerate(strata)
    ) + records([made(9, "plain")])
    lower, upper = halves_of(trials)
    assert (lower.name, upper.name) == names


def test_every_depth_is_in_one_half() -> None:
    """Also those of trials that were queued, outside of all strata."""
    stratified = records(
        made(i, "plain", depth=first_depth(name), stratum=name) for i, name in enumerate(("9-13", "23-35"))
    )
    for lower, upper in (halves_of(stratified), UNSTRATIFIED):
        for depth in (1, 3, 9, 14, 20, 21, 22, 23, 57, 999):
            [trial] = records([made(0, "plain", depth=depth)])
            assert lower.has(trial) != upper.has(trial)
            assert upper.has(trial) == (depth >= upper.low)
