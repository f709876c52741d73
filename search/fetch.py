"""Bring the images of studies here: `python -m search.fetch cifar10`. For workers without a network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from search.cli.commands import run_command
from search.cli.options import parser_of

EXAMPLES = """\
examples:
  python -m search.fetch cifar10 mnist_post     what these study files need, into $ARCHSEARCH_DATA or data/

exit codes: 0 done, 2 usage or study file, 66 data
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of(
        "fetch", "Download, check and split the images of studies, and train nothing.", EXAMPLES
    )
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="a name in studies/ or a .toml file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.data.datasets import load
    from search.spec.study_file import find_study, load_spec

    for study in options.studies:
        parts = load(load_spec(find_study(study)).data)
        counts = ", ".join(
            f"{len(part.labels_N):,} {name}"
            for name, part in (("training", parts.train), ("validation", parts.val), ("test", parts.test))
        )
        print(f"{study}: {counts} images of {parts.classes} classes, {parts.fingerprint()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
