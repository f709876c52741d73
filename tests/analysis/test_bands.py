from __future__ import annotations

import pytest

from search.analysis.bands import DEEPER, band_of, bands_of, depth_band, first_depth, in_band
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


def test_all_deep_trials_are_a_band_as_well() -> None:
    trials = records(made(i, "plain", depth=depth) for i, depth in enumerate((14, 20, 21, 33, 200)))
    assert [trial.depth for trial in in_band(trials, DEEPER)] == [21, 33, 200]
    assert [trial.depth for trial in in_band(trials, "15-20")] == [20]
