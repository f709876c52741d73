from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from search import guard
from search.web.guard import Guard, host_name
from search.web.passwords import HASH, Logins, is_password, password_hash, read_logins
from search.errors import SpecError

ADA = password_hash(b"pa:ss w\xc3\xb6rd", ln=10, p=1)
"""Cheap, for tests; its password has a colon, a space and an umlaut."""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answers with headers that a guard must replace."""
    headers = [("Content-Type", "text/html"), ("Access-Control-Allow-Origin", "*"), ("X-Frame-Options", "no")]
    start_response("200 OK", [*headers, ("content-security-policy", "script-src *")])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"inside"]


def ask(guarded: Guard, method: str = "GET", **environ: str) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body, checked against the WSGI standard."""
    basis = {"SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "HTTP_HOST": "localhost:8080"}
    environ = basis | {"REQUEST_METHOD": method} | environ
    setup_testing_defaults(environ)
    seen: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        seen.append((status, headers))
        return lambda _: None

    answer = validator(guarded)(environ, start)
    body = b"".join(answer)
    answer.close()  # type: ignore[attr-defined]
    (status, headers) = seen[-1]
    assert len(dict(headers)) == len(headers), "a header is there twice"
    return status, dict(headers), body


def guarded(hosts: tuple[str, ...] = (), logins: Logins | None = None, writes: bool = False) -> Guard:
    return Guard(app, hosts, logins, writes)  # type: ignore[arg-type]


def test_a_hash_is_of_its_password_alone_and_salted() -> None:
    first, second = password_hash(b"secret"), password_hash(b"secret")
    assert first != second
    assert HASH.fullmatch(first)
    assert is_password(b"secret", first)
    assert not is_password(b"Secret", first)
    assert not is_password(b"", first)


def test_hashes_of_other_programs_are_understood() -> None:
    """The example in passlib's documentation."""
    theirs = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
    assert is_password(b"password", theirs)


def test_who_is_admitted() -> None:
    logins = Logins({"ada": ADA})
    for _ in range(2):
        assert logins.admit(basic("ada", "pa:ss wörd"))
        assert not logins.admit(basic("ada", "pa"))
        assert not logins.admit(basic("bob", "pa:ss wörd"))
    assert logins.admit(basic("ada", "pa:ss wörd").replace("Basic", "bASIC"))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWRh",
        "Basic ä",
        "Bearer YWRhOnBh",
        "Basic //9hOmI=",
        "Basic Og==",
    ],
)
def test_what_is_no_login_is_turned_away(header: str) -> None:
    assert not Logins({"ada": ADA}).admit(header)


def test_a_proven_login_is_not_hashed_again_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins({"ada": ADA})
    assert logins.admit(basic("ada", "pa:ss wörd"))
    monkeypatch.setattr(guard, "_scrypt", lambda *_: pytest.fail("hashed again"))
    assert logins.admit(basic("ada", "pa:ss wörd"))
    assert "wörd" not in str(vars(logins))
    assert "w\\xc3\\xb6rd" not in str(vars(logins))


def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    logins = Logins({"ada": password_hash(b"secret")})

    def seconds(user: str) -> float:
        taken = []
        for _ in range(3):
            start = time.thread_time()
            assert not logins.admit(basic(user, "wrong"))
            taken.append(time.thread_time() - start)
        return min(taken)

    assert 0.5 < seconds("nobody") / seconds("ada") < 2


