"""Each key says all that there is to say of it."""

from __future__ import annotations

from dataclasses import MISSING, Field, asdict, fields
from typing import Any

import pytest

from models.rules import Flag, KeyOf, Number, OneOf, Whole
from search.keys import Key, keys_of
from search.spec.domains import Range
from search.spec.study_file import TABLES
from search.spec.tables import DEFAULT_BASELINE, SearchSettings, Space, TrainSettings

FIELDS: list[tuple[str, Field[Any]]] = [
    (f"{name}.{field.name}", field) for name, table in TABLES.items() for field in fields(table)
]


def key_of(field: Field[Any]) -> Key:
    key: Key = field.metadata["key"]
    return key


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[name for name, _ in FIELDS])
def test_every_field_has_a_key_with_a_rule_a_meaning_and_a_default_that_obeys(
    name: str, field: Field[Any]
) -> None:
    key = key_of(field)
    begins_with_a_choice = key.meaning.partition(":")[0] in getattr(key.rule, "allowed", ())
    assert key.meaning.endswith("."), name
    assert key.meaning[0].isupper() or begins_with_a_choice, name
    assert "\n" not in key.meaning
    assert "  " not in key.meaning
    if field.default is MISSING:
        assert name in ("data.name", "space.blocks", "space.widths"), "the others may be left out"
        return
    as_toml = asdict(field.default) if isinstance(field.default, Range) else field.default
    kept = key.rule(list(as_toml) if isinstance(as_toml, tuple) else as_toml)
    assert kept == field.default
    assert type(kept) is type(field.default)


def test_what_is_drawn_has_a_rule_for_each_value_and_what_is_shared_has_none() -> None:
    """Kinds of rules that repeats know to make distributions of."""
    drawn = {name: key for name, key in keys_of(Space).items() if key.each is not None}
    assert list(drawn) == [
        "block", "blocks", "widths", "norm", "init", "zero_branch", "optimizer", "lr_sgd", "lr_adamw",
        "weight_decay", "warmup",
    ]  # fmt: skip
    for key in drawn.values():
        assert isinstance(key.each, Whole | Number | Flag | OneOf | KeyOf)
        assert getattr(key.rule, "each", None) == key.each, "it is that of the list as well"
    assert {name: key.stages for name, key in drawn.items() if key.stages} == {
        "blocks": "blocks", "widths": "width",
    }  # fmt: skip
    assert {name for name, key in drawn.items() if key.log} == {"lr_sgd", "lr_adamw"}
    assert {name: key.optimizer for name, key in drawn.items() if key.optimizer} == {
        "lr_sgd": "sgd", "lr_adamw": "adamw",
    }  # fmt: skip


def test_only_keys_that_came_later_are_left_out_of_stored_specs() -> None:
    """The stored spec always tells the value of a key of the first studies."""
    assert {name for name, field in FIELDS if key_of(field).added} == {
        "train.schedule", "search.baseline", "search.strata"
    }  # fmt: skip


def test_defaults_are_those_that_stored_studies_were_made_with() -> None:
    space = Space(blocks=(1,), widths=((4,),))
    assert asdict(space) == {
        "block": ("plain", "residual", "preact"), "blocks": (1,), "widths": ((4,),),
        "norm": ("none", "batch"), "init": ("default", "he"), "zero_branch": (False, True),
        "optimizer": ("sgd", "adamw"), "lr_sgd": {"low": 1e-3, "high": 0.3, "log": True},
        "lr_adamw": {"low": 1e-4, "high": 1e-2, "log": True},
        "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True}, "warmup": (0.0, 0.05, 0.1),
        "max_params": None, "kernel": 3, "padding": "same", "stem_pool": False, "transition": "pool",
        "head": "average",
    }  # fmt: skip
    assert asdict(TrainSettings()) == {
        "epochs": 15, "batch_size": 64, "precision": "auto", "momentum": 0.9, "clip": None,
        "label_smoothing": 0.0, "crop": 0, "flip": False, "schedule": "cosine",
    }  # fmt: skip
    assert asdict(SearchSettings()) == {
        "design": "stratified", "sampler": "tpe", "pruner": "lead", "seed": 0, "baseline": DEFAULT_BASELINE,
        "strata": 4,
    }, "design and pruner were others: stored specs have always told theirs"  # fmt: skip
    assert DEFAULT_BASELINE == "plain"
