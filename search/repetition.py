"""A run of a stored trial, again: training, comparison with what is stored, and its own place in a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState, create_trial

from models.cost import measure_cost
from models.network import build
from search.attempt import Setup, described
from search.changes import Recipe, distributions
from search.data import to_device
from search.datasets import Parts
from search.errors import SpecError
from search.evaluation import EpochResult, TrainResult
from search.objective import ending_of
from search.scores import ran_to_the_end
from search.space import make_architecture, make_config
from search.spec import StudySpec
from search.storage import REPEATS, open_study
from search.train import train


@dataclass(frozen=True)
class Repetition:
    recipe: Recipe
    result: TrainResult
    value: float
    """Validation accuracy, 0 to 1: mean of the last epochs."""
    attrs: dict[str, Any]
    """As a trial has them."""


def repeat(
    recipe: Recipe, spec: StudySpec, parts: Parts, device: str, on_epoch: Callable[[EpochResult], None]
) -> Repetition:
    """Trains to the end, no pruner asked. Raises SpecError for a network that cannot be."""
    if device == "cpu":
        torch.set_num_threads(1)  # as in a search: more threads change the order of sums
    values, shape = recipe.values, parts.image_shape
    try:
        architecture = make_architecture(values, spec.space, shape, parts.classes)
    except ValueError as error:
        raise SpecError(f"there is no such network: {error}") from None
    config = make_config(values, replace(spec, train=recipe.train), recipe.seed)
    data = to_device(parts.train, parts.val, parts.classes, torch.device(device))
    setup = Setup(architecture, config, data, {})
    cost = measure_cost(architecture)
    result = train(build(architecture, recipe.seed), data, config, lambda epoch: on_epoch(epoch))
    ending = ending_of(architecture, parts.classes, result)
    attrs = described(setup) | {"params": cost.params, "macs": cost.macs} | ending.attrs
    return Repetition(recipe, result, ending.value, attrs)


def difference(origin: FrozenTrial, repetition: Repetition) -> str:
    """What an unchanged repeat shows, in a line."""
    now = {epoch.epoch: epoch.val_accuracy for epoch in repetition.result.epochs}
    then = {epoch: value for epoch, value in origin.intermediate_values.items() if epoch in now}
    first = next((epoch for epoch in sorted(then) if then[epoch] != now[epoch]), None)
    ended = ran_to_the_end(origin)
    last = ("train_accuracy", "val_loss", "outcome")
    same_end = not ended or all(origin.user_attrs.get(key) == repetition.attrs[key] for key in last)
    if first is None and same_end and len(then) == len(origin.intermediate_values):
        if ended:
            return f"identical: all {len(then)} epochs, training accuracy and loss, to the last bit"
        reached = 100 * repetition.value
        return (
            f"identical in the {len(then)} epochs that it had; trained to the end it reaches {reached:.1f} %"
        )
    members = origin.user_attrs.get("members")
    why = f"; it was one of {members} runs in one network, whose sums round otherwise" if members else ""
    where = "in the end" if first is None else f"from epoch {first} on"
    gap = 100 * (repetition.value - origin.value) if ended and origin.value is not None else None
    by = "" if gap is None else f", validation accuracy by {gap:+.2f} points"
    return f"not identical: differs {where}{by}{why}"


def keep(
    url: str,
    name: str,
    origin: FrozenTrial,
    spec: StudySpec,
    data_fingerprint: str,
    repetition: Repetition,
    changes: dict[str, Any],
) -> FrozenTrial:
    """Adds the run to the study of repeats, linked to its origin in the study `name`."""
    study = open_study(url, f"{name}-repeat", spec, data_fingerprint, 0, REPEATS)
    links: dict[str, Any] = {"origin": origin.number, "changed": changes}
    if not changes:
        links["difference"] = difference(origin, repetition)
    values = repetition.recipe.values
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            value=repetition.value,
            params=values,
            distributions=distributions(values),
            user_attrs=repetition.attrs | links,
            intermediate_values={epoch.epoch: epoch.val_accuracy for epoch in repetition.result.epochs},
        )
    )
    return study.get_trials(deepcopy=False)[-1]
