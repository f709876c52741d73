"""What is served at which address."""

from __future__ import annotations

import gzip
from html import escape
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
import pytest
from optuna.study import Study

from search.spec.study import StudySpec
from search.storage.connections import watch
from search.storage.studies import open_study
from search.web.answers import Answers
from search.web.front import PLOTLY, Site
from tests.support.made_trials import deep_pairs


@pytest.fixture
def study(tmp_path: Path, tiny: StudySpec) -> Study:
    study = open_study(f"sqlite:///{tmp_path}/search.db", "tiny", tiny, "data", 100)
    study.add_trials(deep_pairs(14))
    return study


class Front:
    """The site before a real dashboard, asked without a network."""

    def __init__(self, url: str, writes: bool = False) -> None:
        storage = watch(url, writes=False)
        self.answers = Answers(storage)
        self.site = Site(optuna_dashboard.wsgi(storage), self.answers, writes)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method}
        setup_testing_defaults(environ)
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        said: list[Any] = []

        def start(status: str, found: list[tuple[str, str]], *_: Any) -> Any:
            said[:] = [int(status.split()[0]), dict(found)]
            return lambda data: None

        body = b"".join(self.site(environ, start))
        packed = said[1].get("Content-Encoding") == "gzip" and body
        return said[0], said[1], (gzip.decompress(body) if packed else body).decode()


@pytest.fixture
def front(study: Study, tmp_path: Path) -> Front:
    front = Front(f"sqlite:///{tmp_path}/search.db")
    assert front.answers.ready.wait(0) or front.answers.wanted() or front.answers.ready.wait(60)
    return front


def test_the_first_screen_has_the_answers(front: Front) -> None:
    status, headers, html = front.ask("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert html.count('<article class="card">') == 1
    assert "plain by 30 points [30, 30] (14 pairs)" in html
    assert len(html) < 1_500_000
    assert "<script>" not in html, "the guard's policy forbids it"


def test_a_study_and_a_trial_have_pages_and_what_is_not_there_is_told(front: Front) -> None:
    assert "Why trials ended as they did" in front.ask("/studies/1")[2]
    assert "Trial 1: preact" in front.ask("/studies/1/trials/1")[2]
    for path, says in (
        ("/studies/9", "There is no study 9 in this database."),
        ("/studies/9/trials/1", "there is no study 9 in this database"),
        ("/studies/1/trials/99", "no trial 99 in the study"),
    ):
        status, _, html = front.ask(path)
        assert status == 404
        assert says in html


def test_a_page_that_did_not_change_is_not_sent_again(front: Front) -> None:
    tag = front.ask("/")[1]["ETag"]
    assert f'content="{escape(tag)}"' in front.ask("/")[2]
    status, headers, body = front.ask("/", if_none_match=tag)
    assert (status, headers["ETag"], body) == (304, tag, "")
    assert front.ask("/", if_none_match='"other"')[0] == 200


def test_what_browsers_take_packed_is_packed(front: Front) -> None:
    for path in ("/", "/studies/1", "/assets/answer.css", PLOTLY):
        _, plain, text = front.ask(path)
        _, packed, same = front.ask(path, accept_encoding="gzip, br")
        assert (same, packed["Content-Encoding"]) == (text, "gzip")
        assert int(packed["Content-Length"]) < int(plain["Content-Length"]) == len(text.encode())
        assert front.ask(path, "HEAD")[2] == ""


def test_scripts_and_styles_are_served_and_nothing_else(front: Front) -> None:
    assert front.ask("/assets/answer.js")[1]["Content-Type"] == "text/javascript"
    assert front.ask(PLOTLY)[1]["Cache-Control"] == "max-age=31536000, immutable"
    for path in ("/assets/../front.py", "/assets/front.py", "/assets/"):
        assert front.ask(path)[0] == 404


def test_optuna_dashboard_is_behind_it_with_a_way_back(front: Front, tmp_path: Path) -> None:
    for path in ("/dashboard", "/dashboard/studies/1/trials"):
        status, headers, html = front.ask(path, if_modified_since="Fri, 01 Jan 2100 00:00:00 GMT")
        assert status == 200
        assert 'src="/assets/dashboard.js" data-rights="read-only"' in html
        assert int(headers["Content-Length"]) == len(html.encode())
        assert "Last-Modified" not in headers
    assert front.ask("/api/studies")[0] == 200
    assert (
        'data-rights="writes"' in Front(f"sqlite:///{tmp_path}/search.db", writes=True).ask("/dashboard")[2]
    )


def test_who_asks_before_studies_are_read_is_told_so(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front.answers, "wanted", lambda: False)
    for path in ("/", "/studies/1"):
        assert "data-soon" in front.ask(path)[2]


def test_an_empty_database_says_what_makes_a_study(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front.answers, "wanted", lambda: True)
    monkeypatch.setattr(front.answers, "order", [])
    assert "<code>python -m search.run</code> makes one" in front.ask("/")[2]
    monkeypatch.setattr(front.answers, "trouble", "away & gone")
    assert "away &amp; gone" in front.ask("/")[2]
