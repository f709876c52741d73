"""One run of a confirmation: fixed recipe, fresh seed and split, no pruner, test images looked at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from models.network import Network, build, weights_fingerprint
from search.arms import confirmation_seed
from search.attempt import Attempt, Setup
from search.companions import Companions
from search.data import TrainingData, to_device
from search.datasets import DataConfig, Images, Parts, Whole
from search.errors import SpecError, StudyFailed
from search.evaluation import State, TrainResult, evaluate
from search.leases import ClaimLost
from search.objective import PASSING, Ending, Objective, free, raise_device_failure
from search.optimization import autocast_of
from search.patience import to_stderr
from search.plan import Plan
from search.reporter import WAIT
from search.space import make_architecture, make_config, suggest
from search.spec import StudySpec
from search.storage import PLAN, claims_of, open_study
from search.together import train_together
from search.verdicts import TEST_READS


def templates(plan: Plan, search_seed: int) -> list[FrozenTrial]:
    """The plan's runs as queued trials, in order."""
    return [
        create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": {"block": run.arm, **run.params}},
            user_attrs={
                "group": run.twins,
                "replicate": run.replicate,
                "best_of": list(run.best_of),
                "seed": confirmation_seed(search_seed, run.replicate),
            },
        )
        for run in plan.runs()
    ]


def open_confirmation(
    url: str, name: str, spec: StudySpec, data_fingerprint: str, plan: Plan
) -> tuple[Study, Plan, int]:
    """The study, the plan that holds (whoever was first decides, seeds may be added), how many runs it has.
    All of them are queued. Raises what `open_study` raises, and SpecError where another plan was first."""

    def agree(stored: dict[str, Any] | None) -> dict[str, Any]:
        return (Plan.from_json(stored).with_seeds(plan.seeds[-1]) if stored else plan).to_json()

    study = open_study(url, name, spec, data_fingerprint, 0, "confirmation", agree)
    agreed = Plan.from_json(study.user_attrs[PLAN])
    if replace(agreed, seeds=plan.seeds) != plan:
        raise SpecError(
            f"another command began {name!r} meanwhile, at {agreed.depths} convs with a margin of "
            f"{agreed.margin:g}: the same line joins it if you leave out --depths and --margin"
        )
    queue = templates(agreed, spec.search.seed)
    claims_of(study).fill(study._study_id, queue)
    study.set_user_attr("budget", len(queue))
    return study, agreed, len(queue)


class Splits:
    """From a seed: what a run trains and validates on, and its test images. Keeps the last split: runs
    that are trained alone are queued seed by seed."""

    def __init__(self, whole: Whole, config: DataConfig, device: torch.device) -> None:
        self.whole, self.config, self.device = whole, config, device
        self.last: tuple[int, TrainingData, Images] | None = None

    def __call__(self, seed: int) -> tuple[TrainingData, Images]:
        if self.last is None or self.last[0] != seed:
            parts = self._parts(seed)
            data = to_device(parts.train, parts.val, parts.classes, self.device)
            self.last = seed, data, parts.test
        return self.last[1:]

    def test(self, seed: int) -> Images:
        return self.last[2] if self.last and self.last[0] == seed else self._parts(seed).test

    def _parts(self, seed: int) -> Parts:
        return self.whole.split(replace(self.config, seed=seed))


