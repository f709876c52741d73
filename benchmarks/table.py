"""A table, and what it was measured on."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass
class Table:
    title: str
    about: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        assert len(cells) == len(self.header)
        self.rows.append(cells)

    def markdown(self) -> str:
        lines = [
            f"| {' | '.join(cells)} |" for cells in (self.header, ("---",) * len(self.header), *self.rows)
        ]
        return "\n".join(
            [f"## {self.title}", "", self.about, "", *lines, *(f"\n{note}" for note in self.notes), ""]
        )


def surroundings() -> str:
    """Date, hardware, versions."""
    processor = platform.processor() or "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "optuna", "SQLAlchemy")
    )
    load = os.getloadavg()[0]
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores of {processor}, load {load:.1f} at the start, "
        f"Python {platform.python_version()}, {packages}."
    )
