"""optuna-dashboard's private names are what the product takes them for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
from optuna.study import Study
from optuna.trial import create_trial
from optuna_dashboard import _app, _note, _serializer, get_note, save_note, save_plotly_graph_object

from search.web.dashboard_internals import (
    FIGURE_PREFIX,
    note_of,
    note_rows,
    read_notes_by_key,
    sort_figures,
)

NAMES = [f"archsearch-{i}-{word}" for i, word in enumerate(("one", "two", "three", "four", "five", "six"), 1)]


@pytest.fixture
def study() -> Study:
    """A study with figures, the last one saved first."""
    study = optuna.create_study(study_name="shown")
    for name in NAMES[::-1]:
        save_plotly_graph_object(study, go.Figure(layout={"title": {"text": name}}), graph_object_id=name)
    return study


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test sorts is unsorted after it."""
    for module, name in (
        (_app, "get_plotly_graph_objects"),
        (_note, "get_note_from_system_attrs"),
        (_serializer, "list_trial_artifacts"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))


def asked(study: Study) -> Any:
    """What the application tells a browser."""
    app = optuna_dashboard.wsgi(study._storage)
    environ: dict[str, Any] = {"PATH_INFO": f"/api/studies/{study._study_id}", "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    said: list[str] = []

    def start(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        said.append(status)
        return lambda _: None

    body = json.loads(b"".join(app(environ, start)))
    assert said == ["200 OK"]
    return body


def figures(study: Study) -> dict[str, Any]:
    """The figures, in the order in which a browser is told of them."""
    told = asked(study)["plotly_graph_objects"]
    return {figure["id"]: json.loads(figure["graph_object"]) for figure in told}


LENGTHS = [0, 3, 5_000, 2_045, 2_046, 3, 9_000]
"""Of notes one after the other, in characters: rows hold 2,045 of them."""


def test_a_trials_note_is_written_as_the_dashboard_writes_it(study: Study) -> None:
    study.add_trial(create_trial(value=1.0))
    [trial] = study.trials
    ours: dict[str, Any] = {}
    for length in LENGTHS:
        text = "n" * length
        save_note(trial_of(study), text)
        ours |= note_rows(ours, trial._trial_id, text)
        stored = study._storage.get_study_system_attrs(study._study_id)
        assert note_of(stored, trial._trial_id) == note_of(ours, trial._trial_id) == text
        assert get_note(trial_of(study)) == text
        assert {key: value for key, value in stored.items() if key in ours} == ours


def trial_of(study: Study) -> optuna.Trial:
    """The study's trial as save_note takes it."""
    return optuna.Trial(study, study.trials[0]._trial_id)


def test_notes_and_artifacts_looked_up_by_key_are_those_that_are_searched_for(study: Study) -> None:
    for number in range(3):
        study.add_trial(
            create_trial(
                value=1.0,
                system_attrs={"artifacts:k": json.dumps({"artifact_id": "k", "filename": f"{number}.txt"})},
            )
        )
    save_note(study, "of the study")
    save_note(trial_of(study), "of a trial\n" * 500)
    key = f"dashboard:artifacts:{study.trials[1]._trial_id}:old"
    value = json.dumps({"artifact_id": "old", "filename": "old.txt"})
    study._storage.set_study_system_attr(study._study_id, key, value)
    before = asked(study)
    read_notes_by_key()
    assert asked(study) == before
    told = before["trials"]
    assert [len(trial["artifacts"]) for trial in told] == [1, 2, 1]
    assert [bool(trial["note"]["body"]) for trial in told] == [True, False, False]


def test_the_application_reads_figures_by_the_name_that_is_replaced(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_app, "get_plotly_graph_objects", lambda attrs: {"told": "{}"})
    assert figures(study) == {"told": {}}


def test_figures_lie_in_attributes_of_the_prefix_and_their_name(study: Study) -> None:
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert {key.rpartition(":")[0] for key in attributes} == {f"{FIGURE_PREFIX}{name}" for name in NAMES}
    assert {key.rpartition(":")[2] for key in attributes} >= {"0", "1"}, "in rows, which are numbered"


def test_figures_arrive_in_the_order_of_their_names(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would arrive in that of a set, which is another one in every process."""
    unsorted = {name: json.dumps({"layout": {"title": {"text": name}}}) for name in NAMES[3:] + NAMES[:3]}
    monkeypatch.setattr(_app, "get_plotly_graph_objects", lambda attrs: unsorted)
    assert list(figures(study)) != NAMES
    sort_figures()
    found = figures(study)
    assert list(found) == NAMES
    assert [figure["layout"]["title"]["text"] for figure in found.values()] == NAMES


def test_sorting_twice_is_sorting(study: Study) -> None:
    sort_figures()
    sort_figures()
    assert list(figures(study)) == NAMES
