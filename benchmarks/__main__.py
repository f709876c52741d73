"""`python -m benchmarks`: measures speed and memory for an hour and writes RESULTS.md. Take a machine on
which nothing else runs. `python -m benchmarks NAME ...` measures some of it and only prints, unless told to
`--write`. What a search finds is another command: `python -m benchmarks.search_quality`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    bare,
    loader,
    machinery,
    many,
    memory,
    pages,
    peers,
    roofline,
    startup,
    usual,
    workers,
)
from benchmarks.processes import digits
from benchmarks.table import Table, page

RESULTS = Path(__file__).with_name("RESULTS.md")
ALL: dict[str, Callable[..., Table]] = {
    "bare": bare.measure,
    "usual": usual.measure,
    "peers": peers.measure,
    "workers": workers.measure,
    "machinery": machinery.measure,
    "many": many.measure,
    "roofline": roofline.measure,
    "loader": loader.measure,
    "startup": startup.measure,
    "memory": memory.measure,
    "pages": pages.measure,
}
UNMEASURED = ("anything on a GPU",)
SHORT = digits(("epochs = 15", "epochs = 1"))
QUICK: dict[str, dict[str, Any]] = {
    "bare": {"pairs": 1, "epochs": 1, "images": 128},
    "usual": {"trials": 1, "rounds": 1, "study": SHORT},
    "peers": {"trials": 3, "rounds": 1, "epochs": 1},
    "workers": {"trials": 6, "rounds": 1, "epochs": 1},
    "machinery": {"sizes": (0, 5), "count": 2},
    "many": {"workers": 3, "plans": ((6, 0.1),)},
    "roofline": {"repeats": 1, "nets": roofline.NETS[:1]},
    "loader": {"images": 256, "repeats": 1},
    "startup": {"repeats": 1, "workers": 1, "study": SHORT},
    "memory": {"trials": 2, "study": SHORT},
    "pages": {"sizes": (6,), "source": 3, "rounds": 1, "trials": 2, "study": SHORT},
}
"""Sizes at which everything runs and no number means anything."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; none: all")
    parser.add_argument("--trials", type=int, metavar="N", help="of a search in usual (100) and peers (24)")
    parser.add_argument("--rounds", type=int, metavar="N", help="of usual (1), peers (2) and workers (3)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument(
        "--write", action="store_true", help="RESULTS.md of those named, the others listed as not measured"
    )
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(ALL):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    names = options.names or list(ALL)
    writes = options.write or not (options.names or options.quick)
    command = " ".join(["python -m benchmarks", *(sys.argv[1:] if argv is None else argv)])
    tables: list[Table] = []
    left = {name: f"{name}, in this run" for name in ALL}
    for name in names:
        try:
            tables.append(ALL[name](**sizes(name, options)))
            print(tables[-1].markdown(), flush=True)
            del left[name]
        except Exception as error:
            traceback.print_exc()
            left[name] = f"{name}, which failed: {type(error).__name__}: {str(error)[:200]!r}"
        if writes:  # after each: they take an hour
            RESULTS.write_text(page(command, tables, [*UNMEASURED, *left.values()]))
    if not writes:
        print("\n".join(f"{goal.goal}: {goal.measured}" for table in tables for goal in table.goals))
    return 1 if any(name in left for name in names) else 0


def sizes(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What `measure` of the benchmark is called with."""
    found = dict(QUICK[name]) if options.quick else {}
    if options.trials and name in ("usual", "peers"):
        found["trials"] = options.trials
    if options.rounds and name in ("usual", "peers", "workers"):
        found["rounds"] = options.rounds
    return found


if __name__ == "__main__":
    sys.exit(main())
