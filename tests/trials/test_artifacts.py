"""What the best trials leave behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna.trial import FrozenTrial, TrialState

from models.architecture import Architecture
from models.network import Network
from search import errors
from search.data.batches import validation_batches
from search.spec.study import StudySpec
from search.trials.artifacts import BEST, KeepBest
from search.trials.listeners import Ended
from tests.support.bench import Bench
from tests.support.made_trials import made
from tests.support.runs import ended

optuna.logging.set_verbosity(optuna.logging.ERROR)
FILES = ["architecture.json", "architecture.txt", "weights.pt"]


def files_of(study: optuna.Study, trial: FrozenTrial) -> list[str]:
    return sorted(meta.filename for meta in get_all_artifact_meta(trial, storage=study._storage))


def left_by(end: Ended, *rivals: FrozenTrial) -> list[str]:
    """The files of a residual trial that ends so, when these trials are there."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(rivals)
    trial = study.ask()
    assert KeepBest(trial).ended(end) == {}
    return files_of(study, study.get_trials()[-1])


def rivals(arm: str, *values: float, **further: Any) -> list[FrozenTrial]:
    return [made(number, arm, value, **further) for number, value in enumerate(values)]


def test_the_best_three_of_an_arm_when_they_end_keep_theirs() -> None:
    assert BEST == 3
    assert left_by(ended(0.5)) == FILES
    assert left_by(ended(0.5), *rivals("residual", 0.9, 0.8, 0.4)) == FILES
    assert left_by(ended(0.5), *rivals("residual", 0.9, 0.8, 0.6)) == []
    assert left_by(ended(0.5), *rivals("residual", 0.9, 0.8, 0.5)) == [], "whoever was first is ahead"


def test_only_trials_of_the_arm_that_ran_to_their_end_are_rivals() -> None:
    better = (0.9, 0.8, 0.7, 0.6)
    assert left_by(ended(0.5), *rivals("plain", *better), *rivals("preact", *better)) == FILES
    assert left_by(ended(0.5), *rivals("residual", *better, state=TrialState.PRUNED)) == FILES


@pytest.mark.parametrize("outcome", ["pruned", "diverged"])
def test_a_trial_that_did_not_complete_leaves_nothing(outcome: str) -> None:
    assert left_by(ended(0.5, outcome)) == []


def test_the_best_trials_of_a_search_carry_artifacts(tmp_path: Path, tiny: StudySpec) -> None:
    bench = Bench(tmp_path, replace(tiny, space=replace(tiny.space, block=("plain", "preact"))))
    trials = [bench.run() for _ in range(10)]
    for arm in ("plain", "preact"):
        ends = [trial for trial in trials if trial.user_attrs["arm"] == arm]
        ends.sort(key=lambda trial: (-(trial.value or 0), trial.number))
        assert all(files_of(bench.study, trial) == FILES for trial in ends[:BEST]), arm


def test_the_weights_load_safely_and_are_those_of_the_trial(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "kept"))
    data: list[Any] = []
    ended_as = KeepBest.ended
    monkeypatch.setattr(
        KeepBest, "ended", lambda self, end: data.append(end.setup.data) or ended_as(self, end)
    )
    bench = Bench(tmp_path, tiny)
    trial = bench.run()
    store = FileSystemArtifactStore(str(tmp_path / "kept"))
    for meta in get_all_artifact_meta(trial, storage=bench.study._storage):
        path = tmp_path / meta.filename
        download_artifact(artifact_store=store, artifact_id=meta.artifact_id, file_path=str(path))
    kept = torch.load(tmp_path / "weights.pt", weights_only=True)
    architecture = Architecture.from_json((tmp_path / "architecture.json").read_text())
    assert architecture.to_json() == kept["architecture"] == trial.user_attrs["architecture"]
    network = Network(architecture)
    network.load_state_dict(kept["weights"])
    assert torch.equal(kept["mean_C"], data[0].mean_C)
    assert torch.equal(kept["std_C"], data[0].std_C)
    assert not torch.equal(kept["mean_C"], kept["std_C"])
    network.eval()
    with torch.no_grad():
        right = sum(int((network(images).argmax(1) == y).sum()) for images, y in validation_batches(data[0]))
    assert right / len(data[0].val_labels_N) == trial.intermediate_values[3]
    assert json.loads(kept["architecture"])["block"] == "plain"
    text = (tmp_path / "architecture.txt").read_text()
    assert text.startswith(f"trial 0: plain, {architecture.depth} convs\n")
    assert "Conv2d" in text


def test_a_folder_that_cannot_be_written_costs_the_artifacts_alone(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "_told", set())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "file" / "kept"))
    bench = Bench(tmp_path, tiny)
    trials = [bench.run() for _ in range(3)]
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete"] * 3
    assert capsys.readouterr().err.count("artifacts of good trials cannot be kept") == 1


def test_a_full_disk_costs_the_artifacts_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(errors, "_told", set())
    monkeypatch.setattr(torch, "save", full)
    assert left_by(ended(0.5)) == []
    assert "No space left on device" in capsys.readouterr().err
