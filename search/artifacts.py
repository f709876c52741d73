"""What the best trials of each arm leave behind: the architecture, its curves, its weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from models.architecture import Architecture
from search.curves import curves_svg
from search.errors import tell_once
from search.scores import final_score, ran_to_the_end

if TYPE_CHECKING:
    from models.network import Network
    from search.data import TrainingData
    from search.evaluation import EpochResult

BEST = 3
"""Trials of each arm that carry artifacts. One that a better trial overtakes later keeps its own."""


def artifact_folder() -> Path:
    return Path(os.environ.get("ARCHSEARCH_ARTIFACTS") or "studies/artifacts")


def keep_if_best(
    trial: optuna.Trial,
    value: float,
    architecture: Architecture,
    network: Network,
    data: TrainingData,
    epochs: Sequence[EpochResult],
) -> None:
    """Uploads the artifacts of a trial that is among the best of its arm. It must still be running: Optuna
    takes nothing more for one that is finished. A full disk costs the artifacts, not the trial.
    """
    rivals = [
        other
        for other in trial.study.get_trials(deepcopy=False)
        if ran_to_the_end(other) and other.user_attrs.get("arm") == architecture.block
    ]
    if sum(final_score(other) >= value for other in rivals) >= BEST:
        return
    title = f"trial {trial.number}: {architecture.block}, {architecture.depth} convs"
    try:
        folder = artifact_folder()
        folder.mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(str(folder))
        with tempfile.TemporaryDirectory() as scratch:
            for path in _write(Path(scratch), title, architecture, network, data, epochs):
                kind = "application/octet-stream" if path.suffix == ".pt" else None
                upload_artifact(
                    artifact_store=store, file_path=str(path), study_or_trial=trial, mimetype=kind
                )
    except (OSError, RuntimeError) as error:  # torch's word for a disk that is full
        tell_once(f"artifacts of good trials cannot be kept in {artifact_folder()}: {error}")


def _write(
    folder: Path,
    title: str,
    architecture: Architecture,
    network: Network,
    data: TrainingData,
    epochs: Sequence[EpochResult],
) -> list[Path]:
    import torch

    text, json, svg, weights = (
        folder / name for name in ("architecture.txt", "architecture.json", "curves.svg", "weights.pt")
    )
    text.write_text(f"{title}\n{architecture}\n\n{network}\n")
    json.write_text(architecture.to_json())
    curves = [e.train_accuracy for e in epochs], [e.val_accuracy for e in epochs]
    svg.write_text(curves_svg(title, architecture.block, *curves))
    torch.save(
        {
            "architecture": architecture.to_json(),
            "mean_C": data.mean_C.cpu(),
            "std_C": data.std_C.cpu(),
            "weights": {name: tensor.cpu() for name, tensor in network.state_dict().items()},
        },
        weights,
    )
    return [text, json, svg, weights]
