"""Plans made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search.design.plan import Choice, Plan


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


ARMS = ("plain", "residual", "preact")
RATES = dict(zip(ARMS, (0.1, 0.2, 0.3), strict=True))