def test_a_login_file_has_comments_and_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logins"
    path.write_text(f"# ours\n\nada:{ADA}\n bob:{ADA} \n")
    path.chmod(0o600)
    assert read_logins(path) == {"ada": ADA, "bob": ADA}
    assert capsys.readouterr().err == ""
    path.chmod(0o644)
    assert len(read_logins(path)) == 2
    assert capsys.readouterr().err == f"warning: others can read {path}: chmod 600 {path}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "holds no login: add what `python -m search.dashboard --make-login USER` prints"),
        (b"# nobody\n\n", "holds no login"),
        (b"ada:secret\n", "line 1: must be user:"),
        (f"ada:{ADA}\nada:{ADA}\n".encode(), "line 2: must be user:.* each user once"),
        (f":{ADA}\n".encode(), "line 1"),
        (f"ada {ADA}\n".encode(), "line 1"),
        (f"\nada:{ADA[:-1]}\n".encode(), "line 2"),
        (f"ada:{ADA.replace('ln=10', 'ln=31')}\n".encode(), "line 1"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
    ids=["empty", "comment", "no hash", "twice", "no user", "no colon", "short", "costly", "no text"],
)
def test_a_bad_login_file_is_told_without_what_it_holds(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "logins"
    path.write_bytes(text)
    with pytest.raises(SpecError, match=message) as caught:
        read_logins(path)
    assert "secret" not in str(caught.value)
    assert ADA[:-1] not in str(caught.value)


def test_a_login_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SpecError, match=f"--auth-file {path} cannot be read"):
            read_logins(path)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Localhost:8080", "localhost"),
        ("lab.example.", "lab.example"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost", True),
        ("localhost:1", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("LAB.example:8080", True),
        ("192.0.2.7:8080", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("lab.example.evil.example:8080", False),
        ("192.0.2.8", False),
        ("", False),
    ],
)
def test_names_that_are_served(host: str, served: bool) -> None:
    status, _, body = ask(guarded(hosts=("192.0.2.7", "lab.Example")), HTTP_HOST=host)
    assert status == ("200 OK" if served else "421 Misdirected Request")
    assert served or b"--allow-host" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"])
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_only_reading_goes_through(method: str) -> None:
    status, headers, body = ask(guarded(), method)
    assert (status, headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    assert body == b"read-only: start the dashboard with --allow-writes to change studies\n"
    assert headers["Content-Length"] == str(len(body))
    assert ask(guarded(writes=True), method)[2] == b"inside"


def test_reading_goes_through() -> None:
    assert ask(guarded())[2] == b"inside"
    assert ask(guarded(), "HEAD")[::2] == ("200 OK", b"")


def test_a_login_comes_before_everything_but_the_name() -> None:
    closed = guarded(logins=Logins({"ada": ADA}))
    status, headers, _ = ask(closed)
    assert status == "401 Unauthorized"
    assert headers["WWW-Authenticate"] == 'Basic realm="archsearch", charset="UTF-8"'
    assert ask(closed, "DELETE")[0] == "401 Unauthorized"
    assert ask(closed, "HEAD")[::2] == ("401 Unauthorized", b"")
    assert ask(closed, HTTP_HOST="evil.example")[0] == "421 Misdirected Request"
    login = basic("ada", "pa:ss wörd")
    assert ask(closed, HTTP_AUTHORIZATION=login)[2] == b"inside"
    assert ask(closed, "DELETE", HTTP_AUTHORIZATION=login)[0] == "405 Method Not Allowed"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ({"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_ORIGIN": "http://localhost:3000"}, False),
        ({"HTTP_ORIGIN": "http://localhost:8080"}, True),
        ({"HTTP_ORIGIN": "https://evil.example"}, False),
        ({"HTTP_ORIGIN": "null"}, False),
    ],
)
def test_other_web_pages_change_nothing(headers: dict[str, str], allowed: bool) -> None:
    status, _, _ = ask(guarded(writes=True), "POST", **headers)
    assert status == ("200 OK" if allowed else "403 Forbidden")
    assert ask(guarded(writes=True), "GET", **headers)[0] == "200 OK"


@pytest.mark.parametrize("path", ["/", "/dashboard/studies/1", "/artifacts/1/0-0", "/artifacts/1/2/0-0"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_security_headers_are_on_all_that_is_sent(path: str, method: str) -> None:
    _, headers, _ = ask(guarded(), method, PATH_INFO=path)
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.startswith("sandbox;") is path.startswith("/artifacts")
    assert ("script-src" in policy) is not path.startswith("/artifacts")
