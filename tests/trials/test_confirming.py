"""The runs of a confirmation: fresh seeds and splits, and test images that no run was trained on."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import Tensor

from models.arms.residual import Residual
from models.parts import Conv
from search.data.batches import TrainingData
from search.data.config import DataConfig
from search.data.datasets import DataSet, read
from search.errors import DeviceError, StudyFailed
from search.spec.study import StudySpec
from search.trials import confirming, runner
from search.trials.confirming import Splits
from search.trials.listeners import Interrupted
from tests.support.arms import OURS
from tests.support.bench import after
from tests.support.confirmations import PARAMS, Worker
from tests.support.made_up import installed
from tests.support.plans import choice, plan
from tests.support.runs import result
from tests.support.studies import tiny_spec

optuna.logging.set_verbosity(optuna.logging.ERROR)


def rows(images: np.ndarray | Tensor) -> set[bytes]:
    """Each image as bytes: no two digits are the same image."""
    return {image.tobytes() for image in np.asarray(images)}


@pytest.fixture
def worker(tmp_path: Path, tiny: StudySpec) -> Worker:
    return Worker(f"sqlite:///{tmp_path}/x.db", tiny)


# splits


@pytest.fixture
def digits_at() -> Splits:
    """The digits have no test part: each seed draws one."""
    config = DataConfig(name="digits")
    return Splits(read(config), config, torch.device("cpu"))


def test_the_parts_of_a_split_are_disjoint_and_all_there_is(digits_at: Splits) -> None:
    data, test = digits_at(5), digits_at.test(5)
    train, val = rows(data.train_NHWC), rows(data.val_NHWC)
    assert len(train) + len(val) + len(rows(test.pixels_NHWC)) == 1797
    assert len(train | val | rows(test.pixels_NHWC)) == 1797


def test_test_images_are_those_of_their_seed_whatever_was_split_in_between(digits_at: Splits) -> None:
    data, test = digits_at(5), digits_at.test(5)
    trained = rows(data.train_NHWC) | rows(data.val_NHWC)
    others = rows(digits_at(6).train_NHWC)
    again = digits_at.test(5)
    assert rows(again.pixels_NHWC) == rows(test.pixels_NHWC)
    assert np.array_equal(again.labels_N, test.labels_N)
    assert not rows(again.pixels_NHWC) & trained
    assert rows(again.pixels_NHWC) & others, "the other split trains on some of them"
    assert rows(digits_at.test(6).pixels_NHWC) != rows(test.pixels_NHWC)
    assert torch.equal(digits_at(5).train_NHWC, data.train_NHWC)


def test_the_last_split_is_kept_on_the_device(digits_at: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    split = DataSet.split
    made: list[int] = []
    monkeypatch.setattr(
        DataSet, "split", lambda self, config: made.append(config.seed) or split(self, config)
    )
    assert digits_at(5) is digits_at(5)
    digits_at.test(5)
    assert made == [5]
    digits_at(6)
    digits_at(5)
    assert made == [5, 6, 5]


def test_a_split_keeps_the_settings_of_the_study() -> None:
    config = DataConfig(name="digits", limit=200, val_fraction=0.25, test_fraction=0.1)
    data = Splits(read(config), config, torch.device("cpu"))(5)
    assert (len(data.train_NHWC), len(data.val_NHWC)) == (150, 50)


# runs


def test_twins_differ_in_the_block_alone(worker: Worker) -> None:
    trials = [worker.run() for _ in range(3)]
    assert [trial.user_attrs["arm"] for trial in trials] == list(OURS)
    for name in ("seed", "data_seed", "weights", "depth", "group", "replicate"):
        assert len({trial.user_attrs[name] for trial in trials}) == 1, name
    for trial in trials:
        assert trial.user_attrs["data_seed"] == trial.user_attrs["seed"]
        assert trial.params == {"block": trial.user_attrs["arm"], **PARAMS}
    losses = [tuple(trial.user_attrs["curve"]["train_loss"]) for trial in trials]
    assert len(set(losses)) == 3, "each arm trains its own way"
    assert worker.claims.unfinished(worker.study._study_id) == 9


def test_a_replicate_has_a_seed_and_a_split_of_its_own(worker: Worker) -> None:
    trials = [worker.run() for _ in range(4)]
    first, other = trials[0].user_attrs, trials[3].user_attrs
    assert (first["replicate"], other["replicate"]) == (0, 1)
    for name in ("seed", "data_seed", "weights", "group"):
        assert first[name] != other[name], name
    assert first["fingerprint"] == other["fingerprint"]


def test_other_initial_weights_than_a_twins_stop_the_study(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.run()
    monkeypatch.setattr(confirming, "weights_fingerprint", lambda _: "of another torch")
    with pytest.raises(StudyFailed, match="trials 1 and 0 are twins, but start from different weights"):
        worker.run()


class Apart(Residual):
    """An arm whose convolutions are no other arm's."""

    name = "apart"

    def convs(self, width_in: int, width: int, stride: int) -> tuple[Conv, ...]:
        return tuple(replace(conv, own=True) for conv in super().convs(width_in, width, stride))


