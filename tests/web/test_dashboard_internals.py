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
from optuna_dashboard import _app, save_plotly_graph_object
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from search.web.dashboard_internals import FIGURE_PREFIX, sort_figures

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
    monkeypatch.setattr(_app, "get_plotly_graph_objects", get_plotly_graph_objects)


def figures(study: Study) -> dict[str, Any]:
    """What the application tells a browser, in its order."""
    app = optuna_dashboard.wsgi(study._storage)
    environ: dict[str, Any] = {"PATH_INFO": f"/api/studies/{study._study_id}", "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    said: list[str] = []

    def start(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        said.append(status)
        return lambda _: None

    body = json.loads(b"".join(app(environ, start)))
    assert said == ["200 OK"]
    return {figure["id"]: json.loads(figure["graph_object"]) for figure in body["plotly_graph_objects"]}


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
