from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest
import sqlalchemy
from optuna.study import Study
from optuna.trial import TrialState
from optuna_dashboard import get_note, save_note, save_plotly_graph_object
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from search.analysis.evidence import gather
from search.spec.study import StudySpec
from search.storage.connections import claims_of, join_study
from search.storage.studies import open_study
from search.storage.study_record import PUBLISHED
from search.storage.trial_record import records_of
from search.views import confirmation_figures, search_figures
from search.views.findings import Findings
from search.views.sentence import sentence
from search.web import publish as module
from search.web.dashboard_internals import note_of
from search.web.publish import MARK, Publisher, note, publish, with_theirs
from tests.support.made_trials import deep_pairs, findings, made, study_of
from tests.support.many_arms import FIVE, LABELS, five_arms, search_of_five
from tests.support.plans import RATES, choice, ended_runs, plan

pytestmark = pytest.mark.slow

OLD_NAMES = ["archsearch-1-degradation", "archsearch-2-beats", "archsearch-6-budget"]
"""Names of figures that studies have stored, some of them since the first version."""


@pytest.fixture
def study(tmp_path: Path, tiny: StudySpec) -> Study:
    return open_study(f"sqlite:///{tmp_path}/search.db", "tiny", tiny, "data", 10_000)


@pytest.fixture
def other(tmp_path: Path, study: Study) -> Study:
    """The same study, over another connection."""
    return join_study(f"sqlite:///{tmp_path}/search.db", "tiny", "other", 10_000)[0]


def attributes(study: Study) -> dict[str, Any]:
    found: dict[str, Any] = study._storage.get_study_system_attrs(study._study_id)
    return found


def figures_of(study: Study) -> dict[str, dict[str, Any]]:
    found = get_plotly_graph_objects(attributes(study))
    return {name: json.loads(text) for name, text in found.items()}


def told(study: Study) -> str:
    """What a page of the study as it is begins with."""
    return f"**{sentence(gather(records_of(study), 'plain'))}**"


def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def test_note_and_figures_stand_in_the_study(study: Study) -> None:
    study.add_trials(deep_pairs(14))
    publish(study)
    body = get_note(study)
    assert body.startswith(
        "**Exploratory, 28 trials: from 21 convs on pre-activation beats plain by 30 points"
    )
    assert "| pre-activation | 21+ | beats | +30 |" in body
    assert "exploratory" in body.lower()
    assert set(figures_of(study)) == set(search_figures.FIGURES)
    assert attributes(study)[PUBLISHED] == 28


def test_an_empty_study_is_published_too(study: Study) -> None:
    publish(study)
    assert get_note(study).startswith("**No pair has been trained to the end yet.**")
    assert set(figures_of(study)) == set(search_figures.FIGURES)


def test_a_confirmation_has_its_own_figures(tmp_path: Path, tiny: StudySpec) -> None:
    given = plan([choice(arm, 9, lr) for arm, lr in RATES.items()], seeds=(2,))
    study = open_study(
        f"sqlite:///{tmp_path}/search.db", "c", tiny, "data", 99, "confirmation", lambda _: given.to_json()
    )
    study.add_trials(ended_runs(given, lambda run: 0.9))
    publish(study)
    assert set(figures_of(study)) == set(confirmation_figures.FIGURES)
    assert get_note(study).startswith("**Nothing is confirmed (test images, 2 seeds): ")


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "gone"])
def test_arms_that_the_product_lacks_are_published(study: Study, installed: bool) -> None:
    with five_arms():
        study.add_trials(search_of_five(4))
        if installed:
            publish(study)
    if not installed:
        publish(study)
    for label in LABELS if installed else FIVE[3:]:
        assert f"| {label} |" in get_note(study)
        assert label in json.dumps(figures_of(study)["archsearch-1-degradation"])


def test_publishing_anew_replaces_what_was_longer(study: Study) -> None:
    figure = go.Figure(layout={"title": {"text": "x" * 100_000}})
    save_plotly_graph_object(study, figure, graph_object_id="archsearch-6-budget")
    save_note(study, f"{'x' * 50_000}{MARK}")
    publish(study)
    assert figures_of(study)["archsearch-6-budget"]["layout"]["height"] == 450
    assert get_note(study) == with_theirs(note(findings([])), "")


