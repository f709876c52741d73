"""What a study says, in a terminal, as JSON or as a page: `python -m search.report`. Reads only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from search.errors import SpecError
from search.options import add_study_options, parser_of, run_command

EPILOG = """\
A search is shown with its confirmation, where there is one; --name STUDY-confirm shows that alone.
--json prints {"version", "study", "search", "confirmation"}: search.evidence.Evidence and
search.verdicts.Verdicts, either may be null. A change of the schema raises the version.
exit codes: 0 done, 2 no such study or bad option, 75 database out of reach
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description = "Say which arms beat plain stacks, at what depth and by how much. Changes nothing."
    parser = parser_of("report", description, EPILOG)
    add_study_options(parser, "of the study in the database")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs no network")
    parser.add_argument("--json", action="store_true", help="print the evidence as JSON and nothing else")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.database import storage_url
    from search.findings import findings_of
    from search.page import page
    from search.storage import find, watch

    storage = watch(storage_url(options.storage), writes=False)
    findings = findings_of(find(storage, options.name or Path(options.study or "digits").stem))
    if options.html:
        try:
            options.html.write_text(page(findings), encoding="utf-8")
        except OSError as error:
            raise SpecError(f"--html {options.html} cannot be written: {error.strerror}") from None
    if options.json:
        print(findings.to_json())
        return 0
    console = Console() if sys.stdout.isatty() else Console(width=140)
    for part in findings.parts:
        if part.summary is not None:
            console.print(part.summary)
        for grid in part.grids:
            console.print(grid.terminal())
        console.print(Text(part.sentence, style="bold"))
        if part.spent:
            console.print(Text(part.spent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
