"""What the best trials of each arm leave behind: the architecture and the weights. Their curves are in the
database."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from search.analysis.trials import of_arm
from search.environment import artifact_folder
from search.errors import tell_once
from search.storage.trial_record import WEIGHTS, records_of
from search.trials.listeners import Ended, Listener

BEST = 3
"""Trials of each arm that carry artifacts, at least: one that is overtaken later keeps its own."""


class KeepBest(Listener):
    """Uploads the artifacts of a trial that is among the best of its arm when it ends. A full disk costs the
    artifacts, not the trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def ended(self, end: Ended) -> dict[str, Any]:
        """The trial must still be running: Optuna takes nothing more for one that is finished."""
        if end.ending.outcome != "complete" or not self._is_among_the_best(end):
            return {}
        title = (
            f"trial {self.trial.number}: {end.setup.architecture.block}, {end.setup.architecture.depth} convs"
        )
        try:
            folder = artifact_folder()
            folder.mkdir(parents=True, exist_ok=True)
            store = FileSystemArtifactStore(str(folder))
            with tempfile.TemporaryDirectory() as scratch:
                for path in _write(Path(scratch), title, end):
                    kind = "application/octet-stream" if path.suffix == ".pt" else None
                    upload_artifact(
                        artifact_store=store, file_path=str(path), study_or_trial=self.trial, mimetype=kind
                    )
        except (OSError, RuntimeError) as error:  # torch's word for a disk that is full
            tell_once(f"artifacts of good trials cannot be kept in {artifact_folder()}: {error}")
        return {}

    def _is_among_the_best(self, end: Ended) -> bool:
        rivals = of_arm(records_of(self.trial.study), end.setup.architecture.block)
        better = [trial for trial in rivals if trial.ran_to_the_end and trial.score >= end.ending.value]
        return len(better) < BEST


def _write(folder: Path, title: str, end: Ended) -> list[Path]:
    architecture, data = end.setup.architecture, end.setup.data
    text, json, weights = (folder / name for name in ("architecture.txt", "architecture.json", WEIGHTS))
    text.write_text(f"{title}\n{architecture}\n\n{end.network}\n")
    json.write_text(architecture.to_json())
    torch.save(
        {
            "architecture": architecture.to_json(),
            "mean_C": data.mean_C.cpu(),
            "std_C": data.std_C.cpu(),
            "weights": {name: tensor.cpu() for name, tensor in end.network.state_dict().items()},
        },
        weights,
    )
    return [text, json, weights]