@dataclass(frozen=True)
class Confirmation(Objective):
    """The objective of a confirmation; `data` is not trained on."""

    splits: Splits
    companions: Companions

    def run(self, trial: optuna.Trial, interrupted: Callable[[], bool]) -> str:
        try:
            setup = self.begin(trial)
        except PASSING:
            raise
        except Exception as error:  # the images of its split take memory
            return self.fail(trial, error)
        if setup is None:
            return "infeasible"
        try:
            left = self.train_with_others(trial, setup, interrupted)
        except PASSING:
            raise
        except Exception as error:  # of memory, or of one of them: alone, each shows its own
            self.companions.part(trial, setup)
            raise_device_failure(error)
            to_stderr(f"runs are queued again, each for itself: together they failed: {error}")
            return "interrupted"
        outcomes = ["interrupted" if left is None else "complete"]
        while left and outcomes[-1] != "interrupted":
            outcomes.append(self.train(*left.pop(0), interrupted))
        return "error" if "error" in outcomes else outcomes[-1]

    def train_with_others(
        self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]
    ) -> list[tuple[optuna.Trial, Setup]] | None:
        """Takes its companions from the queue; trains and finishes, as one network, all that stand at the
        same step, as most of them do. Returns those to be trained alone, and None when interrupted."""
        others = self.companions.of(trial, setup)
        runs = [(trial, setup), *((other, begun) for other in others if (begun := self.begin(other)))]
        attempts = [self.attempt(*run, WAIT / len(runs)) for run in runs] if others else []
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
                attempt.close()
            free(setup.data.device)
        return [run for i, run in enumerate(runs) if i not in alike] if whole else None

    def _train(
        self, attempts: Sequence[Attempt], states: Sequence[State | None], interrupted: Callable[[], bool]
    ) -> bool:
        """False where one was interrupted or lost."""
        setups = [attempt.setup for attempt in attempts]
        networks = [self.build(attempt.trial, attempt.setup) for attempt in attempts]
        for attempt, state in zip(attempts, states, strict=True):
            attempt.replay(state)
        results = train_together(
            setups[0].architecture,
            networks,
            [setup.data for setup in setups],
            [setup.config for setup in setups],
            [attempt.report for attempt in attempts],
            interrupted,
            [attempt.kept.keep for attempt in attempts],
            [state for state in states if state] if all(states) else None,  # at step 0 there is none to need
        )
        whole = True
        for attempt, network, result in zip(attempts, networks, results, strict=True):
            try:  # each at once: what has looked at test images is not trained again for another's sake
                ending = self.ending(attempt, network, result, interrupted)
                if ending:
                    ending.attrs["members"] = len(attempts)
                    self.finish(attempt, ending)
            except ClaimLost:
                ending = None
            whole = whole and ending is not None
        return whole

    def set_up(self, trial: optuna.Trial) -> Setup:
        values, seed = suggest(trial, self.spec.space), trial.user_attrs["seed"]
        data, _ = self.splits(seed)
        architecture = make_architecture(values, self.spec.space, self.image_shape, data.classes)
        return Setup(architecture, make_config(values, self.spec, seed), data, {"data_seed": seed})

    def build(self, trial: optuna.Trial, setup: Setup) -> Network:
        """Raises StudyFailed when a twin, perhaps on another machine, started from other weights."""
        network = build(setup.architecture, setup.config.seed)
        weights = weights_fingerprint(network)
        self.claims.annotate(trial._trial_id, {"weights": weights})
        for twin in trial.study.get_trials(deepcopy=False):
            same = twin.user_attrs["group"] == trial.user_attrs["group"]
            if same and twin.user_attrs.get("weights", weights) != weights:
                raise StudyFailed(
                    f"trials {trial.number} and {twin.number} are twins, but start from different weights: "
                    "do all workers have the same version of torch?"
                )
        return network

    def conclude(
        self, trial: optuna.Trial, setup: Setup, network: Network, result: TrainResult, ending: Ending
    ) -> dict[str, Any]:
        if ending.outcome == "diverged":
            return {"test_accuracy": ending.value}
        self.claims.count_up(trial.study._study_id, TEST_READS)  # before: a reading that is lost counts too
        images = self.splits.test(setup.config.seed)
        data = replace(
            setup.data,
            val_NHWC=torch.from_numpy(images.pixels_NHWC).to(setup.data.device),
            val_labels_N=torch.from_numpy(images.labels_N).to(setup.data.device),
        )
        _, accuracy = evaluate(network, data, autocast_of(setup.config, setup.data.device))
        return {"test_accuracy": accuracy}
