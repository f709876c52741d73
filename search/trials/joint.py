"""Several runs of a confirmation at a time, as one network: taken from the queue, trained, finished each by
itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna

from search.storage.leases import ClaimLost
from search.storage.patience import to_stderr
from search.storage.trial_record import TrialRecord
from search.training.joint import train_together
from search.training.results import State
from search.trials.companions import Companions
from search.trials.failures import PASSING, free, raise_device_failure
from search.trials.reporter import WAIT
from search.trials.runner import Attempt, TrialRunner
from search.trials.setup import Setup

Prepared = tuple[optuna.Trial, Setup]


@dataclass(frozen=True)
class JointRunner:
    """Runs a trial with its companions, where that pays."""

    runner: TrialRunner
    companions: Companions

    def run(self, trial: optuna.Trial, interrupted: Callable[[], bool]) -> str:
        """What TrialRunner.run does; its companions are finished along, or given back by the caller."""
        try:
            setup = self.runner.begin(trial)
        except PASSING:
            raise
        except Exception as error:  # the images of its split take memory
            return self.runner.fail(trial, error)
        if setup is None:
            return "infeasible"
        try:
            left = self._with_companions(trial, setup, interrupted)
        except PASSING:
            raise
        except Exception as error:  # of memory, or of one of them: alone, each shows its own
            self.companions.part(trial, setup)
            raise_device_failure(error)
            to_stderr(f"runs are queued again, each for itself: together they failed: {error}")
            return "interrupted"
        outcomes = ["interrupted" if left is None else "complete"]
        while left and outcomes[-1] != "interrupted":
            outcomes.append(self.runner.train(*left.pop(0), interrupted))
        return "error" if "error" in outcomes else outcomes[-1]

    def _with_companions(
        self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]
    ) -> list[Prepared] | None:
        """Takes its companions from the queue; trains and finishes, as one network, all that stand at the
        same step, as most of them do. Returns those to be trained alone, and None when interrupted."""
        runner, others = self.runner, self.companions.of(trial, setup)
        runs = [(trial, setup), *((other, begun) for other in others if (begun := runner.begin(other)))]
        wait = WAIT / len(runs)
        attempts = [runner.attempt(*run, interrupted, wait) for run in runs] if others else []
        try:
            states = [attempt.kept.newest() for attempt in attempts]
            steps = [state["step"] if state else 0 for state in states]
            alike = [i for i, step in enumerate(steps) if step == Counter(steps).most_common(1)[0][0]]
            if len(alike) < 2:
                return runs
            together = [attempts[i] for i in alike]
            whole = self._train(together, [states[i] for i in alike], interrupted)
        finally:
            for attempt in attempts:
                attempt.listeners.close()
            free(setup.data.device)
        return [run for i, run in enumerate(runs) if i not in alike] if whole else None

    def _train(
        self, attempts: Sequence[Attempt], states: Sequence[State | None], interrupted: Callable[[], bool]
    ) -> bool:
        """False where one was interrupted or lost."""
        setups = [attempt.setup for attempt in attempts]
        networks = [self.runner.trials.build(attempt.trial, attempt.setup) for attempt in attempts]
        for attempt, state in zip(attempts, states, strict=True):
            attempt.begin(state)
        results = train_together(
            setups[0].architecture,
            networks,
            [setup.data for setup in setups],
            [setup.config for setup in setups],
            [attempt.listeners.epoch_ended for attempt in attempts],
            interrupted,
            [attempt.kept.keep for attempt in attempts],
            [state for state in states if state] if all(states) else None,  # at step 0 there is none to need
        )
        whole = True
        for attempt, network, result in zip(attempts, networks, results, strict=True):
            try:  # each at once: what has looked at test images is not trained again for another's sake
                ending = self.runner.ending(attempt, network, result)
                if ending:
                    ending.attributes.update(TrialRecord.attributes(members=len(attempts)))
                    self.runner.finish(attempt, ending)
            except ClaimLost:
                ending = None
            whole = whole and ending is not None
        return whole
