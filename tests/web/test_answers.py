"""The pages of a database's studies: which there are, in what order, and when they are made anew."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.study import Study

from search.errors import SpecError
from search.spec.study import StudySpec
from search.storage.connections import watch
from search.storage.studies import open_study
from search.web import answers as module
from search.web.answers import Answers
from tests.support.made_trials import deep_pairs, made


class Asked(Answers):
    """Looks when it is told to: its thread waits for ever."""

    def _work(self) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/search.db"


@pytest.fixture
def study(url: str, tiny: StudySpec) -> Study:
    return open_study(url, "tiny", tiny, "data", 100)


@pytest.fixture
def answers(study: Study, url: str) -> Asked:
    return Asked(watch(url, writes=False))


def names(answers: Answers) -> list[str]:
    return [answers.pages[study_id].name for study_id in answers.order]


def test_a_study_has_a_card_and_a_page(study: Study, answers: Asked) -> None:
    study.add_trials(deep_pairs(14))
    answers.look()
    [page] = answers.pages.values()
    assert page.name == "tiny"
    for html in (page.card, page.body):
        assert "plain by 30 points [30, 30] (14 pairs)" in html
        assert 'href="/studies/1/trials/1"' in html
    assert 'href="/studies/1"' in page.card
    assert 'href="/dashboard/studies/1"' in page.card
    assert page.card.count("<figure") == 1 < page.body.count("<figure")


def test_a_confirmation_is_on_the_card_of_its_search(
    study: Study, answers: Asked, url: str, tiny: StudySpec
) -> None:
    study.add_trials(deep_pairs(3))
    open_study(url, "tiny-confirm", tiny, "data", 9, kind="confirmation")
    open_study(url, "tiny-repeat", tiny, "data", 9, kind="collection of repeats").add_trial(made(0, "plain"))
    open_study(url, "other", tiny, "data", 9)
    answers.look()
    assert names(answers) == ["tiny", "other", "tiny-repeat"], "repeats are last, though they are new"
    assert len(answers.pages) == 4


def test_only_what_has_changed_is_made_anew(
    study: Study, answers: Asked, url: str, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_study(url, "other", tiny, "data", 9)
    made_anew: list[str] = []
    stock = module.findings_of
    monkeypatch.setattr(
        module, "findings_of", lambda study: made_anew.append(study.study_name) or stock(study)
    )
    answers.look()
    assert sorted(made_anew) == ["other", "tiny"]
    answers.look()
    assert len(made_anew) == 2
    study.add_trial(made(0, "plain"))
    answers.look()
    assert made_anew[2:] == ["tiny"]


def test_what_is_deleted_is_gone_and_what_others_made_is_named(
    study: Study, answers: Asked, url: str
) -> None:
    optuna.create_study(study_name="theirs", storage=url, direction="minimize").ask()
    answers.look()
    assert names(answers) == ["theirs", "tiny"]
    foreign = answers.pages[answers.order[0]]
    assert "not made by archsearch, 1 trials" in foreign.card
    optuna.delete_study(study_name="tiny", storage=url)
    answers.look()
    assert names(answers) == ["theirs"]


def test_a_trial_has_a_page_when_it_is_asked_for(study: Study, answers: Asked) -> None:
    study.add_trials(deep_pairs(3))
    title, body = answers.trial(1, 1)
    assert title == "tiny, trial 1"
    assert 'href="/dashboard/studies/1/trials?numbers=1"' in body
    with pytest.raises(SpecError, match="no trial 9 in the study 'tiny'"):
        answers.trial(1, 9)
    with pytest.raises(SpecError, match="there is no study 7 in this database"):
        answers.trial(7, 0)


def test_pages_are_made_while_somebody_looks_and_not_after(
    study: Study, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(Answers):
        looks = 0

        def look(self) -> None:
            type(self).looks += 1
            super().look()

    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE", 0)
    monkeypatch.setattr(module, "AWAKE_SECONDS", 0.2)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60)
    storage: BaseStorage = watch(url, writes=False)
    answers = Counted(storage)
    module.time.sleep(0.1)
    assert Counted.looks == 0
    answers.awake()
    assert answers.ready.wait(60), "before anybody has asked"
    assert answers.wanted()
    assert names(answers) == ["tiny"]
    for _ in range(600):
        if not answers.asked.is_set():
            break
        answers.ready.wait(0.1)
        module.time.sleep(0.1)
    looks = Counted.looks
    module.time.sleep(0.5)
    assert Counted.looks == looks > 0, "nobody looks any more"
    study.add_trial(made(0, "plain"))
    assert answers.wanted()
    assert "1 of 100 trials" in answers.pages[1].card, "who comes back is shown no old page"


def test_a_database_that_is_away_is_told_and_the_last_pages_stay(
    study: Study, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Answers):
        def look(self) -> None:
            raise optuna.exceptions.StorageInternalError("no route")

    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60)
    answers = Away(watch(url, writes=False))
    assert answers.wanted()
    assert answers.trouble == "the database cannot be read: no route"


def test_a_look_is_followed_by_a_rest_of_its_cost_but_the_first_one_is_not(
    study: Study, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look imports what draws and makes all pages, which says nothing about the next one."""
    rests: list[float] = []

    class Over(BaseException):
        """The end of the thread's work."""

    class Costly(Asked):
        spent = 0.0

        def look(self) -> None:
            type(self).spent += 2.0

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            raise Over

    answers = Costly(watch(url, writes=False))
    answers.awake()
    monkeypatch.setattr(module.time, "thread_time", lambda: Costly.spent)
    monkeypatch.setattr(module.time, "sleep", sleep)
    with pytest.raises(Over):
        Answers._work(answers)
    assert rests == [module.LOOK_SECONDS, 2 * module.IDLE, 2 * module.IDLE]
