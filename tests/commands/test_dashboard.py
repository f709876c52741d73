"""The command as a person runs it: a real server, a real database, a real browser."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from search import dashboard
from search.dashboard import main
from search.storage.connections import join_study
from search.storage.leases import worker_name
from search.storage.studies import open_study
from search.web.passwords import is_password
from search.web.server import Served
from tests.support.dashboard import LOGIN, Server, complaints, make_login, shows
from tests.support.studies import tiny_spec

pytestmark = [pytest.mark.slow, pytest.mark.process]

optuna.logging.set_verbosity(optuna.logging.ERROR)
TRIALS = 12
SCRIPT = "<!DOCTYPE html><title>tame</title><h1>a report</h1><script>document.title = 'wild'</script>"


def fill(url: str, folder: Path) -> None:
    """A study named `shown`, id 1, with finished trials; the last one keeps the path of an artifact."""
    spec = tiny_spec(folder)
    open_study(url, "shown", spec, "data", TRIALS)
    study, claims = join_study(url, "shown", worker_name(), TRIALS)
    store = FileSystemArtifactStore(str(folder))
    page = folder / "report.html"
    page.write_text(SCRIPT)
    for i in range(TRIALS):
        trial = study.ask()
        rate = trial.suggest_float("lr_sgd", 0.01, 0.1, log=True)
        trial.suggest_int("blocks_1", 1, 3)
        trial.report(rate, 1)
        attrs = {"arm": ("plain", "residual", "preact")[i % 3], "depth": i}
        claims.finish(trial._trial_id, TrialState.COMPLETE, rate, attrs)
    artifact = upload_artifact(artifact_store=store, file_path=str(page), study_or_trial=study)
    (folder / "artifact").write_text(f"/artifacts/1/{artifact}")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `search.db`, artifacts, and `logins` for LOGIN."""
    folder = tmp_path_factory.mktemp("dashboard")
    fill(f"sqlite:///{folder}/search.db", folder)
    (folder / "logins").write_text(make_login(LOGIN))
    (folder / "logins").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def server(filled: Path) -> Iterator[Server]:
    """A read-only server without a login."""
    server = Server(filled)
    yield server
    assert server.close() == "", "it prints nothing while it serves"


@pytest.fixture(scope="module")
def closed(filled: Path) -> Iterator[Server]:
    """A server that is open to the network, with a login."""
    server = Server(
        filled, "--host", "0.0.0.0", "--auth-file", str(filled / "logins"), "--allow-host", "lab.example"
    )
    yield server
    server.close()


def test_it_shows_the_study(server: Server) -> None:
    assert "search.db is shown at http://127.0.0.1:" in server.says
    assert "(read-only, no login)" in server.says
    assert server.studies() == ["shown"]
    detail = json.loads(server.ask("GET", "/api/studies/1")[2])
    assert len(detail["trials"]) == TRIALS
    assert b"<html" in server.ask("GET", "/dashboard")[2]
    assert server.ask("HEAD", "/dashboard")[::2] == (200, b"")
    assert server.ask("GET", "/csv/1")[2].count(b"\n") == TRIALS + 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("PUT", "/api/studies/1/note"),
        ("POST", "/api/trials/1/user-attrs"),
        ("POST", "/incompatible-rdb-schema"),
    ],
)
def test_nothing_is_changed(server: Server, method: str, path: str) -> None:
    body = json.dumps({"study_name": "new", "directions": ["maximize"], "body": "x", "version": 1})
    status, headers, answer = server.ask(method, path, body=body, **{"Content-Type": "application/json"})
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert answer.startswith(b"read-only: ")
    assert server.studies() == ["shown"]


def test_a_large_upload_is_refused_unread(server: Server) -> None:
    status, _, _ = server.ask("POST", "/api/artifacts/1", **{"Content-Length": str(1 << 30)})
    assert status == 413


