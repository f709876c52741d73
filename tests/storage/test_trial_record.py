"""What is stored of a trial: names are forever, and every field reads what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from models.architecture import Architecture, Stage
from search.storage.attributes import Attribute
from search.storage.internals import QUEUED_PARAMS
from search.storage.trial_record import TURN, TrialRecord, finished, records_of
from tests.support.claims import joined, queued
from tests.support.made_trials import made
from tests.support.made_up import Halved, group_norm, installed

VALUES: dict[str, tuple[str, Any, Any]] = {
    "arm": ("arm", "preact", ""),
    "seed": ("seed", 7, None),
    "depth": ("depth", 27, 0),
    "architecture_json": ("architecture", "{}", ""),
    "fingerprint": ("fingerprint", "0123abcd", ""),
    "device": ("device", "cuda", None),
    "num_params": ("params", 1234, None),
    "macs": ("macs", 5678, None),
    "group": ("group", 3, None),
    "lead": ("lead", False, None),
    "replicate_of": ("replicate_of", 4, None),
    "weights": ("weights", "beef", None),
    "replicate": ("replicate", 2, 0),
    "best_of": ("best_of", ["plain", "preact"], []),
    "data_seed": ("data_seed", 11, None),
    "members": ("members", 5, None),
    "test_accuracy": ("test_accuracy", 0.61, None),
    "outcome": ("outcome", "complete", None),
    "epochs": ("epochs", 15, 0),
    "train_accuracy": ("train_accuracy", 0.93, None),
    "val_accuracy": ("val_accuracy", 0.72, None),
    "val_loss": ("val_loss", 0.8, None),
    "train_seconds": ("train_seconds", 12.5, None),
    "images_per_second": ("images_per_second", 900.0, None),
    "loss_at_start": ("loss_at_start", 2.3, None),
    "cause": ("cause", "vanished", "unknown"),
    "grad_ratio": ("grad_ratio", -3.5, None),
    "feature_cosine": ("feature_cosine", 0.4, None),
    "gradients": ("gradients", {"start": [-1.25, 0.5]}, {}),
    "diagnostics": ("diagnostics", {"start": {"grad_ratio": None}}, {}),
    "curve": ("curve", {"val_accuracy": [0.5, None]}, {}),
    "error": ("error", "Traceback", None),
    "worker": ("worker", "host:1:aa", None),
    "attempt": ("attempt", 3, 0),
    "lost_workers": ("lost_workers", ["host:1:aa", None], []),
    "origin": ("origin", 9, 0),
    "changed": ("changed", {"lr": 0.1}, {}),
    "difference": ("difference", "none", None),
    "stratum": ("stratum", "9-13", ""),
}
"""Fields: the name as it is stored, a value, and what a trial without it has. Studies of every version so far
have these names: none may ever be changed."""


def trial(state: TrialState = TrialState.RUNNING, **changes: Any) -> FrozenTrial:
    return create_trial(state=state, **changes)


def test_these_are_all_the_fields() -> None:
    fields = {name for name, value in vars(TrialRecord).items() if isinstance(value, Attribute)}
    assert fields == VALUES.keys()


@pytest.mark.parametrize("field", VALUES)
def test_a_field_reads_what_was_written_under_a_name_that_is_forever(field: str) -> None:
    name, value, default = VALUES[field]
    assert TrialRecord.attributes(**{field: value}) == {name: value}
    assert getattr(TrialRecord(trial(user_attrs={name: value})), field) == value
    assert getattr(TrialRecord(trial()), field) == default
    assert getattr(TrialRecord, field).name == name


def test_all_fields_are_written_and_read_together() -> None:
    stored = TrialRecord.attributes(**{field: value for field, (_, value, _) in VALUES.items()})
    assert stored == {name: value for name, value, _ in VALUES.values()}
    record = TrialRecord(trial(user_attrs=stored))
    assert {field: getattr(record, field) for field in VALUES} == {f: v for f, (_, v, _) in VALUES.items()}
    assert record.stored == stored


def test_none_is_left_out_and_nothing_else_is() -> None:
    assert TrialRecord.attributes(seed=None, lead=False, epochs=0, arm="", best_of=[], changed={}) == {
        "lead": False, "epochs": 0, "arm": "", "best_of": [], "changed": {},
    }  # fmt: skip
    assert TrialRecord.attributes() == {}


@pytest.mark.parametrize("name", ["architecture", "params", "number", "stored", "no_such_thing", "trial"])
def test_what_is_no_field_is_refused(name: str) -> None:
    """So are the stored names of fields that are called otherwise, and what is computed."""
    with pytest.raises(TypeError, match=f"TrialRecord has no attribute {name}"):
        TrialRecord.attributes(arm="plain", **{name: 1})


ARCHITECTURE = Architecture(
    image_shape=(1, 8, 8), classes=10, block="residual", stages=(Stage(width=4, blocks=2),)
)


def architecture_of(text: str) -> Architecture | None:
    return TrialRecord(trial(user_attrs=TrialRecord.attributes(architecture_json=text))).architecture


def test_an_architecture_is_read_where_its_parts_are_installed() -> None:
    assert architecture_of(ARCHITECTURE.to_json()) == ARCHITECTURE
    assert architecture_of("") is None
    with installed(Halved), group_norm():
        halved = replace(ARCHITECTURE, block="halved").to_json()
        grouped = replace(ARCHITECTURE, norm="made_up").to_json()
        assert [read and read.block for read in map(architecture_of, (halved, grouped))] == [
            "halved",
            "residual",
        ]
    assert architecture_of(halved) is None, "an arm that is not installed"
    assert architecture_of(grouped) is None, "a norm that is not installed"


def test_a_record_shows_what_the_trial_itself_has() -> None:
    shown = made(5, "plain", 0.25)
    record = TrialRecord(shown)
    assert (record.number, record.trial_id) == (5, 5)
    assert (record.drawn, record.ended_at) == ({"block": "plain"}, shown.datetime_complete)
    assert isinstance(record.ended_at, datetime)
    other = TrialRecord(
        trial(
            TrialState.WAITING,
            system_attrs={QUEUED_PARAMS: {"x": 1}, TURN: 0},
            intermediate_values={1: 0.5, 3: 0.75},
        )
    )
    assert (other.queued, other.turn, other.reported) == ({"x": 1}, 0, {1: 0.5, 3: 0.75})
    assert (record.queued, record.turn, record.reported) == ({}, None, {})
    assert TURN == "archsearch:slot", "in studies that were made before as well"


STATES = {
    TrialState.RUNNING: (True, False, False, False),
    TrialState.WAITING: (False, False, False, False),
    TrialState.COMPLETE: (False, True, False, True),
    TrialState.PRUNED: (False, True, True, False),
    TrialState.FAIL: (False, True, False, False),
}


@pytest.mark.parametrize("state", STATES)
def test_how_far_a_trial_is(state: TrialState) -> None:
    record = TrialRecord(made(1, "plain", 0.5, state=state))
    told = (record.is_running, record.is_finished, record.is_pruned, record.ran_to_the_end)
    assert told == STATES[state]
    assert record.is_described == record.is_finished
    for unknown in ("arm", "depth"):
        shown = made(1, "plain", 0.5, state=state)
        del shown.user_attrs[unknown]
        assert not TrialRecord(shown).is_described


def test_only_what_ran_to_the_end_has_a_score() -> None:
    assert TrialRecord(made(1, "plain", 0.0)).score == 0.0
    with pytest.raises(AssertionError, match="only trials that ran to the end have a score"):
        TrialRecord(made(1, "plain", state=TrialState.FAIL)).score  # noqa: B018


def test_how_a_trial_ended_is_told_by_its_outcome_else_by_optuna() -> None:
    assert TrialRecord(made(1, "plain", outcome="diverged")).ended == "diverged"
    assert TrialRecord(made(1, "plain", outcome="diverged")).diverged
    assert not TrialRecord(made(1, "plain", outcome="complete")).diverged
    assert TrialRecord(trial(TrialState.WAITING)).ended == "waiting"
    assert TrialRecord(trial(TrialState.FAIL)).ended == "fail"


def test_records_of_a_study_come_in_order_and_ended_ones_are_counted(study_file: str) -> None:
    study, _ = joined(study_file)
    assert records_of(study) == []
    study.add_trials([made(0, "plain"), made(0, "plain", state=TrialState.PRUNED), *queued(1.0)])
    study.add_trial(made(0, "plain", state=TrialState.FAIL))
    study.ask()
    records = records_of(study)
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert finished(records) == 3
    assert finished(records[1:]) == 2
