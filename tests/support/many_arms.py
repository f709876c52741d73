"""A search and a confirmation of five arms, two of which the product does not have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.design.plan import Plan, PlannedRun
from search.storage.study_record import StudyRecord
from tests.support.made_trials import made
from tests.support.made_up import Gated, Halved, installed
from tests.support.plans import choice, ended_runs, plan

FIVE = ("plain", "residual", "preact", "gated", "halved")
LABELS = ("plain", "residual", "pre-activation", "gated residual", "halved")
"""Both in the order in which they are shown."""
CAUSES = ("fine", "slow", "vanished", "exploded", "collapsed", "diverged")
_LOST = dict(zip(FIVE, (0.016, 0.001, 0.002, 0.0015, 0.006), strict=True))
"""Share of accuracy that an arm loses with each conv beyond 15."""


def five_arms() -> AbstractContextManager[None]:
    return installed(Halved, Gated)


def search_of_five(draws: int = 60, seed: int = 0) -> list[FrozenTrial]:
    """Draws as every arm, 3 to 109 convs deep; a fifth of the trials is pruned. All have curves. To be made
    while the arms are installed."""
    rng = random.Random(seed)
    trials: list[FrozenTrial] = []
    for group in range(draws):
        blocks = round(54 ** rng.random())
        for arm in FIVE:
            value = 0.97 - _LOST[arm] * max(0, 2 * blocks - 14) + rng.gauss(0, 0.008)
            value = min(0.999, max(0.08, value))
            state = TrialState.PRUNED if rng.random() < 0.2 else TrialState.COMPLETE
            epochs = 4 if state == TrialState.PRUNED else 15
            curve = [round(value * epoch / (epoch + 0.5), 4) for epoch in range(1, epochs + 1)]
            number = len(trials)
            trial = made(
                number, arm, value, group=group, blocks=blocks, state=state, epochs=epochs,
                macs=blocks * 250_000 + 7 * number, params=blocks * 5_000, fingerprint=f"{number:x}",
                cause=CAUSES[number % len(CAUSES)], grad_ratio=rng.gauss(-0.05 * blocks, 0.5),
                feature_cosine=rng.random(),
                curve={"train_accuracy": [share / 2 for share in curve], "val_accuracy": curve},
            )  # fmt: skip
            trial.intermediate_values = dict(enumerate(curve, start=1))
            trials.append(trial)
    return trials


def plan_of_five(baseline: str = "plain", depths: Sequence[int] = (9, 15, 21, 33, 45)) -> Plan:
    """Every arm has a recipe of its own at every depth; ten seeds."""
    choices = [
        choice(arm, depth, lr=0.01 * (i + 1), val=0.9 + 0.01 * i)
        for depth in depths
        for i, arm in enumerate(FIVE)
    ]
    return plan(choices, search="five", seeds=(10,), baseline=baseline)


def runs_of_five(given: Plan) -> list[FrozenTrial]:
    """All runs of a plan. To be made while the arms are installed."""

    def score(run: PlannedRun) -> float:
        rng = random.Random(f"{run.replicate} {run.arm} {run.depth} {run.best_of}")
        return 0.97 - _LOST[run.arm] * max(0, run.depth - 15) + rng.gauss(0, 0.004)

    runs = ended_runs(given, score, feature_cosine=0.31, macs=10**6, fingerprint="f")
    for trial in runs:
        trial.user_attrs |= {"cause": CAUSES[trial.number % 6], "grad_ratio": -0.1 * (trial.number % 9)}
    return runs


def study_of_five(baseline: str = "plain") -> Study:
    """A search named five and its confirmation, in memory."""
    given = plan_of_five(baseline)
    with five_arms():
        search = _study("five", search_of_five(), None, spec={"search": {"baseline": baseline}})
        _study("five-confirm", runs_of_five(given), search, kind="confirmation", plan=given.to_json())
    return search


def _study(name: str, trials: Sequence[FrozenTrial], beside: Study | None, **attributes: object) -> Study:
    storage = None if beside is None else beside._storage
    study = optuna.create_study(study_name=name, direction="maximize", storage=storage)
    study.add_trials(trials)
    for key, value in StudyRecord.attributes(**attributes).items():
        study.set_user_attr(key, value)
    return study
