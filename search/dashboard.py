"""Look at studies in a browser: `python -m search.dashboard`.

optuna-dashboard shows them, behind what it lacks: a guard, and a storage that reads finished trials once.
"""

from __future__ import annotations

import argparse
import errno
import getpass
import logging
import signal
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import optuna
import optuna_dashboard  # type: ignore[import-untyped]
import waitress  # type: ignore[import-untyped]
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import _app

from search.artifacts import artifact_folder
from search.database import shown_url, storage_url
from search.errors import SearchError, SpecError
from search.guard import Guard, Logins, host_name, is_loopback, password_hash, read_logins
from search.options import add_storage_option, parser_of
from search.storage import watch

BODY_BYTES, REFUSED_BODY_BYTES = 128 << 20, 1 << 20
EXAMPLES = """\
examples:
  python -m search.dashboard --open                       this machine's studies, read-only
  python -m search.dashboard --make-login ada >> logins   asks for a password; one line for each user
  python -m search.dashboard --host 0.0.0.0 --auth-file logins --allow-host lab.example

The connection is not encrypted: in a network that is not yours alone, put a proxy with TLS in front, or stay
on 127.0.0.1 and use `ssh -L 8080:127.0.0.1:8080 host`.
exit codes: 0 stopped on request, 2 usage, 75 database out of reach, 130 Ctrl-C at the password
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description = "Show studies in a browser: optuna-dashboard, read-only and guarded."
    parser = parser_of("dashboard", description, EXAMPLES)
    add_storage_option(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=8080, metavar="N", help="0: any free one (%(default)s)")
    parser.add_argument("--auth-file", type=Path, metavar="FILE", help="who may log in; see --make-login")
    parser.add_argument(
        "--make-login", metavar="USER", help="ask for a password, print a line for --auth-file"
    )
    parser.add_argument(
        "--allow-writes", action="store_true", help="let the browser change and delete studies"
    )
    parser.add_argument(
        "--allow-host", nargs="+", action="extend", default=[], metavar="NAME", help="names in its address"
    )
    parser.add_argument(
        "--artifacts", type=Path, metavar="FOLDER", help="else $ARCHSEARCH_ARTIFACTS, else studies/artifacts"
    )
    parser.add_argument("--open", action="store_true", help="open a browser")
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, got {text}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits
    try:
        if options.make_login is not None:
            print(make_login(options.make_login))
        else:
            serve(options)
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0 if options.make_login is None else 130
    return 0


def make_login(user: str) -> str:
    """A line for --auth-file; the password comes from the terminal, or is the first line of a pipe."""
    if not user or user != user.strip() or user.startswith("#") or ":" in user or not user.isprintable():
        raise SpecError(f"a user's name has no colon, no # and no space around it, got {user!r}")
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"password of {user}: ")
            if getpass.getpass("again: ") != password:
                raise SpecError("these were two different passwords")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise SpecError("a password must not be empty")
        return f"{user}:{password_hash(password.encode())}"
    except (EOFError, UnicodeError):
        raise SpecError("a password must be a line of UTF-8 text") from None


def sort_figures() -> None:
    """By their ids, in which order they are to be read: optuna-dashboard hands them out as a set has them."""
    stock = _app.get_plotly_graph_objects
    _app.get_plotly_graph_objects = lambda attrs: dict(sorted(stock(attrs).items()))


def serve(options: argparse.Namespace) -> None:
    """Until Ctrl-C or SIGTERM."""
    if options.auth_file is None and not is_loopback(host_name(options.host)):
        raise SpecError(
            f"--host {options.host} lets others in, so it needs --auth-file FILE: make one with\n"
            "  python -m search.dashboard --make-login USER >> FILE"
        )
    logins = None if options.auth_file is None else Logins(read_logins(options.auth_file))
    url = storage_url(options.storage)
    storage, artifacts = watch(url, options.allow_writes), _artifacts(options.artifacts)
    sort_figures()
    app = optuna_dashboard.wsgi(storage, artifact_store=artifacts)
    listener = _listen(options.host, options.port)
    server = waitress.create_server(
        Guard(app, [options.host, *options.allow_host], logins, options.allow_writes),
        sockets=[listener],
        ident=None,
        max_request_body_size=BODY_BYTES if options.allow_writes else REFUSED_BODY_BYTES,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the end, in the same way as Ctrl-C
    address = _address(options.host, listener.getsockname()[1])
    rights = "studies may be changed" if options.allow_writes else "read-only"
    login = "login" if logins else "no login"
    print(f"{shown_url(url)} is shown at {address} ({rights}, {login}); Ctrl-C stops it", flush=True)
    if options.open and not webbrowser.open(address):
        print("no browser found: open the address yourself", file=sys.stderr)
    server.run()


def _artifacts(folder: Path | None) -> FileSystemArtifactStore:
    """A search may yet make the usual folder; one that was named must be there."""
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
    """For a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


if __name__ == "__main__":
    sys.exit(main())
