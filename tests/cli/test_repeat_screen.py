"""What a person sees of a repeat, each number from where it belongs."""

from __future__ import annotations

from typing import Any

import pytest

from search.cli.repeat_screen import TOLD, EpochLines, introduce, tell_result
from search.storage.studies import versions
from search.storage.study_record import StudyRecord
from search.storage.trial_record import TrialRecord
from search.trials.repetition import Repetition
from tests.support.made_trials import made
from tests.support.runs import epoch, result

THEN = {
    "val_accuracy": 0.9, "train_accuracy": 0.8, "params": 1234, "grad_ratio": -1.5, "feature_cosine": 0.25,
    "cause": "slow", "val_loss": 3.5, "epochs": 6, "device": "cpu",
}  # fmt: skip
NOW = {
    "val_accuracy": 0.5, "train_accuracy": 0.25, "depth": 11, "params": 56789, "grad_ratio": -0.125,
    "feature_cosine": 0.75, "cause": "fine", "outcome": "complete", "val_loss": 2.5, "device": "cpu",
}  # fmt: skip


def origin(**attributes: Any) -> TrialRecord:
    trial = made(12, "preact", 0.9, **(THEN | attributes))
    trial.intermediate_values = {1: 0.25, 2: 0.5}
    return TrialRecord(trial)


def told(then: TrialRecord, changes: dict[str, Any], torch: str, **now: Any) -> None:
    repetition = Repetition(None, result(epochs=2), 0.4, NOW | now)  # type: ignore[arg-type]
    tell_result(then, repetition, changes, StudyRecord({"versions": {"torch": torch}}))


def test_every_epoch_is_shown_beside_the_one_of_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = EpochLines(origin(), 3)
    assert not any(lines.epoch_ended(epoch(number)) for number in (1, 2, 3))
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/3: training 60.1 %, validation 25.1 %, then 25.0 %",
        "epoch 2/3: training 60.2 %, validation 25.2 %, then 50.0 %",
        "epoch 3/3: training 60.3 %, validation 25.3 %",
    ]


def test_what_is_trained_is_introduced_with_its_changes(capsys: pytest.CaptureFixture[str]) -> None:
    introduce("tiny", origin(), {"block": "plain", "epochs": 4})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("trial 12 of tiny: preact, 7 convs")
    assert second == "changed: block = plain, epochs = 4"
    introduce("tiny", origin(), {})
    assert "changed" not in capsys.readouterr().out


def test_a_changed_trial_is_told_beside_the_one_of_then(capsys: pytest.CaptureFixture[str]) -> None:
    told(origin(), {"epochs": 2}, "of then")
    assert capsys.readouterr().out.splitlines() == [
        "validation accuracy, %: 90 then, 50 now",
        "training accuracy, %: 80 then, 25 now",
        "depth, convs: 7 then, 11 now",
        "parameters: 1,234 then, 56,789 now",
        "log10 gradient ratio: -1.5 then, -0.125 now",
        "feature cosine: 0.25 then, 0.75 now",
        "ended: slow then, fine now",
    ]
    assert len(TOLD) == 7


def test_what_was_not_measured_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    bare = origin()
    del bare.trial.user_attrs["grad_ratio"]
    told(bare, {"epochs": 2}, "of then")
    assert "log10 gradient ratio: - then, -0.125 now" in capsys.readouterr().out


def test_of_a_pruned_trial_it_is_said_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    told(origin(outcome="pruned"), {"epochs": 2}, "of then")
    assert "(then: pruned after 6 epochs; now: trained to the end)" in capsys.readouterr().out


def test_an_unchanged_repeat_is_compared_and_another_machine_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = versions()["torch"]
    told(origin(), {}, here)
    assert capsys.readouterr().out == (
        "not identical: differs from epoch 1 on, validation accuracy by -50.00 points\n"
    )
    told(origin(device="cuda"), {}, here)
    assert f"then on cuda with torch {here}, now on cpu with torch {here}\n" in capsys.readouterr().out
    told(origin(), {}, "1.0")
    assert f"then on cpu with torch 1.0, now on cpu with torch {here}\n" in capsys.readouterr().out
