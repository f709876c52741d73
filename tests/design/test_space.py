from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from search.design.space import (
    check_fit,
    configuration_fingerprint,
    make_architecture,
    make_config,
    suggest,
    suggested_names,
)
from search.errors import SpecError
from search.spec.study import StudySpec
from search.spec.study_file import load_spec

optuna.logging.set_verbosity(optuna.logging.ERROR)
IMAGES = {"digits": (1, 8, 8), "mnist_post": (1, 28, 28), "cifar10": (3, 32, 32)}


def drawn(spec: StudySpec, count: int, seed: int = 0) -> list[optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask() for _ in range(count)]


@pytest.mark.parametrize("name", IMAGES)
def test_every_draw_is_a_valid_network_of_the_data(name: str) -> None:
    spec = load_spec(Path("studies") / f"{name}.toml")
    check_fit(spec, IMAGES[name], 10, 100)
    for trial in drawn(spec, 100):
        values = suggest(trial, spec.space)
        architecture = make_architecture(values, spec.space, IMAGES[name], 10)
        assert architecture.block == values["block"]
        assert trial.params.keys() == suggested_names(spec.space)


def test_names_are_the_same_for_every_arm_and_fixed_ones_are_not_recorded(tiny: StudySpec) -> None:
    names = suggested_names(tiny.space)
    assert names == {
        "block", "blocks_1", "width_1", "norm", "init", "zero_branch", "optimizer", "lr_sgd", "lr_adamw",
        "weight_decay", "warmup",
    }  # fmt: skip
    fixed = replace(tiny.space, norm=("batch",), block=("plain",))
    assert suggested_names(fixed) == names - {"norm"}
    for trial in drawn(tiny, 30):
        suggest(trial, fixed)
        assert trial.params.keys() == names - {"norm"}


def test_same_seed_same_draws(tiny: StudySpec) -> None:
    def values(seed: int) -> list[object]:
        return [suggest(trial, tiny.space) for trial in drawn(tiny, 10, seed)]

    assert values(3) == values(3) != values(4)


def test_the_rate_of_the_chosen_optimizer_is_used(tiny: StudySpec) -> None:
    values = suggest(drawn(tiny, 1)[0], tiny.space) | {"lr_sgd": 0.07, "lr_adamw": 0.002}
    assert make_config(values | {"optimizer": "sgd"}, tiny, 0).lr == 0.07
    assert make_config(values | {"optimizer": "adamw"}, tiny, 0).lr == 0.002


def test_fingerprint_ignores_what_is_not_used_and_the_seed(tiny: StudySpec) -> None:
    base = suggest(drawn(tiny, 1)[0], tiny.space) | {
        "optimizer": "sgd",
        "block": "plain",
        "zero_branch": False,
    }

    def fingerprint(seed: int = 0, **changes: object) -> str:
        values = base | changes
        architecture = make_architecture(values, tiny.space, (1, 8, 8), 10)
        return configuration_fingerprint(architecture, make_config(values, tiny, seed))

    assert fingerprint() == fingerprint(seed=9) == fingerprint(lr_adamw=0.5) == fingerprint(zero_branch=True)
    assert len({fingerprint(block=block) for block in BLOCKS}) == 3
    assert fingerprint() != fingerprint(lr_sgd=0.5)
    assert fingerprint(block="preact") != fingerprint(block="preact", zero_branch=True)


def test_a_space_that_does_not_fit_its_images_is_refused(tiny: StudySpec) -> None:
    space = replace(tiny.space, widths=((4,),) * 5, transition="pool")
    with pytest.raises(
        SpecError, match=r"no network of \[space\] fits the images: stage 5 would shrink below 1 pixel"
    ):
        check_fit(replace(tiny, space=space), (1, 8, 8), 10, 100)


def test_a_cap_below_the_smallest_network_is_refused(tiny: StudySpec) -> None:
    spec = replace(tiny, space=replace(tiny.space, max_params=100))
    with pytest.raises(SpecError, match=r"space\.max_params must be at least [0-9]+, the smallest network"):
        check_fit(spec, (1, 8, 8), 10, 100)


def test_the_smallest_network_counts_whatever_the_order_of_choices(tiny: StudySpec) -> None:
    space = replace(tiny.space, widths=((4,),), norm=("batch", "none"), block=("residual", "plain"))
    bare = replace(space, norm=("none",), block=("plain",), zero_branch=(False,))
    with pytest.raises(SpecError) as caught:
        check_fit(replace(tiny, space=replace(bare, max_params=1)), (1, 8, 8), 10, 100)
    least = int(re.findall(r"at least ([0-9,]+)", str(caught.value))[0].replace(",", ""))
    check_fit(replace(tiny, space=replace(space, max_params=least)), (1, 8, 8), 10, 100)


def test_batch_norm_over_a_single_value_is_refused_before_any_trial(tiny: StudySpec) -> None:
    space = replace(tiny.space, widths=((4,),) * 4, transition="pool")
    spec = replace(tiny, space=space, train=replace(tiny.train, batch_size=1))
    with pytest.raises(SpecError, match=r"space\.norm = .batch. needs more than one value per channel"):
        check_fit(spec, (1, 8, 8), 10, 100)
    check_fit(replace(spec, train=tiny.train), (1, 8, 8), 10, 100)
