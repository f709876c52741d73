"""Make a database ready: `python -m search.migrate`. Its tables are made once, by its owner."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from search.cli.commands import run_command
from search.cli.options import add_storage_option, parser_of

EXAMPLES = """\
A search does this by itself. Where workers have no right to make tables, as under docker compose, it is
run once before them with the account of the database's owner. Running it again changes nothing.
exit codes: 0 done, 2 usage, 75 database out of reach
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("migrate", "Make the tables in a database, or check those that are there.", EXAMPLES)
    add_storage_option(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.storage.connections import make_tables
    from search.storage.urls import shown_url, storage_url

    url = storage_url(options.storage)
    make_tables(url)
    print(f"{shown_url(url)} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
