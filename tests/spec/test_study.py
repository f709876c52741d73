from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.data.config import DataConfig
from search.spec.study import StudySpec, spec_differences
from search.spec.study_file import STUDIES, load_spec

DIGITS = load_spec(STUDIES / "digits.toml")


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_spec_comes_back_from_what_is_stored(path: Path) -> None:
    """Everything comes back but how it is to be confirmed, which may change."""
    spec = load_spec(path)
    stored = json.loads(json.dumps(spec.canonical()))
    assert stored == spec.canonical(), "JSON as it is"
    back = StudySpec.from_canonical(spec.name, stored)
    assert back == replace(spec, confirm=back.confirm)
    assert back.fingerprint() == spec.fingerprint()


def test_name_place_and_confirmation_are_no_part_of_what_decides_a_result() -> None:
    here = replace(DIGITS, data=DataConfig(name="npz", path="/here/a.npz"))
    there = replace(here, name="other", data=DataConfig(name="npz", path="/there/a.npz"))
    there = replace(there, confirm=replace(there.confirm, seeds=99))
    assert here.canonical() == there.canonical()
    assert here.canonical().keys() == {"data", "space", "train", "search"}
    assert "path" not in here.canonical()["data"]
    for changed in (
        replace(here, data=replace(here.data, seed=1)),
        replace(here, train=replace(here.train, epochs=99)),
        replace(here, search=replace(here.search, seed=99)),
        replace(here, space=replace(here.space, kernel=5)),
    ):
        assert changed.fingerprint() != here.fingerprint()


def test_differences_read_like_a_diff() -> None:
    old = DIGITS.canonical()
    new = json.loads(json.dumps(old))
    assert spec_differences(old, new) == []
    new["space"]["blocks"]["high"] = 5
    new["train"]["schedule"] = "step"
    del new["search"]["pruner"]
    assert spec_differences(old, new) == [
        'search.pruner: "lead" in the study, "(absent)" now',
        "space.blocks.high: 9 in the study, 5 now",
        'train.schedule: "(absent)" in the study, "step" now',
    ]
    new = json.loads(json.dumps(old))
    new["space"]["blocks"] = [1, 2]
    assert spec_differences(old, new) == [
        'space.blocks: {"low": 1, "high": 9, "log": true} in the study, [1, 2] now'
    ]