@pytest.mark.parametrize("name", OLD_NAMES)
def test_stored_names_are_renewed_and_not_doubled(study: Study, name: str) -> None:
    save_plotly_graph_object(study, go.Figure(layout={"height": 77}), graph_object_id=name)
    publish(study)
    assert set(figures_of(study)) == set(search_figures.FIGURES)
    assert figures_of(study)[name]["layout"]["height"] == 450


def test_a_figure_that_is_no_longer_drawn_goes_and_a_persons_own_stay(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ["archsearch-4-gone", "archsearch-9-long-gone"]
    theirs = ["mine", "my-archsearch-1-degradation", "Archsearch-1", "archsearch"]
    long = go.Figure(layout={"title": {"text": "x" * 9000}})
    for name in ours + theirs:
        save_plotly_graph_object(study, long, graph_object_id=name)
    publish(study)
    assert set(figures_of(study)) == {*search_figures.FIGURES, *theirs}
    assert figures_of(study)["mine"] == json.loads(long.to_json())
    assert not [key for key in attributes(study) if "gone" in key], "no row is left"
    first = dict(list(search_figures.FIGURES.items())[:2])
    monkeypatch.setattr(search_figures, "FIGURES", first)
    publish(study)
    assert set(figures_of(study)) == {*first, *theirs}


def test_rows_that_did_not_change_are_not_written(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.add_trials(deep_pairs(3))
    publish(study)
    direct = claims_of(study).direct
    written: list[tuple[dict[str, Any], list[str]]] = []

    def replace(_: int, values: dict[str, Any], gone: list[str], unless: Callable[..., bool]) -> None:
        unless({key: attributes(study)[key] for key in values})
        written.append((values, list(gone)))

    monkeypatch.setattr(direct, "replace_system_attributes", replace)
    publish(study)
    assert written == [({PUBLISHED: 6}, [])]


def test_every_finished_trial_has_a_note_and_what_a_person_wrote_there_stays(study: Study) -> None:
    study.add_trials(deep_pairs(2))
    study.add_trial(made(99, "plain", state=TrialState.RUNNING))
    publish(study)
    *ended, running = study.trials
    for trial in ended:
        assert note_of(attributes(study), trial._trial_id).startswith(f"**Trial {trial.number}: ")
    assert note_of(attributes(study), running._trial_id) == ""
    first = optuna.Trial(study, ended[0]._trial_id)
    save_note(first, f"{get_note(first)}\n\nmy thought")
    study.add_trials(deep_pairs(1, first=50))
    publish(study)
    assert get_note(first).startswith("**Trial 0: ")
    assert get_note(first).endswith("my thought")
    assert get_note(first).count(MARK) == 1


def test_a_page_of_more_trials_stays(study: Study, other: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command publishes more while this one draws."""
    study.add_trials(deep_pairs(3))

    def meanwhile(*_: object) -> Any:
        if len(other.get_trials(deepcopy=False)) == 6:
            other.add_trials(deep_pairs(14, first=100))
            publish(other)
        return findings(deep_pairs(3))

    stock = module.findings_of
    monkeypatch.setattr(module, "findings_of", lambda of: meanwhile() if of is study else stock(of))
    publish(study)
    assert attributes(study)[PUBLISHED] == 34
    assert get_note(study).startswith(told(other))
    assert "17 pairs" in get_note(study)


@pytest.mark.parametrize("who", ["a command", "a person"])
def test_what_was_written_meanwhile_is_neither_lost_nor_mixed(
    study: Study, other: Study, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Rows of a figure are written where they changed since they were read: if somebody wrote others in
    between, it is drawn again."""
    study.add_trials(deep_pairs(3))
    publish(study)
    study.add_trials(deep_pairs(4, first=50))
    stock, met = module.note, [False]

    def meanwhile(found: Findings) -> str:
        if not met[0]:
            met[0] = True
            if who == "a person":
                save_note(other, get_note(other) + "\n\nmy thoughts")
            else:  # which had begun to draw when there were eight
                long = go.Figure(layout={"title": {"text": "x" * 50_000}})
                save_plotly_graph_object(other, long, graph_object_id="archsearch-6-budget")
                other._storage.set_study_system_attr(other._study_id, PUBLISHED, 8)
        return stock(found)

    monkeypatch.setattr(module, "note", meanwhile)
    publish(study)
    assert get_note(study).startswith(told(study))
    assert get_note(study).endswith("my thoughts") == (who == "a person")
    assert attributes(study)[PUBLISHED] == len(study.get_trials())
    fresh = findings(study.get_trials()).sections[0].figures()
    for name, figure in figures_of(study).items():
        assert figure == json.loads(fresh[name].to_json()), name


def test_a_page_that_others_change_without_end_is_given_up(
    study: Study, other: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.add_trials(deep_pairs(3))
    stock, drawn = module.note, [0]

    def meanwhile(found: Findings) -> str:
        drawn[0] += 1
        save_note(other, f"thought {drawn[0]}")
        return stock(found)

    monkeypatch.setattr(module, "note", meanwhile)
    with pytest.raises(RuntimeError, match=f"others changed the page {module.TRIES} times"):
        publish(study)
    assert get_note(study) == f"thought {module.TRIES}"
    said: list[str] = []
    with Publisher(study, said.append):
        study.add_trials(deep_pairs(1, first=50))
    assert said == ["the dashboard's figures could not be written: others changed the page 5 times meanwhile"]


def test_what_a_person_wrote_stays() -> None:
    body = note(findings([]))
    mine = with_theirs(body, "my thoughts")
    assert mine.endswith(f"{MARK}\n\nmy thoughts")
    assert mine.count(MARK) == 1
    assert with_theirs(body, mine) == mine
    assert with_theirs(body, with_theirs(body, "")) == with_theirs(body, "")


def test_a_note_holds_all_that_a_section_says() -> None:
    found = findings(study_of(60) + deep_pairs(14, first=100))
    section, text = found.own, note(found)
    assert section.notes
    parts = [
        f"**{section.sentence}**",
        "Next: `python -m search.confirm --name x`",
        *(t.markdown() for t in section.tables),
        *section.notes,
        section.reading,
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_a_note_of_a_person_is_read_from_the_study(study: Study) -> None:
    save_note(study, "why I started this")
    publish(study)
    publish(study)
    assert get_note(study).endswith(f"{MARK}\n\nwhy I started this")


@pytest.mark.slow
def test_a_reader_sees_whole_figures_while_they_are_renewed(study: Study, other: Study) -> None:
    study.add_trials(study_of(30))
    publish(study)
    over, broken = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            try:
                figures_of(other)
            except ValueError as error:
                broken.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(3):
        study.add_trials(study_of(6, seed=i + 1))
        publish(study)
    over.set()
    thread.join()
    assert not broken


@pytest.mark.slow
def test_workers_write_while_it_publishes(study: Study, other: Study) -> None:
    trials = study_of(40)
    thread = threading.Thread(target=lambda: [other.add_trial(trial) for trial in trials])
    thread.start()
    while thread.is_alive():
        publish(study)
    thread.join()
    publish(study)
    assert len(study.get_trials(deepcopy=False)) == 40
    assert get_note(study).startswith(told(study))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A publisher that rests for a moment only. What it says."""
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE", 0)
    return []


def test_the_publisher_follows_a_search(study: Study, hasty: list[str]) -> None:
    with Publisher(study, hasty.append) as publisher:
        looks, stock = [0], publisher._elsewhere

        def look() -> int:
            looks[0] += 1
            return stock()

        publisher._elsewhere = look  # type: ignore[method-assign]
        study.add_trials(study_of(2))
        seen = looks[0]
        until(lambda: looks[0] > seen + 2)
        assert not get_note(study), "fewer than three new trials"
        study.add_trials(study_of(3))
        until(lambda: get_note(study))
        study.add_trials(deep_pairs(1))
    assert get_note(study).startswith(told(study)), "a last time at the end"
    assert not hasty


def test_a_large_study_is_published_after_a_share_of_its_trials(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.add_trials([made(i, "plain") for i in range(4)])
    calls: list[Study] = []
    monkeypatch.setattr(module, "publish", calls.append)
    monkeypatch.setattr(module, "SHARE", 0.5)
    publisher = Publisher(study, print)
    study.add_trials([made(i, "plain") for i in range(4, 7)])
    publisher._publish(module.TRIALS)
    assert not calls, "3 of 7 are less than that share"
    study.add_trial(made(7, "plain"))
    publisher._publish(module.TRIALS)
    assert calls == [study]
    study.add_trial(made(8, "plain"))
    publisher._publish(least=1)
    assert calls == [study] * 2, "in the end every trial counts"


def test_trials_that_have_not_ended_are_no_reason_to_publish(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Study] = []
    monkeypatch.setattr(module, "publish", calls.append)
    publisher = Publisher(study, print)
    study.add_trials([made(i, "plain", state=TrialState.RUNNING) for i in range(9)])
    publisher._publish(1)
    assert not calls


def test_what_another_command_published_is_not_published_again(
    study: Study, other: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(study, print)
    study.add_trials(deep_pairs(3))
    publish(other)
    calls: list[Study] = []
    monkeypatch.setattr(module, "publish", calls.append)
    publisher._publish(least=1)
    assert not calls
    study.add_trials(deep_pairs(1, first=50))
    publisher._publish(least=1)
    assert calls == [study]


def test_the_publisher_leaves_a_study_alone_that_did_not_change(study: Study) -> None:
    study.add_trials(deep_pairs(3))
    with Publisher(study, print):
        pass
    assert not get_note(study)


def test_the_publisher_rests_as_long_as_it_has_to(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher, now = Publisher(study, print), [0.0]

    class Clock:
        def monotonic(self) -> float:
            return now[0]

    def slow(_: Study) -> None:
        now[0] += 3.0

    monkeypatch.setattr(module, "time", Clock())
    monkeypatch.setattr(module, "publish", slow)
    assert publisher.pause == module.LEAST_SECONDS
    study.add_trials(deep_pairs(1))
    publisher._publish(1)
    assert publisher.pause == 3.0 * module.IDLE, "no more than a twentieth of a core"
    publisher._publish(1)
    assert publisher.pause == module.LEAST_SECONDS


def test_the_publisher_tells_of_a_failing_database_once_and_goes_on(
    study: Study, monkeypatch: pytest.MonkeyPatch, hasty: list[str]
) -> None:
    calls: list[Study] = []

    def fail(study: Study) -> None:
        calls.append(study)
        if len(calls) < 3:
            raise sqlalchemy.exc.OperationalError("insert", {}, Exception("database is locked"))
        if len(calls) < 5:
            raise optuna.exceptions.StorageInternalError("gone")

    monkeypatch.setattr(module, "publish", fail)
    with Publisher(study, hasty.append):
        study.add_trials(study_of(5))
        until(lambda: len(calls) >= 5)
    assert len(hasty) == 1
    assert hasty[0].startswith("the dashboard's figures could not be written: ")


def test_nothing_is_published_when_a_search_breaks_or_is_in_a_hurry(study: Study) -> None:
    def search() -> None:
        with Publisher(study, print):
            study.add_trials(study_of(5))
            raise RuntimeError("the search broke")

    with pytest.raises(RuntimeError, match="broke"):
        search()
    assert not get_note(study)
    with Publisher(study, print, in_a_hurry=lambda: True):
        study.add_trials(study_of(5, seed=1))
    assert not get_note(study)


def test_a_confirmation_is_told_of_on_the_page_of_its_search(
    study: Study, tmp_path: Path, tiny: StudySpec
) -> None:
    given = plan([choice(arm, 9, lr) for arm, lr in RATES.items()], seeds=(2,), search="tiny")
    url = f"sqlite:///{tmp_path}/search.db"
    confirmation = open_study(
        url, "tiny-confirm", tiny, "data", 99, "confirmation", lambda _: given.to_json()
    )
    with Publisher(confirmation, print):
        pass
    assert not get_note(study), "nothing new"
    with Publisher(confirmation, print):
        confirmation.add_trials(ended_runs(given, lambda run: 0.9))
    assert "Nothing is confirmed (test images, 2 seeds): " in get_note(confirmation)
    assert "Nothing is confirmed (test images, 2 seeds): " in get_note(study)
