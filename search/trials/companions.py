"""Which runs of a confirmation are trained as one network: one recipe and arm with several seeds.

Which ones is a function of the recipe's share in the study: every worker, and who goes on later, comes to the
same, since the sums of a network of other members have another rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from search.data.splits import steps_per_epoch
from search.storage.internals import as_begun, storage_of, study_id_of, trial_id_of
from search.storage.patience import PatientStorage
from search.storage.study_record import StudyRecord, record_of_study
from search.storage.trial_record import TrialRecord
from search.training.joint import gain
from search.trials.failures import free, is_out_of_memory, raise_device_failure
from search.trials.setup import Setup

MEMBERS = {"cpu": 5, "cuda": 10}
"""Runs of a network, at most, by kind of device."""
PAYS = 1.1
"""Times as fast as one after another, at least."""
LEAST_STEPS = 100
"""Steps of a run, at least: a measurement costs about four of each member."""


@dataclass(frozen=True)
class Companions:
    claims: PatientStorage
    most: int
    """Runs that may be trained as one, so that no worker is left without."""

    def of(self, trial: optuna.Trial, setup: Setup) -> list[optuna.Trial]:
        """Other runs in the queue that are trained with this one, now this worker's."""
        if self.most < 2 or (members := self.agreed(trial, setup)) < 2:
            return []
        study, own = trial.study, TrialRecord(as_begun(trial))
        found = []
        for other in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            queued = TrialRecord(other)
            same_unit = queued.replicate // members == own.replicate // members
            if queued.queued == own.queued and same_unit and self._take(study, trial_id_of(other)):
                found.append(optuna.Trial(study, trial_id_of(other)))
        return found

    def _take(self, study: optuna.Study, trial_id: int) -> bool:
        try:
            return storage_of(study).set_trial_state_values(trial_id, state=TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:  # by another worker, meanwhile
            return False

    def agreed(self, trial: optuna.Trial, setup: Setup) -> int:
        """How many are trained as one: measured by whoever comes first to this kind of network."""
        stored, kind = record_of_study(trial.study).together, _kind(setup)
        if kind in stored:
            return stored[kind]
        return int(self._agree(trial, kind, self.measured(setup), anew=False))

    def part(self, trial: optuna.Trial, setup: Setup) -> None:
        """From now on, runs of this kind are trained alone."""
        self._agree(trial, _kind(setup), 1, anew=True)

    def _agree(self, trial: optuna.Trial, kind: str, members: int, anew: bool) -> int:
        name = StudyRecord.together.name
        return int(self.claims.agree(study_id_of(trial.study), name, kind, members, anew))

    def measured(self, setup: Setup) -> int:
        """How many pay on this machine, by a few steps of them."""
        data, config = setup.data, setup.config
        members = min(MEMBERS[data.device.type], self.most)
        steps = config.epochs * steps_per_epoch(len(data.train_NHWC), config.batch_size)
        while members > 1 and steps >= LEAST_STEPS:
            try:
                return members if gain(setup.architecture, config, data, members) >= PAYS else 1
            except Exception as error:
                raise_device_failure(error)
                if not is_out_of_memory(error):
                    return 1  # alone, it shows what is wrong with it
                members //= 2
            finally:
                free(data.device)
        return 1


def _kind(setup: Setup) -> str:
    device = setup.data.device.type
    return f"{device} {setup.architecture.fingerprint()} {setup.config.batch_size} {setup.config.optimizer}"