def test_another_name_is_refused(server: Server, closed: Server) -> None:
    for host, status in (("evil.example", 421), ("lab.example", 421), (f"localhost:{server.port}", 200)):
        assert server.ask("GET", "/api/studies", Host=host)[0] == status
    assert closed.ask("GET", "/api/studies", LOGIN, Host="lab.example:80")[0] == 200
    assert closed.ask("GET", "/api/studies", LOGIN, Host="evil.example")[0] == 421


def test_headers_protect_pages_and_artifacts(server: Server, filled: Path) -> None:
    _, page, _ = server.ask("GET", "/dashboard")
    assert "default-src 'none'" in page["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    status, artifact, body = server.ask("GET", (filled / "artifact").read_text())
    assert (status, artifact["Content-Type"], body.decode()) == (200, "text/html", SCRIPT)
    assert artifact["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert "Access-Control-Allow-Origin" not in artifact
    for headers in (page, artifact):
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in headers


def test_a_login_is_asked_for(closed: Server) -> None:
    assert "(read-only, login)" in closed.says
    for login in (None, "ada:wrong", "bob:correct horse"):
        status, headers, _ = closed.ask("GET", "/api/studies", login)
        assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
    assert closed.studies(LOGIN) == ["shown"]
    assert closed.ask("DELETE", "/api/studies/1", LOGIN)[0] == 405


def test_writes_go_through_where_they_are_allowed(tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path}/search.db", tmp_path)
    server = Server(tmp_path, "--allow-writes")
    try:
        assert "(studies may be changed, no login)" in server.says
        assert server.ask("DELETE", "/api/studies/1", Origin="https://evil.example")[0] == 403
        assert server.studies() == ["shown"]
        assert server.ask("DELETE", "/api/studies/1")[0] == 204
        assert server.studies() == []
    finally:
        server.close()
    assert not list(tmp_path.glob("*-wal")), "the database was closed, its log written back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_on_request_without_a_word(filled: Path, number: signal.Signals) -> None:
    server = Server(filled)
    assert server.studies() == ["shown"]
    assert server.close(number) == ""
    assert server.process.returncode == 0


def test_what_is_asked_for_is_what_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served: list[Served] = []
    monkeypatch.setattr(dashboard, "serve", served.append)
    url = f"sqlite:///{tmp_path}/x.db"
    assert main(["--storage", url]) == 0
    words = [
        "--storage", url, "--host", "0.0.0.0", "--port", "8099", "--artifacts", str(tmp_path),
        "--allow-host", "a.example", "b.example", "--allow-host", "c.example", "--auth-file", "logins",
    ]  # fmt: skip
    assert main([*words, "--allow-writes"]) == 0
    assert main([*words, "--open"]) == 0
    usual = Served(
        url=url, artifacts=None, host="127.0.0.1", port=8080, names=(), auth_file=None, writes=False,
        open_browser=False,
    )  # fmt: skip
    asked = Served(
        url=url, artifacts=tmp_path, host="0.0.0.0", port=8099,
        names=("a.example", "b.example", "c.example"), auth_file=Path("logins"), writes=True,
        open_browser=False,
    )  # fmt: skip
    assert served == [usual, asked, replace(asked, writes=False, open_browser=True)]


def test_ctrl_c_ends_it_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(_: Served) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dashboard, "serve", interrupted)
    assert main(["--storage", f"sqlite:///{tmp_path}/x.db"]) == 0


def fails(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit code and message of a command that cannot start."""
    code = main(options)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("warning: others on this machine")]
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    return code, err


def test_a_network_is_not_let_in_without_a_login(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "lab.example"):
        code, message = fails(capsys, "--storage", f"sqlite:///{filled}/search.db", "--host", host)
        assert code == 2
        assert f"--host {host} lets others in, so it needs --auth-file FILE" in message
        assert "--make-login" in message


def test_a_port_in_use_is_told(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        url = f"sqlite:///{filled}/search.db"
        code, message = fails(capsys, "--storage", url, "--port", port)
    assert (code, message) == (2, f"error: port {port} is in use: choose another with --port, 0 for any\n")


def test_an_address_of_another_machine_is_told(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--storage", f"sqlite:///{filled}/search.db", "--auth-file", str(filled / "logins")]
    for host in ("192.0.2.7", "lab.invalid"):
        code, message = fails(capsys, *options, "--host", host)
        assert code == 2
        assert f"--host {host} is no address of this machine: " in message


def test_a_missing_or_empty_database_is_told_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.db"
    code, message = fails(capsys, "--storage", f"sqlite:///{path}")
    assert (code, message) == (75, f"error: there is no {path} yet: `python -m search.run` makes it\n")
    assert not path.exists()
    for content, word in ((b"", "holds no study yet"), (b"no database, but a text" * 99, "not a database")):
        path.write_bytes(content)
        code, message = fails(capsys, "--storage", f"sqlite:///{path}")
        assert code == 75
        assert word in message
        assert path.read_bytes() == content
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE letters (a)")
    code, message = fails(capsys, "--storage", f"sqlite:///{tmp_path}/other.db")
    assert (code, "holds no study yet" in message) == (75, True)


def test_a_database_out_of_reach_is_told_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = fails(capsys, "--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert code == 75
    assert "127.0.0.1:1" in message
    assert "secret" not in message


def test_missing_files_are_told(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{filled}/search.db"
    code, message = fails(capsys, "--storage", url, "--auth-file", f"{filled}/none")
    assert (code, "cannot be read" in message) == (2, True)
    code, message = fails(capsys, "--storage", url, "--artifacts", f"{filled}/none")
    assert (code, "must be a folder that exists" in message) == (2, True)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--port={port}"])
    assert "must be a whole number from 0 to 65535" in capsys.readouterr().err


def test_a_login_line_holds_the_hash_of_what_a_pipe_says() -> None:
    user, _, stored = make_login("ada:pa:ss wörd").strip().partition(":")
    assert user == "ada"
    assert is_password("pa:ss wörd".encode(), stored)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["one", "one"], 0, ""),
        (["one", "two"], 2, "error: these were two different passwords\n"),
        (["", ""], 2, "error: a password must not be empty\n"),
        ([EOFError], 2, "error: a password must be a line of UTF-8 text\n"),
        ([KeyboardInterrupt], 130, ""),
    ],
)
def test_a_terminal_is_asked_twice_without_echo(
    words: list[Any],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def getpass(_: str) -> str:
        word = words.pop(0)
        if isinstance(word, str):
            return word
        raise word

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", getpass)
    assert main(["--make-login", "ada"]) == code
    out, err = capsys.readouterr()
    assert err == message
    assert out.startswith("ada:$scrypt$") is (code == 0)


@pytest.mark.parametrize("user", ["", " ada", "a:b", "#ada", "a\nb"])
def test_what_is_no_users_name_is_refused(user: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "--make-login", user)[0] == 2


def test_pages_work_in_a_browser_and_artifacts_run_no_script(
    closed: Server, filled: Path, browser: webdriver.Chrome
) -> None:
    """The pages are under our content security policy, and behind a login."""
    user, _, password = LOGIN.partition(":")
    browser.get(f"http://{user}:{password.replace(' ', '%20')}@127.0.0.1:{closed.port}/")
    site = f"http://127.0.0.1:{closed.port}"
    shows(browser, "body", "shown")
    for page, drawn in (
        ("", ".scatterlayer .trace"),
        ("/analytics", ".main-svg"),
        ("/trials", ".MuiTypography-root"),
        ("/smartSelection", ".parcoords-control-view .y-axis"),  # WebGL, which evaluates code
    ):
        browser.get(f"{site}/dashboard/studies/1{page}")
        shows(browser, "header", "shown")
        shows(browser, drawn)
        assert complaints(browser) == []

    browser.execute_script("new Image().src = 'http://192.0.2.7/x.png'")
    WebDriverWait(browser, 60).until(lambda _: "img-src" in "".join(complaints(browser)))
    browser.get(site + (filled / "artifact").read_text())
    shows(browser, "h1", "a report")
    assert browser.title == "tame"
    assert "Blocked script execution" in "".join(complaints(browser))
