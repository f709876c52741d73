"""One trial: set up, refused or built, trained, told of, recorded. The only place where trial and network
meet."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
import torch
from optuna.trial import TrialState

from models.network import Network
from search.devices.memory import surely_exceeds
from search.spec.study import StudySpec
from search.storage.internals import trial_id_of
from search.storage.patience import PatientStorage
from search.storage.trial_record import TrialRecord
from search.training.checkpoints import Checkpoints, StudyCheckpoints
from search.training.results import EpochResult, State, TrainResult
from search.training.run import train
from search.trials.curve import Curve
from search.trials.failures import PASSING, free, is_device_failure, is_out_of_memory, raise_device_failure
from search.trials.listeners import Ended, Interrupted, Listener, Listeners
from search.trials.outcomes import Ending, ending_of
from search.trials.reporter import Reporter
from search.trials.setup import Setup

MAX_TRACEBACK = 8000
"""Characters that are kept of a traceback: its end."""


class Trials(Protocol):
    """What the trials of a kind of study train."""

    @property
    def spec(self) -> StudySpec: ...

    def set_up(self, trial: optuna.Trial) -> Setup:
        """What the trial trains: its parameters are drawn, or read."""

    def build(self, trial: optuna.Trial, setup: Setup) -> Network:
        """The network with its initial weights, on the CPU."""

    def listeners(self, trial: optuna.Trial) -> list[Listener]:
        """Whoever is told of the trial, beside those that all trials have."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial."""

    trial: optuna.Trial
    setup: Setup
    kept: Checkpoints
    listeners: Listeners

    def begin(self, state: State | None) -> None:
        """Tells the listeners; `state`: where an earlier attempt stood, if there is one to continue."""
        history = [EpochResult.of(values) for values in state["history"]] if state else []
        self.listeners.began(self.setup, history)


@dataclass(frozen=True)
class TrialRunner:
    """Runs the trials of a study, one at a time."""

    trials: Trials
    claims: PatientStorage
    checkpoints: StudyCheckpoints

    def run(self, trial: optuna.Trial, interrupted: Callable[[], bool]) -> str:
        """Trains the trial and finishes it in the database. Returns its outcome; after "interrupted" the
        trial is still this worker's and unfinished. Raises ClaimLost.
        """
        try:
            setup = self.begin(trial)
        except PASSING:
            raise
        except Exception as error:  # as where its images take more memory than there is
            return self.fail(trial, error)
        return self.train(trial, setup, interrupted) if setup else "infeasible"

    def begin(self, trial: optuna.Trial) -> Setup | None:
        """Records what the trial will train. None where that is infeasible, and the trial has finished."""
        setup = self.trials.set_up(trial)
        self.claims.annotate(trial_id_of(trial), setup.attributes())
        cap = self.trials.spec.space.max_params
        if cap is not None and setup.cost.params > cap:
            self._finish_untrained(trial, TrialState.PRUNED, outcome="infeasible", epochs=0)
            return None
        return setup

    def train(self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]) -> str:
        """Trains what `begin` has set up, and finishes the trial. Returns its outcome."""
        images, device = len(setup.data.train_NHWC), setup.data.device
        try:
            if surely_exceeds(setup.architecture, setup.config, images, device):
                self._finish_untrained(trial, TrialState.PRUNED, outcome="oom")
                return "oom"
            attempt = self.attempt(trial, setup, interrupted)
        except PASSING:
            raise
        except Exception as error:
            return self.fail(trial, error)
        keep = attempt.kept.keep
        try:
            network = self.trials.build(trial, setup)
            resume = attempt.kept.newest()
            attempt.begin(resume)
            told = attempt.listeners.epoch_ended
            result = train(network, setup.data, setup.config, told, interrupted, keep, resume)
            ending = self.ending(attempt, network, result)
        except PASSING:
            raise
        except Exception as error:
            outcome = self.fail(trial, error)
            attempt.kept.remove()
            return outcome
        finally:
            attempt.listeners.close()
            network = None  # type: ignore[assignment]
            free(device)
        return self.finish(attempt, ending) if ending else "interrupted"

    def attempt(self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]) -> Attempt:
        """An attempt, whose listeners are to be closed."""
        identity = setup.identity() | {"spec": self.trials.spec.fingerprint(), "torch": torch.__version__}
        kept = self.checkpoints.trial(trial.number, self.claims.worker or "", identity)
        return Attempt(trial, setup, kept, Listeners(self.listeners_of(trial, setup, interrupted)))

    def listeners_of(
        self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]
    ) -> Sequence[Listener]:
        """Everyone who is told of a trial, in the order in which they are told."""
        return [
            Reporter(trial, setup.config.epochs, interrupted),
            Curve(),
            *self.trials.listeners(trial),
        ]

    def ending(self, attempt: Attempt, network: Network, result: TrainResult) -> Ending | None:
        """What came of the run; None where it was interrupted, be it while its reports were written."""
        setup = attempt.setup
        try:
            if result.outcome == "interrupted":
                raise Interrupted
            ending = ending_of(setup.architecture, setup.data.classes, result)
            further = attempt.listeners.ended(Ended(setup, network, result, ending))
        except Interrupted:
            if seen := TrialRecord.attributes(**attempt.listeners.paused()):
                self.claims.annotate(trial_id_of(attempt.trial), seen)
            return None
        ending.attributes.update(TrialRecord.attributes(**further))
        return ending

    def finish(self, attempt: Attempt, ending: Ending) -> str:
        """Writes the end of a trial that was trained. Returns its outcome."""
        trial_id = trial_id_of(attempt.trial)
        self.claims.finish(trial_id, ending.state, ending.value, ending.attributes)
        attempt.kept.remove()
        return ending.outcome

    def fail(self, trial: optuna.Trial, error: Exception) -> str:
        """Finishes a trial that failed: deterministic errors are not tried again. Returns its outcome. Raises
        DeviceError when the GPU failed: no trial runs in this process any more, and this one is for another
        worker."""
        text = traceback.format_exc()[-MAX_TRACEBACK:]
        if is_device_failure(error):
            self.claims.release(trial_id_of(trial), spent=text)
            raise_device_failure(error)
        if is_out_of_memory(error):
            self._finish_untrained(trial, TrialState.PRUNED, outcome="oom")
            return "oom"
        self._finish_untrained(trial, TrialState.FAIL, outcome="error", error=text)
        return "error"

    def _finish_untrained(self, trial: optuna.Trial, state: TrialState, **values: Any) -> None:
        self.claims.finish(trial_id_of(trial), state, None, TrialRecord.attributes(**values))
