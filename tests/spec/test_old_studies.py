"""Nothing that is added later changes a study that was made before."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from search.design.space import configuration_fingerprint, make_architecture, make_config, values_of
from search.errors import SpecError
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.spec.tables import Space
from search.storage.studies import open_study, spec_of
from search.storage.study_record import StudyRecord
from tests.support.made_up import Gated, Halved, group_norm, installed
from tests.support.studies import TINY, tiny_spec

FINGERPRINTS = {
    "cifar10": "fa13bf5a0d84b655", "cifar10_degradation": "80f2406e711150a9",
    "cifar10_degradation_cpu": "5a99c64b70bcbf8b", "digits": "2b0543d8ac73b925",
    "mnist_post": "90c52994bc347af7", "post": "91a0f783229a2636",
}  # fmt: skip
"""Fingerprints of the study files that come along, from when only three arms and two norms existed."""


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_specs_keep_their_fingerprints(name: str) -> None:
    """Those that leave the design out were matched when that was the default, and go on so."""
    then = {"search": {"design": "matched", "pruner": "hyperband"}}
    assert load_spec(find_study(name)).continuing(then).fingerprint() == FINGERPRINTS[name]


def left_out(folder: Path, **changes: str) -> StudySpec:
    """A study whose file says nothing of its design, or only what is given."""
    said = "".join(f'{key} = "{value}"\n' for key, value in changes.items())
    return tiny_spec(folder, ('design = "matched"\npruner = "none"\n', said))


def test_a_file_that_leaves_the_design_out_continues_what_it_was_made_with(tmp_path: Path) -> None:
    url, saying = f"sqlite:///{tmp_path}/x.db", left_out(tmp_path, design="matched", pruner="hyperband")
    silent = left_out(tmp_path)
    assert (silent.search.design, silent.search.pruner) == ("stratified", "lead")
    open_study(url, "old", saying, "data", 3)
    study = open_study(url, "old", silent, "data", 5)
    assert study.user_attrs["budget"] == 5
    assert spec_of(None, "old", StudyRecord(study.user_attrs)).search == saying.search
    new = open_study(url, "new", silent, "data", 3)
    assert spec_of(None, "new", StudyRecord(new.user_attrs)).search == silent.search
    with pytest.raises(SpecError, match=r'search\.design: "stratified" in the study, "matched" now'):
        open_study(url, "new", saying, "data", 3)


def test_what_a_file_says_is_held_against_the_study_even_where_it_is_the_default(tmp_path: Path) -> None:
    url, saying = f"sqlite:///{tmp_path}/x.db", left_out(tmp_path, design="stratified")
    open_study(url, "old", left_out(tmp_path, design="matched"), "data", 3)
    with pytest.raises(SpecError, match=r'search\.design: "matched" in the study, "stratified" now'):
        open_study(url, "old", saying, "data", 3)


def test_another_arm_and_another_norm_change_no_spec(tmp_path: Path) -> None:
    """Files that leave `block` and `norm` out mean what they meant."""
    text = TINY.replace('norm = ["none", "batch"]\n', "")
    path = tmp_path / "old.toml"
    path.write_text(text)
    before = {name: load_spec(find_study(name)).canonical() for name in FINGERPRINTS}
    old = load_spec(path)
    with installed(Halved, Gated), group_norm():
        assert {name: load_spec(find_study(name)).canonical() for name in FINGERPRINTS} == before
        assert load_spec(path) == old
        assert old.space.block == ("plain", "residual", "preact")
        assert old.space.norm == ("none", "batch")


def test_a_study_made_before_is_continued_after(tmp_path: Path, tiny: StudySpec) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    open_study(url, "s", tiny, "data", 3)
    with installed(Halved), group_norm():
        study = open_study(url, "s", tiny_spec(tmp_path), "data", 5)
        assert study.user_attrs["budget"] == 5
        wider = tiny_spec(tmp_path, ("[space]", '[space]\nblock = ["plain", "halved"]'))
        with pytest.raises(SpecError, match=r'space.block: \["plain", "residual", "preact"\] in the study'):
            open_study(url, "s", wider, "data", 5)


def test_keys_that_were_added_later_are_left_out_at_their_defaults_alone(tmp_path: Path) -> None:
    canonical = tiny_spec(tmp_path).canonical()
    assert "schedule" not in canonical["train"]
    assert "baseline" not in canonical["search"]
    changed = tiny_spec(
        tmp_path,
        ("epochs = 3", 'epochs = 3\nschedule = "step"'),
        ("[search]", '[search]\nbaseline = "residual"'),
    )
    assert changed.canonical()["train"]["schedule"] == "step"
    assert changed.canonical()["search"]["baseline"] == "residual"
    assert StudySpec.from_canonical("tiny", changed.canonical()).search == changed.search
    assert StudySpec.from_canonical("tiny", canonical).search.baseline == "plain"


@pytest.mark.parametrize(
    ("table", "key", "value", "says"),
    [
        ("space", "block", ["plain", "unheard"], "space.block must be one of "),
        ("space", "norm", ["unheard"], "space.norm must be one of "),
        ("space", "unheard", 1, "space.unheard is not a key here"),
        ("data", "name", "unheard", "data.name must be one of "),
        ("search", "baseline", "unheard", "search.baseline must be one of "),
    ],
)
def test_a_study_of_another_installation_says_what_is_lacking(
    tmp_path: Path, table: str, key: str, value: object, says: str
) -> None:
    canonical = tiny_spec(tmp_path).canonical()
    canonical[table][key] = value
    with pytest.raises(SpecError, match=f"the study 'wide' was made by another installation: {says}"):
        spec_of(None, "wide", StudyRecord({"spec": canonical}))


def test_a_trial_keeps_its_fingerprint(tmp_path: Path) -> None:
    """Trials that trained the same are found by it, whenever they were trained."""
    spec = tiny_spec(tmp_path)
    values = values_of(
        {"block": "residual", "blocks_1": 2, "width_1": 6, "norm": "batch", "init": "he", "zero_branch": True,
         "optimizer": "adamw", "lr_sgd": 0.02, "lr_adamw": 0.003, "weight_decay": 1e-5, "warmup": 0.05},
        spec.space,
    )  # fmt: skip
    architecture = make_architecture(values, spec.space, (1, 8, 8), 10)
    assert configuration_fingerprint(architecture, make_config(values, spec, 1)) == "0bce41f337c8f4b7"
    assert configuration_fingerprint(architecture, make_config(values, spec, 2)) == "0bce41f337c8f4b7"


def test_defaults_are_no_registry() -> None:
    """They are equal to today's registries, and not the same."""
    with installed(Halved), group_norm():
        assert Space(blocks=(1,), widths=((4,),)).block == ("plain", "residual", "preact")
        assert Space(blocks=(1,), widths=((4,),)).norm == ("none", "batch")


optuna.logging.set_verbosity(optuna.logging.ERROR)
