"""What stands between a web application and the network: logins, read-only mode, security headers.

Login files hold a line `user:hash` for each user; see HASH.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.errors import SpecError

READS = ("GET", "HEAD")
PAGES_MAY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "  # eval: plotly
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
ARTIFACTS_MAY = (
    "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'"
)
"""Content security policies. An artifact may be a web page that anyone made: it runs no script."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOT_PASSED_ON = {"content-security-policy", "access-control-allow-origin", *map(str.lower, HEADERS)}
HASH = re.compile(r"\$scrypt\$ln=(1[0-7]),r=8,p=([1-9])\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})")
"""PHC string format: scrypt with N = 2**ln, base64 of a salt of 16 and a hash of 32 bytes, no padding."""


def password_hash(password: bytes, ln: int = 14, p: int = 5) -> str:
    salt = secrets.token_bytes(16)
    salt_text, hash_text = (_unpadded(part) for part in (salt, _scrypt(password, salt, ln, p)))
    return f"$scrypt$ln={ln},r=8,p={p}${salt_text}${hash_text}"


def is_password(password: bytes, stored: str) -> bool:
    match = HASH.fullmatch(stored)
    assert match is not None
    ln, p, salt, expected = match.groups()
    found = _scrypt(password, base64.b64decode(salt + "=="), int(ln), int(p))
    return hmac.compare_digest(found, base64.b64decode(expected + "="))


def _scrypt(password: bytes, salt: bytes, ln: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=2**ln, r=8, p=p, maxmem=2 ** (ln + 11), dklen=32)


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def read_logins(path: Path) -> dict[str, str]:
    """Users and password hashes. Raises SpecError."""
    try:
        lines = path.read_text().splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--auth-file {path} cannot be read: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        user, _, stored = line.partition(":")
        if not line or line.startswith("#"):
            continue
        if not user or user in found or not HASH.fullmatch(stored):
            raise SpecError(
                f"{path}, line {number}: must be user:$scrypt$..., each user once; "
                "`python -m search.dashboard --make-login USER` prints such a line"
            )
        found[user] = stored
    if not found:
        raise SpecError(
            f"{path} holds no login: add what `python -m search.dashboard --make-login USER` prints"
        )
    if mode & 0o044 and not path.is_relative_to("/run/secrets"):  # where a container is alone
        print(f"warning: others can read {path}: chmod 600 {path}", file=sys.stderr)
    return found


class Logins:
    """HTTP basic authentication. A login proven once is remembered: scrypt is slow, and pages ask often."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {user.encode(): stored for user, stored in hashes.items()}
        self._decoy = password_hash(secrets.token_bytes())  # an unknown user takes as long as a known one
        self._key, self._proven = secrets.token_bytes(), set[bytes]()
        self._one_at_a_time = threading.Lock()  # guessing takes one core and 16 MB, not all of them

    def admit(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        try:
            credentials = base64.b64decode(token, validate=True)
        except ValueError:
            return False
        user, colon, password = credentials.partition(b":")
        if scheme.lower() != "basic" or not colon:
            return False
        proof = hmac.digest(self._key, credentials, "sha256")
        if proof in self._proven:
            return True
        with self._one_at_a_time:
            right = is_password(password, self._hashes.get(user, self._decoy)) and user in self._hashes
        if right:
            self._proven.add(proof)
        return right


def host_name(host: str) -> str:
    """The name in a Host header or an option: no port, no brackets, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (host if host.count(":") > 1 else host.partition(":")[0]).lower().removesuffix(".")


def is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Guard:
    """Stands before a WSGI application: turns requests away, and adds security headers to all responses."""

    def __init__(
        self, app: WSGIApplication, hosts: Iterable[str], logins: Logins | None, writes: bool
    ) -> None:
        self._app, self._logins, self._writes = app, logins, writes
        self._hosts = set(map(host_name, hosts))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_artifact = environ["PATH_INFO"].startswith("/artifacts")
        ours = HEADERS | {"Content-Security-Policy": ARTIFACTS_MAY if is_artifact else PAGES_MAY}

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            kept = [(name, value) for name, value in headers if name.lower() not in NOT_PASSED_ON]
            return start_response(status, [*kept, *ours.items()], exc_info)

        refusal = self._refusal(environ)
        if refusal is None:
            return self._app(environ, start)
        status, reason, headers = refusal
        start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(reason))), *headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [reason.encode()]

    def _refusal(self, environ: WSGIEnvironment) -> tuple[str, str, list[tuple[str, str]]] | None:
        """Status, reason and headers."""
        if not self._serves(environ.get("HTTP_HOST", "")):  # a web page may have its own name point here
            reason = (
                "not served under this name: start the dashboard with --allow-host NAME (DASHBOARD_HOST)\n"
            )
            return "421 Misdirected Request", reason, []
        if self._logins is not None and not self._logins.admit(environ.get("HTTP_AUTHORIZATION", "")):
            challenge = ("WWW-Authenticate", 'Basic realm="archsearch", charset="UTF-8"')
            return "401 Unauthorized", "a login is needed\n", [challenge]
        if environ["REQUEST_METHOD"] in READS:
            return None
        if not self._writes:
            reason = "read-only: start the dashboard with --allow-writes to change studies\n"
            return "405 Method Not Allowed", reason, [("Allow", ", ".join(READS))]
        if self._comes_from_elsewhere(environ):
            return "403 Forbidden", "another web page may not change studies\n", []
        return None

    def _serves(self, host: str) -> bool:
        name = host_name(host)
        return name in self._hosts or is_loopback(name)

    def _comes_from_elsewhere(self, environ: WSGIEnvironment) -> bool:
        """Browsers send a login along with what any page asks them to send. Commands send no such header."""
        if site := environ.get("HTTP_SEC_FETCH_SITE"):
            return site not in ("same-origin", "none")
        origin = environ.get("HTTP_ORIGIN")
        return origin is not None and not self._serves(origin.partition("://")[2])
