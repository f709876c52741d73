"""One run of a confirmation: fixed recipe, fresh seed and split, no pruner, test images looked at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import optuna
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from models.network import Network, build, weights_fingerprint
from search.arms import confirmation_seed
from search.attempt import Setup
from search.companions import Companions
from search.data import TrainingData, to_device
from search.datasets import DataConfig, Images, Whole
from search.errors import SearchError, SpecError, StudyFailed
from search.evaluation import TrainResult, evaluate
from search.leases import ClaimLost
from search.objective import Ending, Objective, free
from search.optimization import autocast_of
from search.patience import to_stderr
from search.plan import Plan
from search.space import make_architecture, make_config, suggest
from search.spec import StudySpec
from search.storage import PLAN, claims_of, open_study
from search.together import train_together
from search.verdicts import TEST_READS

Splits = Callable[[int], tuple[TrainingData, Images]]
"""From a seed: what a run trains and validates on, and its test images."""


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


def splits_of(whole: Whole, config: DataConfig, device: torch.device) -> Splits:
    """Keeps the last split: runs are queued seed by seed."""

    @lru_cache(maxsize=1)
    def at(seed: int) -> tuple[TrainingData, Images]:
        parts = whole.split(replace(config, seed=seed))
        return to_device(parts.train, parts.val, parts.classes, device), parts.test

    return at


@dataclass(frozen=True)
class Confirmation(Objective):
    """The objective of a confirmation; `data` is not trained on."""

    splits: Splits
    companions: Companions

    def run(self, trial: optuna.Trial, interrupted: Callable[[], bool]) -> str:
        setup = self.begin(trial)
        if setup is None:
            return "infeasible"
        others = self.companions.of(trial, setup)
        runs = [(trial, setup), *((other, begun) for other in others if (begun := self.begin(other)))]
        if len(runs) < 2:
            return self.train(trial, setup, interrupted)
        try:
            left = self.train_together(runs, interrupted)
        except (SearchError, ClaimLost, optuna.exceptions.StorageInternalError):
            raise
        except Exception as error:  # of memory, or of one of them: alone, each shows its own
            to_stderr(f"runs are queued again, each for itself: together they failed: {error}")
            self.companions.part(trial, setup)
            return "interrupted"
        outcomes = ["interrupted" if left is None else "complete"]
        while left and outcomes[-1] != "interrupted":
            outcomes.append(self.train(*left.pop(), interrupted))
        return outcomes[-1]

    def train_together(
        self, runs: Sequence[tuple[optuna.Trial, Setup]], interrupted: Callable[[], bool]
    ) -> list[tuple[optuna.Trial, Setup]] | None:
        """Trains and finishes those that stand at the same step, as most of them do; returns the others, and
        None when interrupted."""
        attempts = [self.attempt(*run) for run in runs]
        try:
            states = [attempt.kept.newest() for attempt in attempts]
            steps = [state["step"] if state else 0 for state in states]
            alike = [i for i, step in enumerate(steps) if step == Counter(steps).most_common(1)[0][0]]
            if len(alike) < 2:
                return list(runs)
            networks = [self.build(*runs[i]) for i in alike]
            setups, together = [runs[i][1] for i in alike], [attempts[i] for i in alike]
            for i in alike:
                attempts[i].replay(states[i])
            results = train_together(
                setups[0].architecture,
                networks,
                [setup.data for setup in setups],
                [setup.config for setup in setups],
                [attempt.report for attempt in together],
                interrupted,
                [attempt.kept.keep for attempt in together],
                [state for i in alike if (state := states[i])] or None,
            )
            endings = [
                (attempt, self.ending(attempt, network, result, interrupted))
                for attempt, network, result in zip(together, networks, results, strict=True)
            ]
        finally:
            for attempt in attempts:
                attempt.close()
            networks = []
            free(runs[0][1].data.device)
        for attempt, ending in endings:
            if ending:
                ending.attrs["members"] = len(alike)
                self.finish(attempt, ending)
        if any(ending is None for _, ending in endings):
            return None
        return [run for i, run in enumerate(runs) if i not in alike]

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
        _, images = self.splits(setup.config.seed)
        data = replace(
            setup.data,
            val_NHWC=torch.from_numpy(images.pixels_NHWC).to(setup.data.device),
            val_labels_N=torch.from_numpy(images.labels_N).to(setup.data.device),
        )
        _, accuracy = evaluate(network, data, autocast_of(setup.config, setup.data.device))
        return {"test_accuracy": accuracy}
