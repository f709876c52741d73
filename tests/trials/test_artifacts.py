from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna.trial import FrozenTrial
from search.curves import curves_svg
from search.scores__GONE import final_score, ran_to_the_end

from models.architecture import Architecture
from models.network import Network
from search.data.batches import validation_batches
from search.spec.study import StudySpec
from tests.support.bench import Bench

FILES = ["architecture.json", "architecture.txt", "curves.svg", "weights.pt"]


def files_of(bench: Bench, trial: FrozenTrial) -> list[str]:
    metas = get_all_artifact_meta(trial, storage=bench.study._storage)
    return sorted(meta.filename for meta in metas)


def test_the_best_three_of_each_arm_carry_artifacts(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "kept"))
    bench = Bench(tmp_path, tiny)
    trials = [bench.run() for _ in range(18)]
    for arm in ("plain", "residual", "preact"):
        ends = [t for t in trials if ran_to_the_end(t) and t.user_attrs["arm"] == arm]
        ends.sort(key=lambda t: (-final_score(t), t.number))
        assert all(files_of(bench, trial) == FILES for trial in ends[:3]), arm
    assert any(not files_of(bench, trial) for trial in trials), "a trial that was never among the best"


def test_the_weights_load_safely_and_are_those_of_the_trial(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "kept"))
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
    data = bench.objective.data
    assert torch.equal(kept["mean_C"], data.mean_C)
    network.eval()
    with torch.no_grad():
        right = sum(int((network(images).argmax(1) == y).sum()) for images, y in validation_batches(data))
    assert right / len(data.val_labels_N) == trial.intermediate_values[3]
    assert json.loads(kept["architecture"])["block"] == "plain"
    assert "Conv2d" in (tmp_path / "architecture.txt").read_text()


def test_a_folder_that_cannot_be_written_costs_the_artifacts_alone(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "file" / "kept"))
    bench = Bench(tmp_path, tiny)
    trials = [bench.run() for _ in range(3)]
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete"] * 3
    assert capsys.readouterr().err.count("artifacts of good trials cannot be kept") == 1


def test_curves_are_drawn_to_scale() -> None:
    svg = curves_svg("trial 1 <&>", "plain", [0.0, 0.5, 1.0], [1.0, 0.0, 0.5])
    assert "trial 1 &lt;&amp;&gt;" in svg
    assert '<polyline points="48.0,260.0 258.0,152.0 468.0,44.0"' in svg
    assert '<polyline points="48.0,44.0 258.0,260.0 468.0,152.0"' in svg
    assert "<polyline" in curves_svg("", "preact", [0.3], [0.4]), "one epoch"
