"""The guard between a web application and the network: logins, read-only mode, security headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.web.passwords import Logins

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


def host_name(host: str) -> str:
    """The name in a Host header or an option: no port, no brackets, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (host if host.count(":") > 1 else host.partition(":")[0]).lower().removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a name or address is this machine's alone."""
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
        """Status, reason and headers of a refusal; None where the request goes through."""
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
