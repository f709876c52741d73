"""All commands behind one name: `archsearch run --trials 100` is `python -m search.run --trials 100`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "run": "search: sample, train and prune until the study holds its trials",
    "dashboard": "look at studies in a browser",
    "confirm": "prove: the best recipes with fresh seeds, judged on test images",
    "repeat": "doubt: a stored trial again, or with one thing changed",
    "report": "tell: what a study says, in a terminal, as JSON or as a page",
    "fetch": "download the images of studies",
    "migrate": "make the tables in a database",
    "secrets": "make the passwords that docker compose needs",
}


def main(argv: Sequence[str] | None = None) -> int:
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in COMMANDS:
        name = "search.secrets.__main__" if command == "secrets" else f"search.{command}"
        code: int = importlib.import_module(name).main(rest)
        return code
    listed = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    usage = f"usage: archsearch COMMAND ...\n\n{listed}\n\narchsearch COMMAND --help tells of its options"
    if command in ("-h", "--help"):
        print(usage)
        return 0
    print(f"error: no command {command!r}\n{usage}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
