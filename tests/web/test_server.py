"""How the dashboard is put together; tests/commands/test_dashboard.py has it run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.errors import DatabaseError, SpecError
from search.spec.study import StudySpec
from search.storage.studies import open_study
from search.web import server
from search.web.guard import Guard
from search.web.passwords import password_hash
from search.web.server import Served, serve


class Put:
    """What is given to waitress, which serves nothing."""

    def __init__(self) -> None:
        self.app: Any = None
        self.settings: dict[str, Any] = {}
        self.port = 0

    def create_server(self, app: Any, **settings: Any) -> Put:
        self.app, self.settings = app, settings
        return self

    def run(self) -> None:
        for listener in self.settings["sockets"]:
            self.port = listener.getsockname()[1]
            listener.close()


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Put:
    put = Put()
    monkeypatch.setattr(server, "waitress", put)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test's process keeps its handlers
    monkeypatch.setattr(server, "sort_figures", lambda: None)
    return put


@pytest.fixture
def served(tmp_path: Path, tiny: StudySpec) -> Served:
    url = f"sqlite:///{tmp_path}/search.db"
    open_study(url, "s", tiny, "data", 1)
    return Served(
        url=url, artifacts=tmp_path, host="127.0.0.1", port=0, names=("lab.example",), auth_file=None,
        writes=False, open_browser=False,
    )  # fmt: skip


@pytest.fixture
def logins(tmp_path: Path) -> Path:
    path = tmp_path / "logins"
    path.write_text(f"ada:{password_hash(b'secret', ln=10, p=1)}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Addresses that a browser was sent to; there is none."""
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(addresses.append(address)))
    return addresses


def ask(guard: Guard, method: str = "GET", host: str = "localhost") -> str:
    said: list[str] = []
    environ = {"PATH_INFO": "/none", "REQUEST_METHOD": method, "HTTP_HOST": host}
    for name in ("SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme"):
        environ[name] = "http"
    list(guard(environ, lambda status, *_: said.append(status)))  # type: ignore[arg-type,func-returns-value]
    return said[0]


def test_reading_is_served_under_its_names_to_everybody(served: Served, put: Put, capsys: Any) -> None:
    serve(served)
    assert isinstance(put.app, Guard)
    for host in ("127.0.0.1", "localhost:80", "lab.example"):
        assert ask(put.app, host=host) == "404 Not Found", "it gets to the dashboard"
    assert ask(put.app, host="evil.example").startswith("421")
    assert ask(put.app, "DELETE").startswith("405")
    assert put.settings["max_request_body_size"] == server.REFUSED_BODY_BYTES
    assert put.settings["ident"] is None
    said = capsys.readouterr().out
    assert said.startswith(served.url)
    assert "(read-only, no login)" in said


def test_writing_is_served_where_it_is_allowed(served: Served, put: Put, capsys: Any) -> None:
    serve(replace(served, writes=True))
    assert not ask(put.app, "DELETE").startswith("405")
    assert put.settings["max_request_body_size"] == server.BODY_BYTES
    assert "(studies may be changed, no login)" in capsys.readouterr().out


def test_a_login_is_asked_for_where_there_is_a_file(
    served: Served, put: Put, logins: Path, capsys: Any
) -> None:
    serve(replace(served, auth_file=logins))
    assert ask(put.app).startswith("401")
    assert "(read-only, login)" in capsys.readouterr().out


def test_figures_are_sorted(served: Served, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(server, "sort_figures", lambda: called.append(True))
    serve(served)
    assert called


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "lab.example"])
def test_others_are_not_let_in_without_a_login(served: Served, put: Put, host: str) -> None:
    with pytest.raises(SpecError, match=f"--host {host} lets others in, so it needs --auth-file FILE"):
        serve(replace(served, host=host))
    assert put.app is None


def test_a_browser_is_opened_when_asked(served: Served, put: Put, opened: list[str], capsys: Any) -> None:
    serve(served)
    assert not opened
    serve(replace(served, open_browser=True))
    assert opened == [f"http://127.0.0.1:{put.port}/"]
    assert "no browser found: open the address yourself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::", "http://[::1]:80/"),
        ("lab.example", "http://lab.example:80/"),
    ],
)
def test_the_address_is_one_that_this_machine_reaches(host: str, address: str) -> None:
    assert server._address(host, 80) == address


def test_what_cannot_be_served_is_told(served: Served, put: Put, tmp_path: Path, logins: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpecError, match=f"port {port} is in use"):
            serve(replace(served, port=port))
    with pytest.raises(SpecError, match="no address of this machine"):
        serve(replace(served, host="192.0.2.7", auth_file=logins))
    with pytest.raises(SpecError, match="--artifacts must be a folder that exists"):
        serve(replace(served, artifacts=tmp_path / "none"))
    with pytest.raises(SpecError, match="cannot be read"):
        serve(replace(served, auth_file=tmp_path / "none"))
    with pytest.raises(DatabaseError, match="there is no"):
        serve(replace(served, url=f"sqlite:///{tmp_path}/none.db"))


def test_the_usual_folder_of_artifacts_may_be_made_later(served: Served, put: Put, tmp_path: Path) -> None:
    assert not (tmp_path / "artifacts").exists()
    serve(replace(served, artifacts=None))
    assert put.app is not None
