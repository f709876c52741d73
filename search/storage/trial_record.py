"""A trial's stored attributes, as a value with types. No other module knows their names.

To store something else, add a line to TrialRecord; `TrialRecord.attributes` makes what is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from models.architecture import Architecture
from search.storage.attributes import Attribute, Stored
from search.storage.internals import QUEUED_PARAMS, trial_id_of

TURN = "archsearch:slot"
"""System attribute of a trial: number of trials that the sampler had been asked for before this one."""
PLACE = "archsearch:place"
"""System attribute of a trial of a stratified design: its group, arm, stratum, and whether it leads."""
ARTIFACT = "artifacts:"
"""Beginning of the system attributes in which Optuna keeps what it knows of a trial's artifacts, as JSON."""
WEIGHTS = "weights.pt"
"""File name of the artifact that holds the weights."""
GOES_ON = "archsearch:goes_on"
"""System attribute of a lead of a stratified design, once it is known that its group is trained."""


@dataclass(frozen=True)
class TrialRecord(Stored):
    """A trial as it is stored. Accuracies and scores are shares from 0 to 1."""

    trial: FrozenTrial

    # known before it is trained
    arm = Attribute[str]("")
    """Name of its arm; empty until it is known."""
    seed = Attribute[int | None](None)
    """Seed of weights, batches and augmentation."""
    depth = Attribute[int](0)
    """Convolutions on the main path; 0 until it is known."""
    architecture_json = Attribute[str]("", "architecture")
    fingerprint = Attribute[str]("")
    """Fingerprint of what is trained and how, seeds apart."""
    device = Attribute[str | None](None)
    """Kind of its device: cpu or cuda."""
    num_params = Attribute[int | None](None, "params")
    macs = Attribute[int | None](None)
    """Multiply-adds for one image."""
    group = Attribute[int | None](None)
    """Number of the draw that it belongs to; of the recipe and seed in a confirmation, see
    PlannedRun.twins."""
    stratum = Attribute[str]("")
    """Name of the stratum of depth that it was drawn in; empty in other designs."""
    lead = Attribute[bool | None](None)
    """Whether the sampler drew it; its followers copy it."""
    replicate_of = Attribute[int | None](None)
    """Number of the trial that trained the same with another seed."""
    weights = Attribute[str | None](None)
    """Fingerprint of the initial weights that twins share."""
    # of a confirmation
    replicate = Attribute[int](0)
    """Number of its seed, from 0."""
    best_of = Attribute[list[str]]([])
    """Arms of which its recipe is the best."""
    data_seed = Attribute[int | None](None)
    """Seed of its split of the images; None: the study's."""
    members = Attribute[int | None](None)
    """Number of runs that were trained as one network, in confirmations of early versions."""
    test_accuracy = Attribute[float | None](None)
    # how it ended
    outcome = Attribute[str | None](None)
    """One of complete, pruned, diverged, oom, infeasible, error and lost."""
    epochs = Attribute[int](0)
    """Epochs that were trained."""
    train_accuracy = Attribute[float | None](None)
    """Accuracy in the last epoch, on images as they were trained on."""
    val_accuracy = Attribute[float | None](None)
    """Mean accuracy of the last epochs; chance where it diverged."""
    val_loss = Attribute[float | None](None)
    train_seconds = Attribute[float | None](None)
    images_per_second = Attribute[float | None](None)
    loss_at_start = Attribute[float | None](None)
    cause = Attribute[str]("unknown")
    """One of fine, vanished, exploded, collapsed, slow and diverged."""
    grad_ratio = Attribute[float | None](None)
    """log10 of the first over the last convolution's gradient, at the start of training."""
    feature_cosine = Attribute[float | None](None)
    """Mean cosine between the features of different images, at the start of training."""
    diagnostics = Attribute[dict[str, dict[str, float | None]]]({})
    """All measures, at the start and in the end."""
    gradients = Attribute[dict[str, list[float]]]({})
    """log10 of the gradient norm of every block conv, at the start and in the end; none of trials that early
    versions trained."""
    curve = Attribute[dict[str, list[float | None]]]({})
    """Training and validation, accuracy and loss, after every epoch: see search.trials.curve."""
    error = Attribute[str | None](None)
    """The end of the traceback."""
    # who ran it
    worker = Attribute[str | None](None)
    attempt = Attribute[int](0)
    """Runs of the trial that count, this one included."""
    lost_workers = Attribute[list[str | None]]([])
    # of a repeat
    origin = Attribute[int](0)
    """Number of the trial that was repeated."""
    changed = Attribute[dict[str, Any]]({})
    """New values of what was changed, by name."""
    difference = Attribute[str | None](None)
    """Line about what an unchanged repeat showed."""

    @property
    def stored(self) -> dict[str, Any]:
        return self.trial.user_attrs

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def trial_id(self) -> int:
        """The key of the trial in its table."""
        return trial_id_of(self.trial)

    @property
    def drawn(self) -> dict[str, Any]:
        """The parameters that Optuna recorded."""
        return self.trial.params

    @property
    def queued(self) -> dict[str, Any]:
        """The parameters that a queued trial is to have."""
        queued: dict[str, Any] = self.trial.system_attrs.get(QUEUED_PARAMS, {})
        return queued

    @property
    def turn(self) -> int | None:
        """Number of trials that the sampler had been asked for before it; None for queued trials."""
        return self.trial.system_attrs.get(TURN)

    @property
    def place(self) -> dict[str, Any] | None:
        """Its place in a stratified design: see search.design.groups.Position; None elsewhere."""
        return self.trial.system_attrs.get(PLACE)

    @property
    def artifacts(self) -> dict[str, str]:
        """Keys of its artifacts by their file names."""
        found = {}
        for name, value in self.trial.system_attrs.items():
            if name.startswith(ARTIFACT):
                stored = json.loads(value)
                found[stored["filename"]] = stored["artifact_id"]
        return found

    @property
    def goes_on(self) -> bool:
        """Whether it is a lead whose group is trained, as far as is known."""
        return bool(self.trial.system_attrs.get(GOES_ON))

    @property
    def reported(self) -> dict[int, float]:
        """Validation accuracy by epoch."""
        return self.trial.intermediate_values

    @property
    def started_at(self) -> datetime | None:
        """When its worker took it."""
        return self.trial.datetime_start

    @property
    def ended_at(self) -> datetime | None:
        return self.trial.datetime_complete

    @property
    def is_running(self) -> bool:
        return self.trial.state == TrialState.RUNNING

    @property
    def is_finished(self) -> bool:
        return self.trial.state.is_finished()

    @property
    def is_pruned(self) -> bool:
        return self.trial.state == TrialState.PRUNED

    @property
    def ran_to_the_end(self) -> bool:
        """Complete and diverged trials have a final score; a pruned one has only where it was stopped."""
        return self.trial.state == TrialState.COMPLETE

    @property
    def score(self) -> float:
        """The final score of a trial that ran to the end."""
        assert self.trial.value is not None, "only trials that ran to the end have a score"
        return self.trial.value

    @property
    def is_described(self) -> bool:
        """Whether it has finished, and got as far as knowing its arm and depth."""
        return self.is_finished and bool(self.arm and self.depth)

    @property
    def diverged(self) -> bool:
        return self.outcome == "diverged"

    @property
    def ended(self) -> str:
        """Its outcome, or Optuna's word where it has none."""
        return self.outcome or self.trial.state.name.lower()

    @property
    def architecture(self) -> Architecture | None:
        """Its architecture; None where it is not known, or cannot be built here."""
        try:
            return Architecture.from_json(self.architecture_json) if self.architecture_json else None
        except ValueError:  # an arm, a norm that is not installed here
            return None

    @property
    def outline(self) -> str:
        """Architecture.outline and its norm; empty where they are not known."""
        architecture = self.architecture
        return f"{architecture.outline}, {architecture.norm}" if architecture else ""

    @property
    def architecture_words(self) -> str:
        """Its architecture in words: arm, convs, stages, widths; the first two where it is not known."""
        return str(self.architecture or f"{self.arm}, {self.depth} convs")


def records_of(study: Study) -> list[TrialRecord]:
    """Every trial of a study, in order of their numbers."""
    return [TrialRecord(trial) for trial in study.get_trials(deepcopy=False)]


def finished(records: Iterable[TrialRecord]) -> int:
    """Number of those that have ended, in whatever way."""
    return sum(record.is_finished for record in records)