def test_arms_that_share_no_weights_may_start_from_others(tmp_path: Path) -> None:
    with installed(Apart):
        spec = tiny_spec(tmp_path, ("[space]", '[space]\nblock = ["plain", "apart"]'))
        choices = [replace(choice(arm, 5), params=PARAMS) for arm in ("plain", "apart")]
        worker = Worker(f"sqlite:///{tmp_path}/x.db", spec, plan(choices, seeds=(1,)))
        first, second = (worker.run().user_attrs for _ in range(2))
    assert first["group"] == second["group"]
    assert first["weights"] != second["weights"]
    assert [first["outcome"], second["outcome"]] == ["complete", "complete"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), TrialState.PRUNED),
        (RuntimeError("CUDA error: unspecified launch failure"), TrialState.WAITING),
        (ValueError("a bug"), TrialState.FAIL),
    ],
)
def test_what_fails_as_images_are_loaded_costs_one_run(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception, state: TrialState
) -> None:
    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(confirming, "to_device", fails)
        with pytest.raises(DeviceError) if state == TrialState.WAITING else nullcontext():
            worker.run()
    assert worker.study.get_trials()[0].state == state
    assert not worker.claims.running
    assert worker.run().state == TrialState.COMPLETE


# test images


class Looks(list[tuple[Any, TrainingData]]):
    """Networks and images of every evaluation on test images."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks, evaluate = Looks(), confirming.evaluate

    def looking(network: Any, data: TrainingData, *rest: Any) -> Any:
        looks.append((network, data))
        return evaluate(network, data, *rest)

    monkeypatch.setattr(confirming, "evaluate", looking)
    return looks


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[TrainingData]:
    """What every run of the worker was trained and validated on."""
    data: list[TrainingData] = []
    train = runner.train

    def training(network: Any, images: TrainingData, *rest: Any) -> Any:
        data.append(images)
        return train(network, images, *rest)

    monkeypatch.setattr(runner, "train", training)
    return data


def reads_of(worker: Worker) -> int:
    reads: int = worker.study.user_attrs.get("test_reads", 0)
    return reads


def test_test_images_are_looked_at_once_and_are_none_of_the_runs_own(
    worker: Worker, looks: Looks, trained_on: list[TrainingData]
) -> None:
    trials = [worker.run() for _ in range(4)]
    assert reads_of(worker) == len(looks) == 4
    for trial, (_, looked), own in zip(trials, looks, trained_on, strict=True):
        assert len(looked.val_labels_N) == 359  # a fifth of the digits; validation has 40 of the 200
        assert not rows(looked.val_NHWC) & (rows(own.train_NHWC) | rows(own.val_NHWC))
        test = worker.splits.test(trial.user_attrs["seed"])
        assert np.array_equal(looked.val_NHWC.numpy(), test.pixels_NHWC)
        assert np.array_equal(looked.val_labels_N.numpy(), test.labels_N)
        assert torch.equal(looked.mean_C, own.mean_C), "normalized as in training"


def test_they_are_none_of_the_runs_own_whatever_was_split_meanwhile(
    worker: Worker, looks: Looks, trained_on: list[TrainingData], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = runner.train

    def training(*told: Any) -> Any:
        ended = train(*told)
        worker.splits(12345)
        return ended

    monkeypatch.setattr(runner, "train", training)
    worker.run()
    [(_, looked)], [own] = looks, trained_on
    assert not rows(looked.val_NHWC) & (rows(own.train_NHWC) | rows(own.val_NHWC))


def test_the_test_accuracy_is_that_of_the_trained_network_on_the_test_images(
    worker: Worker, looks: Looks
) -> None:
    trial = worker.run()
    [(network, data)] = looks
    network.eval()
    with torch.no_grad():
        logits = network(data.normalize(data.val_NHWC).permute(0, 3, 1, 2))
    right = int((logits.argmax(1) == data.val_labels_N).sum())
    assert trial.user_attrs["test_accuracy"] == right / 359
    assert trial.value == trial.user_attrs["val_accuracy"] != trial.user_attrs["test_accuracy"]


def test_a_run_that_diverged_is_at_chance_and_looks_at_none(
    worker: Worker, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "train", lambda *_: result("diverged", epochs=0))
    assert worker.run().user_attrs["test_accuracy"] == 0.1
    assert (reads_of(worker), looks) == (0, [])


def test_a_reading_counts_before_it_is_done(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies in it has looked all the same."""
    counted: list[int] = []

    def dies(*_: Any) -> None:
        counted.append(reads_of(worker))
        raise ValueError("in the middle of it")

    monkeypatch.setattr(confirming, "evaluate", dies)
    trial = worker.run()
    assert counted == [1]
    assert reads_of(worker) == 1
    assert trial.state == TrialState.FAIL, "a run without its test accuracy is none"
    assert "in the middle of it" in trial.user_attrs["error"]


def test_a_run_that_is_to_be_trained_again_looks_at_none(
    worker: Worker, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run was told to stop in its last epoch, while its reports were written."""
    assert worker.run(after(7)).state == TrialState.WAITING
    with monkeypatch.context() as patched:

        def not_written(*_: object) -> None:
            raise Interrupted

        patched.setattr(runner.Reporter, "ended", not_written)
        assert worker.run().state == TrialState.WAITING
    assert (reads_of(worker), looks) == (0, [])
    assert "test_accuracy" in worker.run().user_attrs
    assert reads_of(worker) == 1
