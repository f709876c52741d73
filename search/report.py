"""What a study says, in a terminal, as JSON or as a page: `python -m search.report`. Reads only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from search.cli.commands import run_command
from search.cli.options import add_study_options, parser_of, whole
from search.errors import SpecError

EXAMPLES = """\
A search is shown with its confirmation, where there is one; --name STUDY-confirm shows that alone.
--json prints {"version", "study", "search", "confirmation"}: search.analysis.evidence.Evidence
and search.analysis.verdicts.Verdicts, either may be null. A change of the schema raises the version.
exit codes: 0 done, 2 no such study or bad option, 75 database out of reach
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description = "Say which arms beat plain stacks, at what depth and by how much. Changes nothing."
    parser = parser_of("report", description, EXAMPLES)
    add_study_options(parser, "of the study in the database")
    parser.add_argument(
        "--trial", type=whole(0, 10**9), metavar="N", help="one trial: its twins, its gradients by conv"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page that needs no network as well"
    )
    parser.add_argument("--details", action="store_true", help="print all tables, with all columns")
    parser.add_argument("--json", action="store_true", help="print the evidence as JSON and nothing else")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.spec.study_file import DEFAULT_STUDY
    from search.storage.connections import watch
    from search.storage.studies import find
    from search.storage.urls import storage_url
    from search.views.findings import findings_of
    from search.views.terminal import show_findings, terminal
    from search.views.trial_section import trial_findings
    from search.web.page import file_page

    storage = watch(storage_url(options.storage), writes=False)
    study = find(storage, options.name or Path(options.study or DEFAULT_STUDY).stem)
    if options.trial is not None:
        findings = trial_findings(study, options.trial, options.storage)
    else:
        findings = findings_of(study, options.storage)
    if options.html:
        try:
            options.html.write_text(file_page(findings), encoding="utf-8")
        except OSError as error:
            raise SpecError(f"--html {options.html} cannot be written: {error.strerror}") from None
    if options.json:
        print(findings.to_json())
    else:
        show_findings(terminal(), findings, options.details)
    return 0


if __name__ == "__main__":
    sys.exit(main())
