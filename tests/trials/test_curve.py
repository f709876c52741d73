"""The curve of a trial: all four numbers of every epoch, in one attribute that stays small."""

from __future__ import annotations

import json
import math

import pytest

from search.training.results import EpochResult
from search.trials.curve import MEASURES, MOST_EPOCHS, Curve, curve_of
from search.trials.listeners import Listener
from tests.support.runs import ended, epoch, setup


def curve_at_end(listener: Listener) -> object:
    return listener.ended(ended())


def test_all_four_numbers_of_every_epoch_are_kept() -> None:
    curve = Curve()
    curve.began(setup(), [])
    assert [curve.epoch_ended(epoch(number)) for number in (1, 2)] == [False, False]
    expected = {
        "curve": {
            "train_accuracy": [0.601, 0.602],
            "train_loss": [2.1, 2.2],
            "val_accuracy": [0.251, 0.252],
            "val_loss": [3.1, 3.2],
        }
    }
    assert curve_at_end(curve) == curve.paused() == expected


def test_a_resumed_trial_has_the_whole_curve() -> None:
    curve = Curve()
    history = [epoch(1), epoch(2)]
    curve.began(setup(), history)
    curve.epoch_ended(epoch(3))
    assert curve_at_end(curve) == {"curve": curve_of([*history, epoch(3)])}
    assert history == [epoch(1), epoch(2)], "the state that was restored is not its own"


def test_without_an_epoch_there_is_nothing_to_store() -> None:
    curve = Curve()
    curve.began(setup(), [])
    assert curve_at_end(curve) == curve.paused() == {}


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (MOST_EPOCHS, range(1, 501)),
        (501, range(1, 502, 2)),
        (502, range(2, 503, 2)),
        (1000, range(2, 1001, 2)),
        (1001, range(2, 1002, 3)),
        (100_000, range(200, 100_001, 200)),
    ],
)
def test_a_long_curve_is_thinned_evenly_to_its_last_epoch_and_says_which_ones_it_has(
    count: int, kept: range
) -> None:
    curve = curve_of([epoch(number) for number in range(1, count + 1)])
    assert kept[-1] == count
    assert len(kept) <= MOST_EPOCHS
    assert curve.get("epoch", list(range(1, count + 1))) == list(kept)
    assert ("epoch" in curve) is (count > MOST_EPOCHS), "where it is left out, there are all"
    for name in MEASURES:
        assert curve[name] == [float(f"{getattr(epoch(number), name):.5g}") for number in kept]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(value: float) -> None:
    curve = curve_of([epoch(1, train_loss=value), epoch(2)])
    assert curve["train_loss"] == [None, 2.2]
    assert json.loads(json.dumps(curve, allow_nan=False)) == curve


def test_five_digits_are_kept() -> None:
    curve = curve_of([epoch(1, val_loss=1.23456789, train_loss=123456.7, val_accuracy=1 / 3)])
    assert (curve["val_loss"], curve["train_loss"], curve["val_accuracy"]) == (
        [1.2346],
        [123460.0],
        [0.33333],
    )


def longest(number: int) -> EpochResult:
    """Numbers that take as many letters as any."""
    return EpochResult(99_000 + number, 1.23456e-05, 0.000123456, 1.23456e-05, 0.000123456, None)


def test_the_attribute_stays_small() -> None:
    """MariaDB takes 64 kB in an attribute, and everyone who opens the study reads it."""
    assert len(json.dumps(curve_of([epoch(number) for number in range(1, 16)]))) < 1_000
    for count in (MOST_EPOCHS, 2 * MOST_EPOCHS):
        assert len(json.dumps(curve_of([longest(number) for number in range(count)]))) < 30_000
