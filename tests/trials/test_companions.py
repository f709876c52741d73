"""Runs of a confirmation that are trained as one network, in a real study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import FrozenTrial, TrialState
from search.companions__GONE import AGREED

from search.errors import DeviceError
from search.spec.study import StudySpec
from search.storage.leases import ClaimLost
from search.trials.companions import Companions
from search.workers.heartbeat import Heart
from search.workers.stop import Stop
from search.workers.trial_loop import run_trials
from search.workers.watchdog import Watchdog
from tests.support.confirmations import Worker

SEEDS, ARMS = 4, 3


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many are trained as one, in place of a measurement of the time."""
    return lambda members: monkeypatch.setattr(Companions, "measured", lambda *_: members)


def worker_at(folder: Path, tiny: StudySpec) -> Worker:
    folder.mkdir(exist_ok=True)
    return Worker(f"sqlite:///{folder}/x.db", tiny, together=SEEDS)


def of_arm(worker: Worker, arm: str = "plain") -> list[FrozenTrial]:
    trials = worker.study.get_trials(deepcopy=False)
    return [t for t in trials if t.system_attrs["fixed_params"]["block"] == arm]


def test_all_seeds_of_a_recipe_are_one_network(tmp_path: Path, tiny: StudySpec, pays: Any) -> None:
    pays(SEEDS)
    together, alone = worker_at(tmp_path / "a", tiny), worker_at(tmp_path / "b", tiny)
    for _ in range(ARMS):
        together.run()
    assert together.claims.unfinished(together.study._study_id) == 0
    pays(1)
    for _ in range(SEEDS * ARMS):
        alone.run()
    trained = of_arm(together)
    assert [t.state for t in trained] == [TrialState.COMPLETE] * SEEDS
    assert [t.user_attrs["members"] for t in trained] == [SEEDS] * SEEDS
    assert together.study.user_attrs["test_reads"] == SEEDS * ARMS
    assert list(together.study.user_attrs[AGREED].values()) == [SEEDS] * ARMS
    assert not together.claims.running
    for one, other in zip(trained, of_arm(alone), strict=True):
        assert "members" not in other.user_attrs
        for name in ("seed", "data_seed", "weights", "fingerprint", "replicate", "epochs", "cause"):
            assert one.user_attrs[name] == other.user_attrs[name], name
        assert one.intermediate_values.keys() == other.intermediate_values.keys()
        assert one.value == pytest.approx(other.value, abs=2 / 40), "of 40 images"
        assert one.user_attrs["test_accuracy"] == pytest.approx(
            other.user_attrs["test_accuracy"], abs=8 / 359
        )


def test_the_seeds_are_shared_out_in_fixed_parts(tmp_path: Path, tiny: StudySpec, pays: Any) -> None:
    pays(3)
    worker = worker_at(tmp_path, tiny)
    third = of_arm(worker)[2]
    worker.claims.set_trial_state_values(third._trial_id, TrialState.RUNNING)  # another worker's, say
    worker.run()
    members = [t.user_attrs.get("members") for t in of_arm(worker)]
    assert members == [2, 2, None, None], "the fourth seed belongs to the next part"


