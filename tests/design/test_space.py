from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from models.architecture import Architecture, Stage
from models.arms.arm import ARMS
from search.design.space import (
    block_names,
    check_fit,
    configuration_fingerprint,
    dimensions,
    key_of,
    make_architecture,
    make_config,
    suggest,
    suggested_names,
    values_of,
)
from search.errors import SpecError
from search.keys import keys_of
from search.spec.domains import Range
from search.spec.study import StudySpec
from search.spec.study_file import load_spec
from search.spec.tables import Space, TrainSettings
from tests.support.made_up import Halved, installed

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


def test_dimensions_come_in_the_order_in_which_they_are_drawn(tiny: StudySpec) -> None:
    """Optuna's samplers draw one after another: another order would be other trials."""
    space = replace(tiny.space, widths=((4, 6), (8,)))
    assert list(dimensions(space).items()) == [
        ("block", space.block), ("blocks_1", space.blocks), ("blocks_2", space.blocks), ("width_1", (4, 6)),
        ("width_2", (8,)), ("norm", space.norm), ("init", space.init), ("zero_branch", space.zero_branch),
        ("optimizer", space.optimizer), ("lr_sgd", space.lr_sgd), ("lr_adamw", space.lr_adamw),
        ("weight_decay", space.weight_decay), ("warmup", space.warmup),
    ]  # fmt: skip
    assert block_names(space) == ["blocks_1", "blocks_2"]


def test_every_parameter_is_drawn_from_its_key(tiny: StudySpec) -> None:
    keys = keys_of(Space)
    for name in dimensions(replace(tiny.space, widths=((4,),) * 8)):
        stem = name.rstrip("0123456789_")
        assert key_of(name) is keys[{"width": "widths"}.get(stem, stem)], name


def test_ranges_are_drawn_on_their_scale_and_choices_as_they_are(tiny: StudySpec) -> None:
    space = replace(
        tiny.space,
        blocks=Range(low=2, high=9, log=True),
        warmup=Range(low=0.0, high=0.5),
        widths=((4, 6), (8,)),
    )
    trial, *_ = drawn(tiny, 1)
    values = suggest(trial, space)
    log_int, real = IntDistribution(2, 9, log=True), FloatDistribution(0.0, 0.5)
    assert trial.distributions["blocks_1"] == trial.distributions["blocks_2"] == log_int
    assert trial.distributions["warmup"] == real
    assert trial.distributions["lr_sgd"] == FloatDistribution(0.01, 0.1, log=True)
    assert trial.distributions["width_1"] == CategoricalDistribution((4, 6))
    assert "width_2" not in trial.distributions
    assert values["width_2"] == 8
    assert values_of(trial.params, space) == values, "a finished trial's values are those that it was drawn"


def test_the_only_arm_is_recorded_all_the_same(tiny: StudySpec) -> None:
    """Views of one arm look for it."""
    trial, *_ = drawn(tiny, 1)
    suggest(trial, replace(tiny.space, block=("preact",)))
    assert trial.params["block"] == "preact"


def test_an_architecture_is_made_of_the_drawn_and_of_the_shared(tiny: StudySpec) -> None:
    """No value is at its default, and no two are alike."""
    space = replace(
        tiny.space, widths=((4,), (6,)), kernel=5, padding="valid", stem_pool=True, transition="pool",
        head="flatten",
    )  # fmt: skip
    values = {
        "block": "preact", "blocks_1": 3, "blocks_2": 1, "width_1": 4, "width_2": 6, "norm": "batch",
        "init": "he", "zero_branch": True,
    }  # fmt: skip
    assert make_architecture(values, space, (2, 30, 28), 7) == Architecture(
        image_shape=(2, 30, 28), classes=7, block="preact",
        stages=(Stage(width=4, blocks=3), Stage(width=6, blocks=1)), norm="batch", init="he",
        zero_branch=True, kernel=5, padding="valid", stem_pool=True, transition="pool", head="flatten",
    )  # fmt: skip
    strided = replace(space, transition="stride", padding="same")
    assert make_architecture(values, strided, (2, 30, 28), 7).transition == "stride"


