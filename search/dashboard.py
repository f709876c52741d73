"""Look at studies in a browser: `python -m search.dashboard`.

optuna-dashboard shows them, behind what it lacks: a guard, and a storage that reads finished trials once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna

from search.cli.options import add_storage_option, parser_of, whole
from search.errors import SearchError
from search.storage.urls import storage_url
from search.web.passwords import make_login
from search.web.server import Served, serve

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
    parser.add_argument(
        "--port", type=whole(0, 65535), default=8080, metavar="N", help="0: any free one (%(default)s)"
    )
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


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits
    try:
        if options.make_login is not None:
            print(make_login(options.make_login))
        else:
            serve(
                Served(
                    url=storage_url(options.storage),
                    artifacts=options.artifacts,
                    host=options.host,
                    port=options.port,
                    names=tuple(options.allow_host),
                    auth_file=options.auth_file,
                    writes=options.allow_writes,
                    open_browser=options.open,
                )
            )
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0 if options.make_login is None else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
