"""The web application: our own pages at / and /studies/ID, optuna-dashboard behind them at /dashboard."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import plotly  # type: ignore[import-untyped]

from search.errors import SpecError
from search.web.answers import Answers
from search.web.guard import READS
from search.web.page import asset, document

STUDY = re.compile(r"/studies/(\d+)/?")
TRIAL_PAGE = re.compile(r"/studies/(\d+)/trials/(\d+)/?")
TYPES = {"css": "text/css", "js": "text/javascript"}
FOREVER = ("Cache-Control", "max-age=31536000, immutable")
PLOTLY = f"/assets/plotly-{plotly.__version__}.js"
_HEAD = (
    '<link rel="stylesheet" href="/assets/answer.css">'
    f'<script defer src="{PLOTLY}"></script><script defer src="/assets/answer.js"></script>'
)
_READING = '<p class="sentence" data-soon>Reading the studies …</p>'
_EMPTY = '<p class="sentence">No study yet: <code>python -m search.run</code> makes one.</p>'
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_RANGE", "HTTP_ACCEPT_ENCODING")
"""Headers of a request to be left out where the answer is changed on its way."""
ABOUT_THE_BODY = ("content-length", "etag", "last-modified")


class Site:
    """A WSGI application before that of optuna-dashboard."""

    def __init__(self, dashboard: WSGIApplication, answers: Answers, writes: bool) -> None:
        self.dashboard, self.answers = dashboard, answers
        rights = "writes" if writes else "read-only"
        self.inserted = (
            '<link rel="stylesheet" href="/assets/dashboard.css">'
            f'<script defer src="/assets/dashboard.js" data-rights="{rights}"></script></head>'
        ).encode()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in READS:
            return self.dashboard(environ, start)
        if path == "/":
            return self._page(environ, start, "archsearch", self._index())
        if study := STUDY.fullmatch(path):
            return self._study(environ, start, int(study[1]))
        if trial := TRIAL_PAGE.fullmatch(path):
            return self._trial(environ, start, int(trial[1]), int(trial[2]))
        if path.startswith("/assets/"):
            return _asset(environ, start, path)
        if path == "/dashboard" or path.startswith("/dashboard/"):
            return self._inserted(environ, start)
        return self.dashboard(environ, start)

    def _index(self) -> str:
        if not self.answers.wanted():
            return _READING
        cards = [self.answers.pages[study_id].card for study_id in self.answers.order]
        trouble = f'<p class="trouble">{escape(self.answers.trouble)}</p>' if self.answers.trouble else ""
        return f"{trouble}{''.join(cards) or _EMPTY}"

    def _study(self, environ: WSGIEnvironment, start: StartResponse, study_id: int) -> Iterable[bytes]:
        back = '<nav><a href="/">← All studies</a></nav>'
        if not self.answers.wanted():
            return self._page(environ, start, "archsearch", back + _READING)
        page = self.answers.pages.get(study_id)
        if page is None:
            gone = f'{back}<p class="sentence">There is no study {study_id} in this database.</p>'
            return self._page(environ, start, "archsearch", gone, "404 Not Found")
        return self._page(environ, start, page.title, f'{back}<article class="whole">{page.body}</article>')

    def _trial(
        self, environ: WSGIEnvironment, start: StartResponse, study_id: int, number: int
    ) -> Iterable[bytes]:
        back = f'<nav><a href="/studies/{study_id}">← The study</a></nav>'
        try:
            found = self.answers.trial(study_id, number)
        except SpecError as error:
            gone = f'{back}<p class="sentence">{escape(str(error))}</p>'
            return self._page(environ, start, "archsearch", gone, "404 Not Found")
        title, body = found
        return self._page(environ, start, title, f'{back}<article class="whole">{body}</article>')

    def _page(
        self, environ: WSGIEnvironment, start: StartResponse, title: str, body: str, status: str = "200 OK"
    ) -> Iterable[bytes]:
        tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:16]}"'
        headers = [("ETag", tag), ("Cache-Control", "no-cache")]
        if environ.get("HTTP_IF_NONE_MATCH") == tag:
            start("304 Not Modified", headers)
            return []
        text = document(title, f'<meta name="page-tag" content="{escape(tag)}">{_HEAD}', body)
        return _sent(environ, start, status, "text/html; charset=utf-8", text.encode(), headers)

    def _inserted(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """The page of optuna-dashboard, with our way back and what read-only means."""
        told: list[Any] = []

        def begin(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            told[:] = [status, headers]
            return lambda data: None

        asked = {name: value for name, value in environ.items() if name not in CONDITIONS}
        answer = self.dashboard({**asked, "REQUEST_METHOD": "GET"}, begin)
        try:
            body = b"".join(answer)
        finally:
            if hasattr(answer, "close"):  # as WSGI has it, where the answer is a file
                answer.close()
        body = body.replace(b"</head>", self.inserted, 1)
        status, headers = told
        kept = [(name, value) for name, value in headers if name.lower() not in ABOUT_THE_BODY]
        start(status, [*kept, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _asset(environ: WSGIEnvironment, start: StartResponse, path: str) -> Iterable[bytes]:
    name = path.removeprefix("/assets/")
    if path == PLOTLY:
        return _sent(environ, start, "200 OK", TYPES["js"], _plotly(), [FOREVER], packed=True)
    if name not in ("answer.css", "answer.js", "dashboard.css", "dashboard.js"):
        return _sent(environ, start, "404 Not Found", "text/plain", b"no such file\n", [])
    kind = TYPES[name.rpartition(".")[2]]
    return _sent(environ, start, "200 OK", kind, asset(name).encode(), [("Cache-Control", "no-cache")])


@cache
def _plotly() -> bytes:
    """The script that draws figures, packed once."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return gzip.compress(get_plotlyjs().encode(), 6, mtime=0)


def _sent(
    environ: WSGIEnvironment,
    start: StartResponse,
    status: str,
    kind: str,
    body: bytes,
    headers: list[tuple[str, str]],
    packed: bool = False,
) -> Iterable[bytes]:
    """An answer, packed where the browser takes that; `packed`: it is already."""
    takes = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
    if takes and not packed:
        body = gzip.compress(body, 1, mtime=0)
    elif packed and not takes:
        body = gzip.decompress(body)
    encoding = [("Content-Encoding", "gzip")] * takes
    length = ("Content-Length", str(len(body)))
    start(status, [("Content-Type", kind), *encoding, ("Vary", "Accept-Encoding"), *headers, length])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
