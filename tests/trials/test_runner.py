"""One trial through the database, with real training on a few digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import search.objective
import torch
from optuna.trial import TrialState

from models.architecture import Architecture
from search.design.space import suggested_names
from search.errors import DeviceError
from search.spec.study import StudySpec
from tests.support.bench import Bench
from tests.support.studies import tiny_spec

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_trial_records_what_it_was_and_what_came_out(tmp_path: Path, tiny: StudySpec) -> None:
    trial = Bench(tmp_path, tiny).run()
    attrs = trial.user_attrs
    assert attrs.keys() == {
        "arm", "group", "lead", "seed", "depth", "params", "macs", "architecture", "fingerprint", "outcome",
        "train_accuracy", "val_accuracy", "val_loss", "epochs", "train_seconds", "images_per_second",
        "loss_at_start", "device", "worker", "attempt", "cause", "grad_ratio", "feature_cosine",
        "diagnostics",
    }  # fmt: skip
    architecture = Architecture.from_json(attrs["architecture"])
    assert architecture.block == attrs["arm"] == trial.params["block"] == "plain"
    assert architecture.depth == attrs["depth"] == 1 + 2 * trial.params["blocks_1"]
    assert (attrs["group"], attrs["lead"], attrs["attempt"], attrs["worker"]) == (0, True, 1, "here")
    assert (attrs["outcome"], attrs["epochs"], trial.state) == ("complete", 3, TrialState.COMPLETE)


def test_the_value_is_the_mean_of_the_last_three_epochs(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, ("epochs = 3", "epochs = 5"))
    trial = Bench(tmp_path, spec).run()
    reported = [trial.intermediate_values[step] for step in (1, 2, 3, 4, 5)]
    assert trial.value == pytest.approx(sum(reported[-3:]) / 3)
    assert trial.value == trial.user_attrs["val_accuracy"]
    assert max(reported) != min(reported)


def test_the_same_trial_trained_again_gives_the_same_curve(tmp_path: Path, tiny: StudySpec) -> None:
    curves = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, tiny)
        curves.append([bench.run().intermediate_values for _ in range(4)])
    assert curves[0] == curves[1]


def test_an_infeasible_trial_is_pruned_before_anything_is_built(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.objective, "build", lambda *_: pytest.fail("built"))
    trial = Bench(tmp_path, replace(tiny, space=replace(tiny.space, max_params=10))).run()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.PRUNED, "infeasible")
    assert trial.user_attrs["params"] > 10
    assert trial.params.keys() == suggested_names(tiny.space), (
        "else TPE's joint space would be empty for ever"
    )


def test_a_diverged_trial_is_complete_at_chance(tmp_path: Path) -> None:
    spec = tiny_spec(
        tmp_path,
        ("lr_sgd = {low = 0.01, high = 0.1, log = true}", 'lr_sgd = 100.0\noptimizer = "sgd"\nwarmup = 0.0'),
    )
    spec = replace(spec, space=replace(spec.space, norm=("none",), init=("he",)))
    trial = Bench(tmp_path, spec).run()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.COMPLETE, "diverged")
    assert trial.value == trial.user_attrs["val_accuracy"] == 0.1


def test_a_pruned_trial_stops_at_its_rung(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, ("epochs = 3", "epochs = 6"), ('pruner = "none"', 'pruner = "halving"'))
    bench = Bench(tmp_path, replace(spec, space=replace(spec.space, block=("plain",))))
    trials = [bench.run() for _ in range(12)]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert (trial.user_attrs["outcome"], trial.user_attrs["epochs"]) == ("pruned", last)
        assert last in (1, 2, 4)
        assert trial.value == trial.intermediate_values[last]


def test_an_interrupted_trial_is_neither_finished_nor_lost(tmp_path: Path, tiny: StudySpec) -> None:
    bench = Bench(tmp_path, tiny)
    trial = bench.run(interrupted=True)
    assert (bench.outcome, trial.state) == ("interrupted", TrialState.RUNNING)
    bench.claims.release(trial._trial_id)
    again = bench.run()
    assert (again.number, again.state, again.params) == (0, TrialState.COMPLETE, trial.params)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_prunes_the_trial_and_the_worker_goes_on(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bench = Bench(tmp_path, tiny)

    def fails(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(search.objective, "train", fails)
        trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.PRUNED, "oom")
    assert bench.run().user_attrs["outcome"] == "complete"


def test_an_error_fails_the_trial_and_keeps_its_traceback(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, tiny)
    monkeypatch.setattr(search.objective, "build", lambda *_: {}["no such key"])
    trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, "error")
    assert "KeyError: 'no such key'" in trial.user_attrs["error"]
    assert "Traceback" in trial.user_attrs["error"]


def fixed(spec: StudySpec) -> StudySpec:
    """A space of one point per arm: every group draws the same configuration."""
    space = replace(
        spec.space, blocks=(1,), widths=((4,),), norm=("batch",), init=("he",), zero_branch=(False,),
        optimizer=("sgd",), lr_sgd=(0.05,), lr_adamw=(0.01,), weight_decay=(0.0,), warmup=(0.0,),
    )  # fmt: skip
    return replace(spec, space=space)


def test_a_configuration_is_never_trained_twice_with_one_seed(tmp_path: Path, tiny: StudySpec) -> None:
    bench = Bench(tmp_path, fixed(tiny))
    trials = [bench.run() for _ in range(9)]
    for arm in ("plain", "residual", "preact"):
        same = [trial for trial in trials if trial.user_attrs["arm"] == arm]
        assert len({trial.user_attrs["fingerprint"] for trial in same}) == 1
        assert len({trial.user_attrs["seed"] for trial in same}) == 3
        assert [trial.user_attrs.get("replicate_of") for trial in same] == [None, *[same[0].number] * 2]
    for group in range(3):
        assert len({trial.user_attrs["seed"] for trial in trials[3 * group : 3 * group + 3]}) == 1


def test_a_queued_trial_may_bring_its_seed_but_not_one_already_used(tmp_path: Path, tiny: StudySpec) -> None:
    bench = Bench(tmp_path, fixed(tiny))
    for _ in range(2):
        bench.study.enqueue_trial({"block": "plain"}, user_attrs={"seed": 5})
    bench.run()
    bench.run()
    first, second = bench.study.get_trials()
    assert first.user_attrs["seed"] == 5
    assert second.user_attrs["seed"] != 5
    assert second.user_attrs["replicate_of"] == 0


def test_a_trial_beyond_the_gpu_is_pruned_before_anything_is_built(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.objective, "build", lambda *_: pytest.fail("built"))
    monkeypatch.setattr(search.objective, "admission", lambda *_: "oom")
    bench = Bench(tmp_path, tiny)
    trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"], bench.outcome) == (TrialState.PRUNED, "oom", "oom")
    assert trial.user_attrs["params"] > 0
    monkeypatch.setattr(search.objective, "admission", lambda *_: "interrupted")
    trial = bench.run()
    assert (trial.state, bench.outcome) == (TrialState.RUNNING, "interrupted"), "its worker gives it back"


def test_a_gpu_that_cannot_be_asked_for_its_memory_is_sick(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> str:
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(search.objective, "admission", fails)
    bench = Bench(tmp_path, tiny)
    with pytest.raises(DeviceError, match="the GPU failed"):
        bench.run()
    assert bench.study.get_trials()[0].state == TrialState.WAITING, "for another worker"
