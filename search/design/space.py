"""A trial's way to an architecture and a training configuration: the only place that suggests."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from models.architecture import Architecture, Stage
from models.cost import measure_cost
from models.norms import NORMS
from search.errors import SpecError
from search.keys import Key, added_defaults, keys_of
from search.spec.domains import Domain, PerStage, is_fixed, smallest
from search.spec.study import StudySpec
from search.spec.tables import Space
from search.spec.train_config import TrainConfig

Values = dict[str, Any]
"""A value for every parameter of a trial, by its name."""


def dimensions(space: Space) -> dict[str, Domain]:
    """Every parameter of a trial. The same for all arms: what an arm ignores is still drawn and recorded."""
    found: dict[str, Domain] = {}
    for name, key in keys_of(space).items():
        if key.each is None:
            continue
        domain = getattr(space, name)
        if not key.stages:
            found[name] = domain
        for i in range(len(space.widths) if key.stages else 0):
            found[f"{key.stages}_{i + 1}"] = domain[i] if isinstance(key.rule, PerStage) else domain
    return found


def key_of(parameter: str) -> Key:
    """The key of [space] that a parameter is drawn from."""
    stem = parameter.rstrip("0123456789").removesuffix("_")
    return next(key for name, key in keys_of(Space).items() if stem in (key.stages, name) and key.each)


def block_names(space: Space) -> list[str]:
    """The parameters that say how many blocks each stage has."""
    return [f"{keys_of(Space)['blocks'].stages}_{i}" for i in range(1, len(space.widths) + 1)]


def suggested_names(space: Space) -> frozenset[str]:
    """The parameters that Optuna records: the block, and all that is not fixed."""
    return frozenset(n for n, domain in dimensions(space).items() if n == "block" or not is_fixed(domain))


def suggest(trial: optuna.Trial, space: Space) -> Values:
    """A value for every dimension, all of them before anything is built, priced or pruned: a finished trial
    without parameters would end the joint search over them."""
    return {name: _suggest(trial, name, domain) for name, domain in dimensions(space).items()}


def _suggest(trial: optuna.Trial, name: str, domain: Domain) -> Any:
    if isinstance(domain, tuple):
        if is_fixed(domain) and name != "block":
            return domain[0]
        return trial.suggest_categorical(name, domain)
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, log=domain.log)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """What `suggest` draws from, by name: Optuna's distributions of all parameters that it records."""
    names, found = suggested_names(space), dimensions(space)
    return {name: _distribution(domain) for name, domain in found.items() if name in names}


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, tuple):
        return CategoricalDistribution(domain)
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def values_of(params: Values, space: Space) -> Values:
    """The values of a finished trial: its parameters, and what is fixed."""
    return {
        name: params.get(name, domain[0] if isinstance(domain, tuple) else None)
        for name, domain in dimensions(space).items()
    }


def make_architecture(
    values: Values, space: Space, image_shape: tuple[int, int, int], classes: int
) -> Architecture:
    """The architecture that the values make. Raises ValueError where there is no such network."""
    return Architecture(
        image_shape=image_shape,
        classes=classes,
        block=values["block"],
        stages=tuple(
            Stage(width=values[f"width_{i}"], blocks=values[f"blocks_{i}"])
            for i in range(1, len(space.widths) + 1)
        ),
        norm=values["norm"],
        init=values["init"],
        zero_branch=values["zero_branch"],
        kernel=space.kernel,
        padding=space.padding,
        stem_pool=space.stem_pool,
        transition=space.transition,
        head=space.head,
    )


def make_config(values: Values, spec: StudySpec, seed: int) -> TrainConfig:
    """The training configuration that the values make."""
    return TrainConfig(
        **asdict(spec.train),
        optimizer=values["optimizer"],
        lr=values[f"lr_{values['optimizer']}"],
        weight_decay=values["weight_decay"],
        warmup=values["warmup"],
        seed=seed,
    )


def configuration_fingerprint(architecture: Architecture, config: TrainConfig) -> str:
    """16 hex digits, equal for trials that train the same network in the same way, seeds apart."""
    unused = {"seed", *added_defaults(config)} | ({"momentum"} if config.optimizer != "sgd" else set())
    used = {name: value for name, value in asdict(config).items() if name not in unused}
    text = architecture.fingerprint() + json.dumps(used, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_fit(spec: StudySpec, image_shape: tuple[int, int, int], classes: int, images: int) -> None:
    """Raises SpecError when no network of the space fits the `images` training images or the cap."""
    space = spec.space
    least = {name: smallest(domain) for name, domain in dimensions(space).items()}
    candidates = [
        least | {"block": block, "norm": norm, "zero_branch": zero}
        for block, norm, zero in itertools.product(space.block, space.norm, space.zero_branch)
    ]
    architectures, reason = [], ""
    for values in candidates:
        try:
            architectures.append(make_architecture(values, space, image_shape, classes))
        except ValueError as error:
            reason = str(error)
    if not architectures:
        raise SpecError(f"no network of [space] fits the images: {reason}")
    params = min(measure_cost(architecture).params for architecture in architectures)
    if space.max_params is not None and params > space.max_params:
        raise SpecError(
            f"space.max_params must be at least {params:,}, the smallest network of the space, "
            f"got {space.max_params:,}"
        )
    for architecture in architectures:
        alone = min(spec.train.batch_size, images) == 1 and architecture.parts[-1].output == (1, 1)
        if alone and NORMS[architecture.norm].across_images:
            raise SpecError(
                f'space.norm = "{architecture.norm}" needs more than one value per channel: '
                "raise train.batch_size"
            )
