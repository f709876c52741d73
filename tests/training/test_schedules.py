"""The learning rate of every step."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from tests.support.training import CONFIG


def test_the_rate_warms_up_linearly_and_anneals_to_zero() -> None:
    config = dataclasses.replace(CONFIG, lr=0.8, warmup=0.1)
    rates = [config.learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.08 * (i + 1) for i in range(10)])
    assert max(rates) == rates[10] == 0.8
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.4), "half-way from the peak to the end"
    assert config.learning_rate(100, 100) == pytest.approx(0, abs=1e-12)
    assert dataclasses.replace(config, warmup=0.0).learning_rate(0, 100) == 0.8


def test_the_rate_falls_in_steps() -> None:
    config = dataclasses.replace(CONFIG, lr=0.1, warmup=0.02, schedule="step")
    rates = [config.learning_rate(step, 100) for step in range(100)]
    assert rates[:2] == [0.05, 0.1]
    assert rates[2:50] == [0.1] * 48
    assert rates[50:75] == pytest.approx([0.01] * 25)
    assert rates[75:] == pytest.approx([0.001] * 25)
    odd = [dataclasses.replace(config, warmup=0.0).learning_rate(step, 7) for step in range(7)]
    assert odd == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001])


def test_a_warm_up_that_is_no_whole_number_of_steps_is_rounded() -> None:
    config = dataclasses.replace(CONFIG, lr=1.0, warmup=0.05)
    assert [config.learning_rate(step, 32) for step in range(2)] == [0.5, 1.0], "1.6 steps are two"
    assert config.learning_rate(0, 9) == 1.0, "0.45 steps are none"
