"""Seeds: each a function of the study's seed and of what it is for, so that no restart repeats a draw."""

from __future__ import annotations

import numpy as np
from optuna.trial import FrozenTrial

from search.design.groups import position_of
from search.spec.study import StudySpec


def draw_seed(study_seed: int, number: int) -> int:
    """The sampler's seed for one trial: two workers never draw alike, a restart never repeats."""
    return _seed(study_seed, 0, number)


def training_seed(spec: StudySpec, trial: FrozenTrial) -> int:
    """Seed of weights, batch order and augmentation: one per group, one per trial outside groups."""
    position = position_of(trial, spec.space.block) if spec.search.design != "free" else None
    seed = spec.search.seed
    return _seed(seed, 1, position.group) if position else _seed(seed, 2, trial.number)


def confirmation_seed(study_seed: int, replicate: int) -> int:
    """Seed of weights, batch order and split of one replicate; a search draws none of these."""
    return _seed(study_seed, 3, replicate)


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)