def test_what_fails_together_is_trained_alone(
    tmp_path: Path, tiny: StudySpec, pays: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pays(SEEDS)

    def fails(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory, say")

    monkeypatch.setattr("search.confirmation.train_together", fails)
    worker = worker_at(tmp_path, tiny)
    assert worker.run().state == TrialState.WAITING
    assert "each for itself: together they failed: CUDA out of memory" in capsys.readouterr().err
    assert not worker.claims.running
    assert worker.run().state == TrialState.COMPLETE
    outcomes = [(t.user_attrs.get("outcome"), t.user_attrs.get("members")) for t in of_arm(worker)]
    assert outcomes == [("complete", None), *[(None, None)] * (SEEDS - 1)]


@pytest.mark.parametrize("stop", [1, 7])
def test_stopped_together_they_go_on_to_the_same_end(
    tmp_path: Path, tiny: StudySpec, pays: Any, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    pays(SEEDS)
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINTS", str(tmp_path / "one"))
    undisturbed = worker_at(tmp_path / "a", tiny)
    undisturbed.run()
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINTS", str(tmp_path / "two"))
    worker = worker_at(tmp_path / "b", tiny)
    steps = iter(range(100))
    worker.run(lambda: next(steps) >= stop)
    assert {t.state for t in of_arm(worker)} == {TrialState.WAITING}
    assert not worker.claims.running
    assert worker.run().state == TrialState.COMPLETE
    for one, other in zip(of_arm(worker), of_arm(undisturbed), strict=True):
        assert one.intermediate_values == other.intermediate_values
        for name in ("val_loss", "train_accuracy", "test_accuracy", "attempt", "members"):
            assert one.user_attrs[name] == other.user_attrs[name], name


def test_one_that_stands_elsewhere_is_trained_alone(tmp_path: Path, tiny: StudySpec, pays: Any) -> None:
    pays(1)
    worker = worker_at(tmp_path, tiny)
    steps = iter(range(100))
    worker.run(lambda: next(steps) >= 7)
    pays(SEEDS)
    worker.study.set_user_attr(AGREED, {})
    worker.run()
    assert [t.user_attrs.get("members") for t in of_arm(worker)] == [None, *[SEEDS - 1] * (SEEDS - 1)]
    assert not [t.user_attrs["error"][-700:] for t in of_arm(worker) if "error" in t.user_attrs]
    assert {t.state for t in of_arm(worker)} == {TrialState.COMPLETE}


def test_a_heart_beats_for_all_of_them(
    tmp_path: Path, tiny: StudySpec, pays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pays(SEEDS)
    worker = worker_at(tmp_path, tiny)
    beats: list[int] = []
    monkeypatch.setattr("search.leases.LeaseStorage.beat", lambda _, trial_id: beats.append(trial_id))
    heart = Heart(worker.claims, worker.study._study_id)

    def interrupted() -> bool:
        if not beats:
            heart.beat()
        return False

    worker.run(interrupted)
    assert sorted(beats) == sorted(t._trial_id for t in of_arm(worker))


@pytest.mark.parametrize(
    ("gain", "most", "least", "members"),
    [(1.5, 9, 1, 5), (1.5, 3, 1, 3), (1.05, 9, 1, 1), (1.5, 1, 1, 1), (1.5, 9, 100, 1)],
)
def test_only_what_pays_is_trained_together(
    tmp_path: Path,
    tiny: StudySpec,
    monkeypatch: pytest.MonkeyPatch,
    gain: float,
    most: int,
    least: int,
    members: int,
) -> None:
    """The digits of these tests take 15 steps."""
    worker = worker_at(tmp_path, tiny)
    monkeypatch.setattr("search.companions.gain", lambda *_: gain)
    monkeypatch.setattr("search.companions.LEAST_STEPS", least)
    setup = worker.objective.set_up(worker.study.ask())
    assert Companions(worker.claims, most).measured(setup) == members


@pytest.mark.parametrize(("room", "members"), [(5, 5), (2, 2), (1, 1)])
def test_as_many_are_joined_as_there_is_memory_for(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch, room: int, members: int
) -> None:
    def full(architecture: Any, config: Any, data: Any, asked: int) -> float:
        if asked > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.5

    worker = worker_at(tmp_path, tiny)
    monkeypatch.setattr("search.companions.gain", full)
    monkeypatch.setattr("search.companions.LEAST_STEPS", 1)
    setup = worker.objective.set_up(worker.study.ask())
    assert Companions(worker.claims, 5).measured(setup) == members


def test_one_that_fails_does_not_keep_those_that_wait(
    tmp_path: Path, tiny: StudySpec, pays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are left to be trained alone; the first fails, and the worker is stopped."""
    pays(SEEDS)
    worker, stop = worker_at(tmp_path, tiny), Stop()
    left: list[Any] = []

    def none_together(self: Any, trial: Any, setup: Any, interrupted: Any) -> Any:
        others = self.companions.of(trial, setup)
        left.extend([(trial, setup), *((other, self.begin(other)) for other in others)])
        return left

    stock = Confirmation.build

    def fails(self: Any, trial: Any, setup: Any) -> Any:
        if stop.is_set():
            return stock(self, trial, setup)
        stop.set()
        raise ValueError("of its own")

    monkeypatch.setattr(Confirmation, "train_with_others", none_together)
    monkeypatch.setattr(Confirmation, "build", fails)
    heart = Heart(worker.claims, worker.study._study_id)
    run_trials(worker.study, worker.claims, worker.objective.run, heart, Watchdog(), stop)
    states = [t.state for t in of_arm(worker)]
    assert states == [TrialState.FAIL] + [TrialState.WAITING] * (SEEDS - 1)
    assert not worker.claims.running


def test_alone_is_alone_and_binds_nobody_else(tmp_path: Path, tiny: StudySpec, pays: Any) -> None:
    pays(SEEDS)
    worker = worker_at(tmp_path, tiny)
    asked = Companions(worker.claims, 1)
    trial = worker.study.ask()
    setup = worker.objective.begin(trial)
    assert setup is not None
    assert asked.of(trial, setup) == []
    assert AGREED not in worker.study.user_attrs
    assert len(worker.objective.companions.of(trial, setup)) == SEEDS - 1
    assert asked.of(trial, setup) == []


def test_one_that_is_lost_costs_the_others_nothing(
    tmp_path: Path, tiny: StudySpec, pays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pays(SEEDS)
    worker = worker_at(tmp_path, tiny)
    stock, second = Confirmation.conclude, of_arm(worker)[1].number

    def lost(self: Any, trial: Any, *rest: Any) -> Any:
        if trial.number == second:
            raise ClaimLost
        return stock(self, trial, *rest)

    monkeypatch.setattr(Confirmation, "conclude", lost)
    worker.run()
    done, back = TrialState.COMPLETE, TrialState.WAITING
    assert [t.state for t in of_arm(worker)] == [done, back, done, done]
    assert worker.study.user_attrs["test_reads"] == SEEDS - 1


def test_a_gpu_that_failed_is_not_a_failure_of_its_runs(
    tmp_path: Path, tiny: StudySpec, pays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pays(SEEDS)

    def fails(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("search.confirmation.train_together", fails)
    worker = worker_at(tmp_path, tiny)
    with pytest.raises(DeviceError, match="the GPU failed: CUDA error"):
        worker.run()
