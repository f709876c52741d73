from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.analysis.evidence import gather
from search.design.plan import Plan
from search.storage.study_record import REPEATS, StudyRecord
from search.views import confirmation_figures, search_figures
from search.views.findings import VERSION, findings_of
from search.views.reading import REPEATS_READING, confirmation_reading, search_reading
from search.views.sentence import sentence
from search.views.tables import duel_table, winner_table
from tests.support.made_trials import deep_pairs, findings, made, records, study_of
from tests.support.plans import RATES, choice, ended_runs, plan

PLAN = plan([choice(arm, depth, lr) for depth in (9, 45) for arm, lr in RATES.items()], seeds=(7,))


def study_named(
    name: str, trials: list[FrozenTrial], beside: Study | None = None, **attributes: Any
) -> Study:
    storage = None if beside is None else beside._storage
    study = optuna.create_study(study_name=name, direction="maximize", storage=storage)
    study.add_trials(trials)
    for key, value in StudyRecord.attributes(**attributes).items():
        study.set_user_attr(key, value)
    return study


def confirmation(name: str, given: Plan, beside: Study | None = None) -> Study:
    runs = ended_runs(given, lambda run: 0.5 + 0.3 * (run.arm != "plain") + 0.01 * run.replicate)
    return study_named(name, runs, beside, kind="confirmation", plan=given.to_json(), test_reads=77)


def test_a_search_says_what_its_evidence_says() -> None:
    trials = study_of(60)
    found = findings(trials, "shown")
    evidence = gather(records(trials), "plain")
    assert (found.study, found.evidence, found.verdicts) == ("shown", evidence, None)
    [section] = found.sections
    assert (section.kind, section.name) == ("search", "shown")
    assert (section.course.finished, section.course.counted) == (60, "60 trials")
    assert section.sentence == sentence(evidence)
    assert section.next == "python -m search.confirm --name shown"
    running = findings([*deep_pairs(14), made(99, "plain", state=TrialState.RUNNING)])
    assert running.own.next == "", "it is not over"
    again = findings_of(study_named("a b", trials), "postgresql://me:secret@host/db").sections[0]
    assert again.next == "python -m search.confirm --name 'a b' --storage 'postgresql://me:***@host/db'"
    own = study_named("own", trials, spec={"data": {"name": "folder"}})
    assert findings_of(own).sections[0].next == "python -m search.confirm --study FILE --name own"
    assert section.tables[:2] == [duel_table(evidence), winner_table(evidence)]
    assert list(section.figures()) == list(search_figures.FIGURES)
    assert section.reading == search_reading("plain")


def test_a_search_has_its_tables_in_order_and_none_that_is_empty() -> None:
    def titles(trials: list[FrozenTrial]) -> list[str]:
        return [re.split(r", | \(", table.title)[0] for table in findings(trials).own.tables]

    rest = [
        "Accuracy by arm and depth",
        "Why trials ended as they did",
        "Failures",
        "What each arm was given",
    ]
    assert titles(study_of(60)) == ["Against plain", "Architectures that beat their plain twin", *rest]
    assert titles([made(0, "residual")]) == rest, "no pair, no duel"
    assert titles([]) == []


def test_notes_tell_of_pairs_cut_short_and_of_noise() -> None:
    trials = [made(i, "plain", 0.9, group=i, fingerprint=f"{i // 2}") for i in range(4)]
    trials += [made(4 + i, "plain", 0.2, group=4 + i, blocks=13) for i in range(3)]
    cut = [made(7, "plain", 0.2, group=9, state=TrialState.PRUNED), made(8, "preact", 0.3, group=9)]
    for trial, value in zip(cut, (0.2, 0.1), strict=True):
        trial.intermediate_values = {1: value}
    trials[0].value = 0.92
    assert list(findings(trials + cut).sections[0].notes) == [
        "Not counted: 1 pair cut short by the pruner, where pre-activation led in 0 of 1.",
        "Seeds alone: standard deviation 1.00 points.",
    ]
    assert findings(deep_pairs(3)).sections[0].notes == []


def test_figures_are_drawn_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    section = findings(study_of(9)).sections[0]
    monkeypatch.setattr(search_figures, "FIGURES", {})
    assert section.figures() == {}


