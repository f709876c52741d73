from __future__ import annotations

import base64
from collections.abc import Callable
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from search.web.guard import Guard, host_name, is_loopback
from search.web.passwords import Logins, password_hash

ADA = password_hash(b"pa:ss w\xc3\xb6rd", ln=10, p=1)
"""A cheap hash, for tests; its password has a colon, a space and an umlaut."""


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


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_names_of_this_machine_alone(name: str) -> None:
    assert is_loopback(name)
    assert not is_loopback(f"{name}.example")


@pytest.mark.parametrize("name", ["", "0.0.0.0", "::", "192.0.2.7", "lab.example"])
def test_names_that_others_reach(name: str) -> None:
    assert not is_loopback(name)


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
        ({"HTTP_SEC_FETCH_SITE": "none"}, True),
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
