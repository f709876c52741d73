"""Plans made by hand, and runs of theirs that have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from search.design.plan import Choice, Plan, PlannedRun
from tests.support.arms import OURS
from tests.support.made_trials import made


def choice(arm: str, depth: int, lr: float = 0.1, val: float = 0.9) -> Choice:
    return Choice(
        arm=arm, depth=depth, trial=depth, trial_depth=depth, val_accuracy=val, candidates=3,
        params={"lr_sgd": lr, "blocks_1": depth // 2}, seconds=2.0,
    )  # fmt: skip


def plan(choices: list[Choice], **changes: Any) -> Plan:
    return replace(
        Plan(
            search="digits", trials=99, margin=1.0, seeds=(3,), epochs=15, steps=240, choices=tuple(choices)
        ),
        **changes,
    )


RATES = dict(zip(OURS, (0.1, 0.2, 0.3), strict=True))


def ended(number: int, run: PlannedRun, test: float, **attrs: Any) -> FrozenTrial:
    """A run with this test accuracy. It validates a point worse than it tests, and trains two worse still."""
    val = max(0.0, round(test - 0.01, 6))
    given = {"test_accuracy": test} | attrs
    return made(number, run.arm, val, group=run.twins, blocks=run.depth // 2, **given)


def ended_runs(plan: Plan, score: Callable[[PlannedRun], float], **attrs: Any) -> list[FrozenTrial]:
    """All runs of the plan, their test accuracies given by `score`."""
    return [ended(i, run, score(run), **attrs) for i, run in enumerate(plan.runs())]