def test_a_search_brings_its_confirmation_along() -> None:
    search = study_named("digits", deep_pairs(14))
    alone = findings_of(search)
    confirmation("digits-confirm", PLAN, search)
    both = findings_of(search)
    assert both.evidence == alone.evidence
    assert both.verdicts is not None
    assert [(section.kind, section.name, section.origin) for section in both.sections] == [
        ("confirmation", "digits-confirm", "digits"), ("search", "digits", ""),
    ]  # fmt: skip
    first, own = both.sections
    assert both.own is own
    assert own.sentence == alone.own.sentence
    assert first.sentence.startswith("Confirmed (test images, 7 seeds): residual beats plain at ")
    for section in both.sections:
        title = section.figures()["archsearch-1-degradation"].layout.title.text
        assert title.replace("<br>", " ") == section.sentence
    assert (alone.own.next, own.next) == ("python -m search.confirm --name digits", "")
    assert replace(own, figures=dict) == replace(alone.own, next="", figures=dict)


def test_a_confirmation_speaks_for_itself() -> None:
    found = findings_of(confirmation("digits-confirm", PLAN))
    assert found.evidence is None
    assert found.verdicts is not None
    [section] = found.sections
    assert list(section.notes) == ["98 of 98 runs, 196 s of training; test images were looked at 77 times."]
    assert list(section.figures()) == list(confirmation_figures.FIGURES)
    assert section.reading == confirmation_reading("plain", "residual")


def test_repeats_are_a_table() -> None:
    trials = [
        made(0, "plain", 0.876, train_accuracy=0.9, origin=12, changed={}, difference="identical"),
        made(1, "plain", 0.5, train_accuracy=None, origin=3, changed={"block": "preact", "lr_sgd": 0.1}),
    ]
    found = findings_of(study_named("digits-repeat", trials, kind=REPEATS))
    assert (found.evidence, found.verdicts) == (None, None)
    [section] = found.sections
    assert section.sentence == "2 repeats of trials of digits."
    assert section.tables[0].rows == (
        ("0", "#12", "nothing", "87.6", "90.0", "identical"),
        ("1", "#3", "block = preact, lr_sgd = 0.1", "50.0", "-", "-"),
    )
    assert section.reading == REPEATS_READING
    assert section.figures() == {}


@pytest.mark.parametrize("baseline", ["plain", "residual"])
def test_the_baseline_is_the_studys(baseline: str) -> None:
    spec = {"search": {"baseline": baseline}}
    found = findings_of(study_named("s", study_of(60), spec=spec))
    assert found.evidence is not None
    assert found.evidence.baseline == baseline
    assert search_reading(baseline) == found.sections[0].reading
    assert found.sections[0].tables[0].title.startswith(f"Against {baseline}, points")


def test_json_has_the_sentence_of_the_page_and_what_it_rests_on() -> None:
    search = study_named("digits", deep_pairs(14))
    confirmation("digits-confirm", PLAN, search)
    found = json.loads(findings_of(search).to_json())
    assert list(found) == ["version", "study", "search", "confirmation"]
    assert (found["version"], found["study"], VERSION) == (5, "digits", 5)
    assert list(found["search"])[:2] == ["sentence", "next"]
    assert found["search"]["sentence"].startswith("Exploratory, 28 trials: ")
    assert found["confirmation"]["sentence"].startswith("Confirmed (test images")
    assert found["search"]["winners"][0]["difference"] == pytest.approx(30, abs=1)
    assert found["search"]["duels"][0]["word"] == "beats"
    assert found["confirmation"]["test_reads"] == 77
    alone = json.loads(findings_of(confirmation("c", PLAN)).to_json())
    assert alone["search"] is None
    assert json.loads(findings(study_of(9)).to_json())["confirmation"] is None


def test_how_to_read_names_the_baseline_and_a_rival() -> None:
    assert "kinder to plain stacks than all pairs are" in search_reading("plain")
    assert "kinder to residual networks than all pairs are" in search_reading("residual")
    text = confirmation_reading("preact", "plain")
    assert "*Pre-activation's*, *plain's*: twins" in text
    for reading in (search_reading("plain"), text):
        assert reading.count("**") % 2 == 0
        assert reading.replace("**", "").count("*") % 2 == 0
