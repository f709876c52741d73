"""What is stored of a study: names are forever, and every field reads what was written."""

from __future__ import annotations

from typing import Any

import pytest

from search.spec.study import StudySpec
from search.storage.attributes import Attribute
from search.storage.study_record import KINDS, PUBLISHED, REPEATS, StudyRecord, record_of_study
from tests.support.claims import joined

VALUES: dict[str, tuple[str, Any, Any]] = {
    "kind": ("kind", "confirmation", "search"),
    "key": ("key", "0123456789abcdef", ""),
    "versions": ("versions", {"python": "3.11.7"}, {}),
    "spec": ("spec", {"search": {"seed": 3}}, None),
    "spec_fingerprint": ("spec_fingerprint", "feed", ""),
    "data_fingerprint": ("data_fingerprint", "beef", ""),
    "budget": ("budget", 150, 0),
    "confirm": ("confirm", {"seeds": 5}, None),
    "plan": ("confirmation", {"margin": 1.5}, None),
    "test_reads": ("test_reads", 12, 0),
}
"""Fields: the name as it is stored, a value, and what a study without it has. Studies of every version so far
have these names: none may ever be changed."""


def test_these_are_all_the_fields() -> None:
    fields = {name for name, value in vars(StudyRecord).items() if isinstance(value, Attribute)}
    assert fields == VALUES.keys()


@pytest.mark.parametrize("field", VALUES)
def test_a_field_reads_what_was_written_under_a_name_that_is_forever(field: str) -> None:
    name, value, default = VALUES[field]
    assert StudyRecord.attributes(**{field: value}) == {name: value}
    assert getattr(StudyRecord({name: value}), field) == value
    assert getattr(StudyRecord({}), field) == default
    assert getattr(StudyRecord, field).name == name


def test_none_is_left_out_and_nothing_else_is() -> None:
    assert StudyRecord.attributes(plan=None, budget=0, key="") == {"budget": 0, "key": ""}


@pytest.mark.parametrize("name", ["confirmation", "baseline", "checkpoint_key", "stored", "no_such_thing"])
def test_what_is_no_field_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"StudyRecord has no attribute {name}"):
        StudyRecord.attributes(budget=1, **{name: 1})


def test_other_names_that_are_forever() -> None:
    assert PUBLISHED == "archsearch:published"
    assert KINDS == {"search": "run", "confirmation": "confirm", "collection of repeats": "repeat"}
    assert REPEATS in KINDS


def test_the_baseline_is_the_specs_or_what_it_always_was(tiny: StudySpec) -> None:
    assert StudyRecord({"spec": {"search": {"baseline": "residual"}}}).baseline == "residual"
    older: dict[str, Any]
    for older in ({}, {"spec": {"search": {"seed": 3}}}, {"spec": {}}, {"spec": tiny.canonical()}):
        assert StudyRecord(older).baseline == "plain"


def test_checkpoints_are_told_apart_by_key_or_where_there_is_none_by_spec() -> None:
    """Studies of early versions have no key."""
    assert StudyRecord({"key": "abcd", "spec_fingerprint": "feed"}).checkpoint_key == "abcd"
    assert StudyRecord({"spec_fingerprint": "feed"}).checkpoint_key == "feed"


def test_a_record_is_the_study_at_one_moment(study_file: str) -> None:
    study, _ = joined(study_file)
    study.set_user_attr("budget", 5)
    record = record_of_study(study)
    study.set_user_attr("budget", 9)
    assert (record.budget, record_of_study(study).budget) == (5, 9)
    assert record.stored == {"budget": 5}
