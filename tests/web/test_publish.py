from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
import sqlalchemy
from optuna.study import Study
from optuna_dashboard import get_note, save_note, save_plotly_graph_object  # type: ignore[import-untyped]
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects  # type: ignore[import-untyped]

from search import publish as module
from search.analysis.evidence import gather
from search.spec.study import StudySpec
from search.storage.connections import join_study
from search.storage.studies import open_study
from search.web.publish import MARK, Publisher, note, publish
from tests.support.made_trials import deep_pairs, findings, study_of


@pytest.fixture
def study(tmp_path: Path, tiny: StudySpec) -> Study:
    return open_study(f"sqlite:///{tmp_path}/search.db", "tiny", tiny, "data", 10_000)


def figures_of(study: Study) -> dict[str, str]:
    found: dict[str, str] = get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))
    return found


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def test_note_and_figures_stand_in_the_study(study: Study) -> None:
    study.add_trials(deep_pairs(14))
    publish(study)
    body = get_note(study)
    assert body.startswith("**At 21-32 convs pre-activation beats plain by 30 points")
    assert "| pre-activation | 21-32 | beats | +30 |" in body
    assert "exploratory" in body.lower()
    assert len(figures_of(study)) == 7
    assert all(json.loads(text)["layout"] for text in figures_of(study).values())


def test_an_empty_study_is_published_too(study: Study) -> None:
    publish(study)
    assert get_note(study).startswith("**No pair has been trained to the end yet.**")
    assert len(figures_of(study)) == 7


def test_publishing_anew_replaces_what_was_longer(study: Study) -> None:
    longer = module._Draft(study)
    figure = go.Figure(layout={"title": {"text": "x" * 100_000}})
    save_plotly_graph_object(longer.study, figure, graph_object_id="archsearch-6-budget")
    save_note(longer.study, f"{'x' * 50_000}{MARK}")
    module._write(study, longer.changed(), 0)
    publish(study)
    assert json.loads(figures_of(study)["archsearch-6-budget"])["layout"]["height"] == 450
    assert get_note(study) == note(findings([]).parts[0])


def test_nothing_is_written_where_nothing_changed(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.add_trials(deep_pairs(3))
    publish(study)
    written: list[dict[str, object]] = []
    monkeypatch.setattr(module, "_write", lambda _, rows, finished: written.append(rows))
    publish(study)
    assert written == [{}]


def test_what_a_person_wrote_stays() -> None:
    part = findings([]).parts[0]
    mine = note(part, "my thoughts")
    assert mine.endswith("my thoughts")
    assert mine.count(MARK) == 1
    assert note(part, mine) == mine
    assert note(part, note(part)) == note(part)


def test_a_reader_sees_whole_figures_while_they_are_renewed(study: Study, tmp_path: Path) -> None:
    study.add_trials(study_of(30))
    publish(study)
    reader, _ = join_study(f"sqlite:///{tmp_path}/search.db", "tiny", "reader", 0)
    over, broken = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            for name, text in figures_of(reader).items():
                try:
                    json.loads(text)
                except ValueError:
                    broken.append(name)

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(3):
        study.add_trials(study_of(6, seed=i + 1))
        publish(study)
    over.set()
    thread.join()
    assert not broken


def test_workers_write_while_it_publishes(study: Study, tmp_path: Path) -> None:
    worker, _ = join_study(f"sqlite:///{tmp_path}/search.db", "tiny", "worker", 10_000)
    trials = study_of(40)
    thread = threading.Thread(target=lambda: [worker.add_trial(trial) for trial in trials])
    thread.start()
    while thread.is_alive():
        publish(study)
    thread.join()
    publish(study)
    assert len(study.get_trials(deepcopy=False)) == 40
    assert get_note(study).startswith(f"**{gather(study.get_trials()).sentence}**")


def test_the_publisher_follows_a_search(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE", 0)
    said: list[str] = []
    with Publisher(study, said.append):
        study.add_trials(study_of(2))
        time.sleep(0.2)
        assert not get_note(study), "fewer than three new trials"
        study.add_trials(study_of(3))
        until(lambda: get_note(study))
        study.add_trials(deep_pairs(1))
    assert get_note(study).startswith(f"**{gather(study.get_trials()).sentence}**"), "a last time at the end"
    assert not said


def test_the_publisher_leaves_a_study_alone_that_did_not_change(study: Study) -> None:
    with Publisher(study, print):
        pass
    assert not get_note(study)


def test_the_publisher_tells_of_a_failing_database_once_and_goes_on(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE", 0)
    calls: list[Study] = []

    def fail(study: Study) -> None:
        calls.append(study)
        if len(calls) < 3:
            raise sqlalchemy.exc.OperationalError("insert", {}, Exception("database is locked"))
        if len(calls) < 5:
            raise optuna.exceptions.StorageInternalError("gone")

    monkeypatch.setattr(module, "publish", fail)
    said: list[str] = []
    with Publisher(study, said.append):
        study.add_trials(study_of(5))
        until(lambda: len(calls) >= 5)
    assert len(said) == 1
    assert said[0].startswith("the dashboard's figures could not be written: ")


def test_nothing_is_published_when_a_search_breaks(study: Study) -> None:
    def search() -> None:
        with Publisher(study, print):
            study.add_trials(study_of(5))
            raise RuntimeError("the search broke")

    with pytest.raises(RuntimeError, match="broke"):
        search()
    assert not get_note(study)


def test_a_note_of_a_person_is_read_from_the_study(study: Study) -> None:
    save_note(study, "why I started this")
    publish(study)
    publish(study)
    assert get_note(study).endswith(f"{MARK}\n\nwhy I started this")