def test_a_config_is_the_studys_settings_and_what_was_drawn(tiny: StudySpec) -> None:
    train = TrainSettings(
        epochs=7, batch_size=9, precision="float32", momentum=0.5, clip=2.0, label_smoothing=0.1, crop=2,
        flip=True, schedule="step",
    )  # fmt: skip
    values = {"optimizer": "adamw", "lr_sgd": 0.3, "lr_adamw": 0.004, "weight_decay": 0.01, "warmup": 0.2}
    config = make_config(values, replace(tiny, train=train), seed=11)
    assert {name: getattr(config, name) for name in keys_of(train)} == asdict(train)
    assert (config.optimizer, config.lr, config.weight_decay, config.warmup, config.seed) == (
        "adamw", 0.004, 0.01, 0.2, 11,
    )  # fmt: skip


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
    assert len({fingerprint(block=block) for block in ARMS}) == len(ARMS)
    assert fingerprint() != fingerprint(lr_sgd=0.5)
    assert fingerprint(block="preact") != fingerprint(block="preact", zero_branch=True)
    for change in ({"weight_decay": 0.5}, {"warmup": 0.9}, {"optimizer": "adamw"}, {"width_1": 5}):
        assert fingerprint() != fingerprint(**change), change


def test_fingerprint_tells_settings_apart_that_the_optimizer_reads(tiny: StudySpec) -> None:
    base = suggest(drawn(tiny, 1)[0], tiny.space)

    def fingerprint(optimizer: str, **changes: object) -> str:
        spec = replace(tiny, train=replace(tiny.train, **changes))  # type: ignore[arg-type]
        values = base | {"optimizer": optimizer}
        architecture = make_architecture(values, spec.space, (1, 8, 8), 10)
        return configuration_fingerprint(architecture, make_config(values, spec, 0))

    assert fingerprint("sgd") != fingerprint("sgd", momentum=0.5)
    assert fingerprint("adamw") == fingerprint("adamw", momentum=0.5), "AdamW has none"
    for change in (
        {"epochs": 4}, {"batch_size": 33}, {"precision": "float32"}, {"clip": 1.0}, {"label_smoothing": 0.1},
        {"crop": 1}, {"flip": True}, {"schedule": "step"},
    ):  # fmt: skip
        assert fingerprint("adamw") != fingerprint("adamw", **change), change


def test_a_space_that_does_not_fit_its_images_is_refused(tiny: StudySpec) -> None:
    space = replace(tiny.space, widths=((4,),) * 5, transition="pool")
    with pytest.raises(
        SpecError, match=r"no network of \[space\] fits the images: stage 5 would shrink below 1 pixel"
    ):
        check_fit(replace(tiny, space=space), (1, 8, 8), 10, 100)


def test_an_arm_that_refuses_the_smallest_network_stops_no_other(tiny: StudySpec) -> None:
    class Even(Halved):
        name = "even"

        def refusal(self, architecture: Architecture) -> str:
            return "stages of even have even widths" if architecture.stages[0].width % 2 else ""

    with installed(Even):
        both = replace(tiny.space, block=("even", "plain"), widths=((5, 6),))
        check_fit(replace(tiny, space=both), (1, 8, 8), 10, 100)
        alone = replace(both, block=("even",), widths=((5,),))
        with pytest.raises(SpecError, match="fits the images: stages of even have even widths"):
            check_fit(replace(tiny, space=alone), (1, 8, 8), 10, 100)


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
    with pytest.raises(SpecError, match="needs more than one value per channel"):
        check_fit(replace(spec, train=tiny.train), (1, 8, 8), 10, images=1)
    check_fit(replace(spec, train=tiny.train), (1, 8, 8), 10, 100)
    check_fit(replace(spec, space=replace(space, norm=("none",))), (1, 8, 8), 10, 100)
    check_fit(spec, (1, 16, 16), 10, 100)
