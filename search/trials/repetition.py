"""A run of a stored trial, again: training, comparison with what is stored, and its own place in a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from models.network import build
from search.data.batches import to_device
from search.data.images import Parts
from search.design.space import Values, make_architecture, make_config, values_of
from search.design.variations import Recipe, widest_distributions
from search.errors import SpecError
from search.keys import keys_of
from search.spec.study import StudySpec
from search.spec.tables import TrainSettings
from search.storage.studies import open_study, repeats_name
from search.storage.study_record import REPEATS
from search.storage.trial_record import TrialRecord, records_of
from search.training.results import TrainResult
from search.training.run import train
from search.trials.curve import Curve
from search.trials.listeners import Ended, Listener, Listeners
from search.trials.outcomes import ending_of
from search.trials.setup import Setup


@dataclass(frozen=True)
class Repetition:
    """A run of a recipe that was trained before."""

    recipe: Recipe
    result: TrainResult
    value: float
    """Validation accuracy, 0 to 1: mean of the last epochs."""
    attributes: dict[str, Any]
    """User attributes to be stored, as of any trial."""


def recipe_of(origin: TrialRecord, spec: StudySpec) -> Recipe:
    """What a stored trial was made of, be it a repeat with something changed. Raises SpecError where that is
    not known."""
    if origin.seed is None:
        raise SpecError(f"trial {origin.number} has no seed: it was not trained by archsearch")
    values = values_of(origin.drawn, spec.space) | {"block": origin.arm}
    settings = {key: value for key, value in origin.changed.items() if key in keys_of(TrainSettings)}
    return Recipe(values, replace(spec.train, **settings), origin.seed)


def repeat(
    recipe: Recipe, spec: StudySpec, parts: Parts, device: str, listeners: Sequence[Listener]
) -> Repetition:
    """Trains to the end, no pruner asked. Raises SpecError for a network that cannot be."""
    if device == "cpu":
        torch.set_num_threads(1)  # as in a search: more threads change the order of sums
    setup = _set_up(recipe, spec, parts, device)
    heard = Listeners([Curve(), *listeners])
    try:
        heard.began(setup, [])
        network = build(setup.architecture, recipe.seed)
        # to its end, whatever a listener wishes
        result = train(network, setup.data, setup.config, lambda epoch: heard.epoch_ended(epoch) and False)
        ending = ending_of(setup.architecture, parts.classes, result)
        further = TrialRecord.attributes(**heard.ended(Ended(setup, network, result, ending)))
    finally:
        heard.close()
    return Repetition(recipe, result, ending.value, setup.attributes() | ending.attributes | further)


def _set_up(recipe: Recipe, spec: StudySpec, parts: Parts, device: str) -> Setup:
    try:
        architecture = make_architecture(recipe.values, spec.space, parts.image_shape, parts.classes)
    except ValueError as error:
        raise SpecError(f"there is no such network: {error}") from None
    config = make_config(recipe.values, replace(spec, train=recipe.train), recipe.seed)
    data = to_device(parts.train, parts.val, parts.classes, torch.device(device))
    return Setup(architecture, config, data)


def difference(origin: TrialRecord, repetition: Repetition) -> str:
    """What an unchanged repeat shows, in a line."""
    now = {epoch.epoch: epoch.val_accuracy for epoch in repetition.result.epochs}
    then = {epoch: value for epoch, value in origin.reported.items() if epoch in now}
    first = next((epoch for epoch in sorted(then) if then[epoch] != now[epoch]), None)
    ended = origin.ran_to_the_end
    same_end = not ended or all(
        origin.stored.get(field.name) == repetition.attributes.get(field.name)
        for field in (TrialRecord.train_accuracy, TrialRecord.val_loss, TrialRecord.outcome)
    )
    if first is None and same_end and len(then) == len(origin.reported):
        if ended:
            return f"identical: all {len(then)} epochs, training accuracy and loss, to the last bit"
        reached = 100 * repetition.value
        return (
            f"identical in the {len(then)} epochs that it had; trained to the end it reaches {reached:.1f} %"
        )
    why = f"; it was one of {origin.members} runs in one network, whose sums round otherwise"
    where = "in the end" if first is None else f"from epoch {first} on"
    by = f", validation accuracy by {100 * (repetition.value - origin.score):+.2f} points" if ended else ""
    return f"not identical: differs {where}{by}{why if origin.members else ''}"


def keep(
    url: str,
    name: str,
    origin: TrialRecord,
    spec: StudySpec,
    data_fingerprint: str,
    repetition: Repetition,
    changes: dict[str, Any],
) -> TrialRecord:
    """Adds the run to the study of repeats, linked to its origin in the study `name`."""
    study = open_study(url, repeats_name(name), spec, data_fingerprint, 0, REPEATS)
    links = TrialRecord.attributes(
        origin=origin.number,
        changed=changes,
        data_seed=origin.data_seed,
        difference=None if changes else difference(origin, repetition),
    )
    distributions = _distributions(study, repetition.recipe.values)
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            value=repetition.value,
            params={name: repetition.recipe.values[name] for name in distributions},
            distributions=distributions,
            user_attrs=repetition.attributes | links,
            intermediate_values={epoch.epoch: epoch.val_accuracy for epoch in repetition.result.epochs},
        )
    )
    return records_of(study)[-1]


def _distributions(study: Study, values: Values) -> dict[str, BaseDistribution]:
    """Those that the study's trials have already, where there are any: Optuna lets no choice be added later.
    A value beyond them, as an arm that is newer than the study, is told by the other attributes alone."""
    stored: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        stored |= trial.distributions
    found = widest_distributions(values) | {name: stored[name] for name in values if name in stored}
    return {
        name: distribution
        for name, distribution in found.items()
        if not isinstance(distribution, CategoricalDistribution) or values[name] in distribution.choices
    }
