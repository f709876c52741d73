"""Which runs of a confirmation are trained as one network: one recipe and arm with several seeds.

Which ones is a function of the recipe's share in the study: every worker, and who goes on later, comes to the
same, since the sums of a network of other members have another rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from search.attempt import Setup
from search.claims import ClaimStorage
from search.data import steps_per_epoch
from search.objective import free, is_out_of_memory, raise_device_failure
from search.together import gain

MEMBERS = {"cpu": 5, "cuda": 10}
PAYS = 1.1
"""Times as fast as one after another, at least."""
LEAST_STEPS = 100
"""Of a run: a measurement costs about four of each member."""
AGREED = "together"
"""User attribute of the study: how many runs are trained as one, by architecture, batch and optimizer."""


@dataclass(frozen=True)
class Companions:
    claims: ClaimStorage
    most: int
    """Runs that may be trained as one, so that no worker is left without."""

    def of(self, trial: optuna.Trial, setup: Setup) -> list[optuna.Trial]:
        """Other runs in the queue that are trained with this one, now this worker's."""
        if self.most < 2 or (members := self.agreed(trial, setup)) < 2:
            return []
        study, own = trial.study, trial._cached_frozen_trial
        found = []
        for other in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            alike = other.system_attrs.get("fixed_params") == own.system_attrs["fixed_params"]
            unit, whole = (t.user_attrs["replicate"] // members for t in (other, own))
            if alike and unit == whole and self._take(study, other._trial_id):
                found.append(optuna.Trial(study, other._trial_id))
        return found

    def _take(self, study: optuna.Study, trial_id: int) -> bool:
        try:
            return study._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:  # by another worker, meanwhile
            return False

    def agreed(self, trial: optuna.Trial, setup: Setup) -> int:
        """How many are trained as one: measured by whoever comes first to this kind of network."""
        stored: dict[str, int] = trial.study.user_attrs.get(AGREED, {})
        if (kind := _kind(setup)) in stored:
            return stored[kind]
        return int(self.claims.agree(trial.study._study_id, AGREED, kind, self.measured(setup)))

    def part(self, trial: optuna.Trial, setup: Setup) -> None:
        """From now on, runs of this kind are trained alone."""
        self.claims.agree(trial.study._study_id, AGREED, _kind(setup), 1, anew=True)

    def measured(self, setup: Setup) -> int:
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
