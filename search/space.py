"""From a trial to an architecture and a training configuration: the only place that suggests."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict
from typing import Any

import optuna

from models.architecture import Architecture, Stage
from models.cost import measure_cost
from search.errors import SpecError
from search.optimization import TrainConfig
from search.spec import Domain, Range, Space, StudySpec

Values = dict[str, Any]


def dimensions(space: Space) -> dict[str, Domain]:
    """Every parameter of a trial. The same for all arms: what an arm ignores is still drawn and recorded."""
    stages = range(1, len(space.widths) + 1)
    return {
        "block": space.block,
        **{f"blocks_{i}": space.blocks for i in stages},
        **{f"width_{i}": space.widths[i - 1] for i in stages},
        "norm": space.norm,
        "init": space.init,
        "zero_branch": space.zero_branch,
        "optimizer": space.optimizer,
        "lr_sgd": space.lr_sgd,
        "lr_adamw": space.lr_adamw,
        "weight_decay": space.weight_decay,
        "warmup": space.warmup,
    }


def is_fixed(domain: Domain) -> bool:
    return isinstance(domain, tuple) and len(domain) == 1


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


def values_of(params: Values, space: Space) -> Values:
    """Those of a finished trial: its parameters, and what is fixed."""
    return {
        name: params.get(name, domain[0] if isinstance(domain, tuple) else None)
        for name, domain in dimensions(space).items()
    }


def make_architecture(
    values: Values, space: Space, image_shape: tuple[int, int, int], classes: int
) -> Architecture:
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
    return TrainConfig(
        **asdict(spec.train),
        optimizer=values["optimizer"],
        lr=values["lr_sgd"] if values["optimizer"] == "sgd" else values["lr_adamw"],
        weight_decay=values["weight_decay"],
        warmup=values["warmup"],
        seed=seed,
    )


def configuration_fingerprint(architecture: Architecture, config: TrainConfig) -> str:
    """16 hex digits, equal for trials that train the same network in the same way, seeds apart."""
    used = asdict(config)
    del used["seed"]
    if config.schedule == "cosine":  # see StudySpec.canonical
        del used["schedule"]
    if config.optimizer != "sgd":
        del used["momentum"]
    text = architecture.fingerprint() + json.dumps(used, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_fit(spec: StudySpec, image_shape: tuple[int, int, int], classes: int, images: int) -> None:
    """Raises SpecError when no network of the space fits the `images` training images or the cap."""
    space = spec.space
    least = {name: _smallest(domain) for name, domain in dimensions(space).items()}
    smallest = [
        least | {"block": block, "norm": norm, "zero_branch": zero}
        for block, norm, zero in itertools.product(space.block, space.norm, space.zero_branch)
    ]
    try:
        architectures = [make_architecture(values, space, image_shape, classes) for values in smallest]
    except ValueError as error:
        raise SpecError(f"no network of [space] fits the images: {error}") from None
    params = min(measure_cost(architecture).params for architecture in architectures)
    if space.max_params is not None and params > space.max_params:
        raise SpecError(
            f"space.max_params must be at least {params:,}, the smallest network of the space, "
            f"got {space.max_params:,}"
        )
    batch = min(spec.train.batch_size, images)
    if batch == 1 and "batch" in space.norm and architectures[0].map_sizes[-1] == (1, 1):
        raise SpecError('space.norm = "batch" needs more than one value per channel: raise train.batch_size')


def _smallest(domain: Domain) -> Any:
    if isinstance(domain, Range):
        return domain.low
    return min(domain) if all(isinstance(value, int | float) for value in domain) else domain[0]
