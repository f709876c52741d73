"""What is recorded of a run, each number from where it belongs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
from optuna.trial import TrialState

from models.architecture import Stage
from search.training.diagnostics import Measures
from search.trials.outcomes import ending_of
from tests.support.runs import epoch, result
from tests.support.training import small

START = Measures(
    grad_ratio=-1.234567, grad_slope=-0.1, update_ratio=0.01, feature_cosine=0.456789, stable_rank=3.0,
    output_std=1.5, block_growth=0.25, dead_share=0.125, conv_gradients=(-1.236, 0.5),
)  # fmt: skip
END = replace(START, grad_ratio=-9.87654, feature_cosine=0.987654, output_std=math.inf)


def test_every_attribute_comes_from_its_own_number() -> None:
    """Training and validation, accuracy and loss, the last epoch and the mean of the last are told apart."""
    run = result(epochs=5, start=START)
    run = replace(run, epochs=(*run.epochs[:-1], epoch(5, measures=END)))
    ending = ending_of(small(), 10, run)
    assert (ending.outcome, ending.state) == ("complete", TrialState.COMPLETE)
    mean = (0.253 + 0.254 + 0.255) / 3
    assert ending.value == pytest.approx(mean, abs=1e-15)
    stored = dict(ending.attributes)
    assert stored.pop("val_accuracy") == ending.value
    diagnostics = stored.pop("diagnostics")
    assert stored.pop("gradients") == {"start": [-1.24, 0.5], "end": [-1.24, 0.5]}
    assert stored == {
        "outcome": "complete",
        "epochs": 5,
        "train_accuracy": 0.605,
        "val_loss": 3.5,
        "train_seconds": 12.346,
        "images_per_second": 987.7,
        "loss_at_start": 2.345,
        "cause": "fine",
        "grad_ratio": -1.235,
        "feature_cosine": 0.4568,
    }
    measured = {name: x for name, x in asdict(START).items() if name != "conv_gradients"}
    assert diagnostics["start"] == measured | {"grad_ratio": -1.235, "feature_cosine": 0.4568}
    assert diagnostics["end"]["grad_ratio"] == -9.877
    assert diagnostics["end"]["output_std"] is None, "JSON has no infinity"
    json.dumps(ending.attributes, allow_nan=False)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_the_value_is_the_mean_of_the_last_three_epochs_or_of_as_many_as_there_are(epochs: int) -> None:
    last = [0.25 + number / 1000 for number in range(1, epochs + 1)][-3:]
    assert ending_of(small(), 10, result(epochs=epochs)).value == pytest.approx(sum(last) / len(last))


def test_a_pruned_run_has_the_last_value_that_it_reported() -> None:
    """Optuna defines it so; the run's validation accuracy is a mean like any other's."""
    run = result("stopped", epochs=4)
    run = replace(run, epochs=(*run.epochs[:3], epoch(4, val_accuracy=0.125)))
    ending = ending_of(small(), 10, run)
    assert (ending.outcome, ending.state, ending.value) == ("pruned", TrialState.PRUNED, 0.125)
    assert ending.attributes["outcome"] == "pruned"
    assert ending.attributes["val_accuracy"] == pytest.approx((0.252 + 0.253 + 0.125) / 3)
    assert ending.attributes["epochs"] == 4


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_run_that_diverged_is_complete_at_chance(epochs: int) -> None:
    ending = ending_of(small(), 8, result("diverged", epochs=epochs, loss_at_start=math.nan))
    assert (ending.outcome, ending.state, ending.value) == ("diverged", TrialState.COMPLETE, 1 / 8)
    assert ending.attributes["val_accuracy"] == 1 / 8
    assert ending.attributes["train_accuracy"] == (0.602 if epochs else 1 / 8)
    assert ending.attributes.get("val_loss") == (3.2 if epochs else None)
    assert ending.attributes["epochs"] == epochs
    assert ending.attributes["cause"] == "diverged"
    assert "loss_at_start" not in ending.attributes
    json.dumps(ending.attributes, allow_nan=False)


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    run = replace(result(), epochs=(epoch(1, val_loss=math.inf),))
    assert "val_loss" not in ending_of(small(), 10, run).attributes


def test_without_measures_there_is_no_diagnosis() -> None:
    attributes = ending_of(small(), 10, result()).attributes
    assert attributes["diagnostics"] == {}
    assert not {"grad_ratio", "feature_cosine"} & attributes.keys()


@pytest.mark.parametrize(
    ("slope", "cause"), [(0.157, "slow"), (0.158, "vanished"), (-0.105, "slow"), (-0.106, "exploded")]
)
def test_the_cause_is_judged_over_the_convs_of_the_blocks_alone(slope: float, cause: str) -> None:
    """Ten blocks have 20 convs: 19 steps of 0.158 decades make three, of 0.106 two. The network has 22."""
    deep = small(stages=(Stage(width=8, blocks=5), Stage(width=8, blocks=5)))
    assert deep.depth == 22
    start = replace(START, grad_slope=slope, grad_ratio=0.0, feature_cosine=0.1)
    run = result(start=start)
    run = replace(run, epochs=tuple(replace(found, train_accuracy=0.1) for found in run.epochs))
    assert ending_of(deep, 10, run).attributes["cause"] == cause
