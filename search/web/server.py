"""optuna-dashboard served: with a guard before it, and a storage that reads finished trials once."""

from __future__ import annotations

import errno
import signal
import socket
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import optuna_dashboard  # type: ignore[import-untyped]
import waitress  # type: ignore[import-untyped]
from optuna.artifacts import FileSystemArtifactStore

from search.environment import artifact_folder
from search.errors import SpecError
from search.storage.connections import watch
from search.storage.urls import shown_url
from search.web.answers import Answers
from search.web.dashboard_internals import read_notes_by_key, sort_figures
from search.web.front import Site
from search.web.guard import Guard, host_name, is_loopback
from search.web.passwords import Logins, read_logins

BODY_BYTES, REFUSED_BODY_BYTES = 128 << 20, 1 << 20
"""Largest body of a request, where studies may be changed and where not."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """The settings of a dashboard: what is shown, where, and to whom."""

    url: str
    """Address of the database."""
    artifacts: Path | None
    """Folder of artifacts; None: the usual one."""
    host: str
    port: int
    """A port; 0: any free one."""
    names: tuple[str, ...]
    """Names under which it is reached, beside the host's."""
    auth_file: Path | None
    """Login file; None: everybody is let in, from this machine alone."""
    writes: bool
    """Whether studies may be changed."""
    open_browser: bool


def serve(served: Served) -> None:
    """Serves until Ctrl-C or SIGTERM. Raises SpecError and DatabaseError."""
    if served.auth_file is None and not is_loopback(host_name(served.host)):
        raise SpecError(
            f"--host {served.host} lets others in, so it needs --auth-file FILE: make one with\n"
            "  python -m search.dashboard --make-login USER >> FILE"
        )
    logins = None if served.auth_file is None else Logins(read_logins(served.auth_file))
    storage, artifacts = watch(served.url, served.writes), _artifacts(served.artifacts)
    sort_figures()
    read_notes_by_key()
    answers = Answers(storage)
    app = Site(optuna_dashboard.wsgi(storage, artifact_store=artifacts), answers, served.writes)
    listener = _listen(served.host, served.port)
    server = waitress.create_server(
        Guard(app, [served.host, *served.names], logins, served.writes),
        sockets=[listener],
        ident=None,
        max_request_body_size=BODY_BYTES if served.writes else REFUSED_BODY_BYTES,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the end, in the same way as Ctrl-C
    address = _address(served.host, listener.getsockname()[1])
    rights = "studies may be changed" if served.writes else "read-only"
    login = "login" if logins else "no login"
    answers.awake()  # the first page is asked for in a moment
    print(f"{shown_url(served.url)} is shown at {address} ({rights}, {login}); Ctrl-C stops it", flush=True)
    if served.open_browser and not webbrowser.open(address):
        print("no browser found: open the address yourself", file=sys.stderr)
    server.run()


def _artifacts(folder: Path | None) -> FileSystemArtifactStore:
    """The store of artifacts. A search may yet make the usual folder; one that was named must be there."""
    if folder is not None and not folder.is_dir():
        raise SpecError(f"--artifacts must be a folder that exists, got {folder}")
    return FileSystemArtifactStore(str(folder or artifact_folder()))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SpecError(f"port {port} is in use: choose another with --port, 0 for any") from None
        if error.errno == errno.EACCES:
            raise SpecError(f"port {port} is for root alone: choose one from 1024 on with --port") from None
        raise SpecError(f"--host {host} is no address of this machine: {error.strerror}") from None


def _address(host: str, port: int) -> str:
    """The address for a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
