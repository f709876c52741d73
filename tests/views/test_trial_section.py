from __future__ import annotations

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.errors import SpecError
from search.storage.trial_record import TrialRecord
from search.views.trial_section import (
    commands,
    families,
    gradient_table,
    trial_findings,
    trial_note,
    trial_section,
)
from tests.support.made_trials import made, records

DOWN, FLAT = [-3.04 + 0.1 * i for i in range(30)], [0.0] * 30


def pair(**values: object) -> list[FrozenTrial]:
    return [
        made(0, "plain", 0.5, gradients={"start": DOWN, "end": DOWN}),
        made(1, "residual", 0.9, gradients={"start": FLAT, "end": FLAT}, **values),
    ]


def study_of(trials: list[FrozenTrial]) -> Study:
    study = optuna.create_study(study_name="s", direction="maximize")
    study.add_trials(trials)
    return study


def test_a_trial_is_told_with_its_twins_and_what_can_be_done() -> None:
    section = trial_section(study_of(pair()), 1, "sqlite:///x.db")
    assert section.sentence.startswith("Trial 1: residual, 7 convs [16×3]")
    assert section.sentence.endswith("+40 points against its plain twin, trial 0.")
    [twins] = section.answer
    assert [row[:3] for row in twins.rows] == [("#0", "plain", "50.0"), ("#1 (this)", "residual", "90.0")]
    assert [table.title for table in section.details] == [
        "What was drawn for it", "log10 of the gradient norm, at the start of training",
        "log10 of the gradient norm, in the end",
    ]  # fmt: skip
    assert section.notes[0] == (
        "Again, bit for bit on a CPU: python -m search.repeat 1 --name s --storage sqlite:///x.db"
    )
    figures = section.figures()
    assert [len(trace.x) for trace in figures["layers"].data] == [30] * 4
    assert trial_findings(study_of(pair()), 1).trial == 1


def test_gradients_are_shown_at_the_first_the_last_and_between() -> None:
    table = gradient_table(records(pair()), "start")
    assert table.columns == ("conv", "plain, #0", "residual, #1")
    assert (table.rows[0], table.rows[-1]) == (("1", "−3.0", "0.0"), ("30", "−0.1", "0.0"))
    assert len(table.rows) == 12
    assert gradient_table(records([made(0, "plain")]), "start").rows == ()


@pytest.mark.parametrize(
    ("trial", "says"),
    [
        (made(0, "plain", 0.5, state=TrialState.RUNNING), "running."),
        (
            made(0, "plain", state=TrialState.FAIL, outcome="error", error="KeyError: 'b'"),
            "error, KeyError: 'b'.",
        ),
        (made(0, "plain", 0.5, state=TrialState.PRUNED), "50.0 % of the validation images, pruned."),
    ],
)
def test_a_trial_in_any_state_has_a_sentence(trial: FrozenTrial, says: str) -> None:
    assert trial_section(study_of([trial]), 0).sentence.endswith(says)


def test_a_trial_that_is_not_there_is_told() -> None:
    with pytest.raises(SpecError, match="no trial 7 in the study 's': it has 0 to 1"):
        trial_section(study_of(pair()), 7)
    with pytest.raises(SpecError, match="no trial 0 in the study 's': it has none"):
        trial_section(study_of([]), 0)


def test_twins_are_of_one_draw_and_in_a_confirmation_of_one_seed() -> None:
    trials = records(
        [
            made(0, "residual", group=0), made(1, "plain", group=0), made(2, "plain", group=1),
            made(3, "plain", group=0, replicate=1), made(4, "plain", group=None),
            made(5, "plain", group=None),
        ]
    )  # fmt: skip
    assert [[trial.number for trial in family] for family in families(trials)] == [[1, 0], [2], [3], [4], [5]]


def test_a_note_is_short_and_leads_to_what_was_kept() -> None:
    one = pair()[1]
    one.system_attrs["artifacts:k1"] = '{"filename": "weights.pt", "artifact_id": "k1"}'
    twins = records([pair()[0], one])
    text = trial_note(twins[1], twins, "plain", "my study", 3)
    assert text.startswith("**Trial 1: residual, 7 convs")
    assert "Gradients and twins: `python -m search.report --name 'my study' --trial 1`" in text
    assert "Twins: #0 plain 50.0 % (complete)" in text
    assert f"Kept: [weights.pt](/artifacts/3/{twins[1].trial_id}/k1)" in text
    assert "`python -m search.repeat 1 --name 'my study'`" in text
    assert len(text) < 1000


def test_nothing_can_be_done_with_a_trial_that_was_not_trained() -> None:
    running = TrialRecord(made(0, "plain", state=TrialState.RUNNING))
    assert commands(running, [running], "plain", "s", None) == []


def test_a_trial_is_flipped_to_the_baseline_and_the_baseline_to_its_first_rival() -> None:
    twins = records(pair())
    for trial, other in zip(twins, ("residual", "plain"), strict=True):
        lines = [line for _, line in commands(trial, twins, "plain", "s", None)]
        assert lines[1] == f"python -m search.repeat {trial.number} --name s --block {other}"
    alone = [line for _, line in commands(twins[0], twins[:1], "plain", "s", None)]
    assert alone[1].endswith("--block residual")
