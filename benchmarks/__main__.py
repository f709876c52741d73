"""`python -m benchmarks [NAME ...]`: measures, prints, and with no name writes RESULTS.md. Minutes."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import bare, machinery, roofline, usual
from benchmarks.table import surroundings

ALL = {
    "bare": bare.measure,
    "machinery": machinery.measure,
    "usual": usual.measure,
    "roofline": roofline.measure,
}


def main() -> int:
    names = sys.argv[1:] or list(ALL)
    if unknown := set(names) - set(ALL):
        print(
            f"error: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}", file=sys.stderr
        )
        return 2
    parts = [f"# Results\n\n`python -m benchmarks`, {surroundings()}\n"]
    for name in names:
        parts.append(ALL[name]().markdown())
        print(parts[-1], flush=True)
    if not sys.argv[1:]:
        Path(__file__).with_name("RESULTS.md").write_text("\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
