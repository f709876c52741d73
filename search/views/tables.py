"""Tables of text, for a terminal, a note, a page and a figure alike; and what a search says, as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from models.arms.arm import look
from search.analysis.accounts import Account
from search.analysis.evidence import Evidence
from search.views.words import accuracy, figure_text, many, points, span

CAUSES = ("fine", "slow", "vanished", "exploded", "collapsed", "diverged", "unknown")
_COLUMNS = {
    "trials": "trials",
    "to_the_end": "to the end",
    "epochs": "epochs",
    "seconds": "training, s",
    "mean_params": "mean parameters",
    "mean_macs": "mean MACs",
}
_MARK = " (unequal)"
_PADDING = 3
"""Characters between two columns on a terminal."""
STAGES = "stages: width × blocks, norm"
VERDICT = "verdict"
"""Names of columns that several tables have."""


@dataclass(frozen=True)
class TextTable:
    """A title, columns and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """Columns of words at the left; numbers follow."""
    brief: tuple[str, ...] = ()
    """The columns that a brief look shows; empty: all."""
    minor: frozenset[int] = frozenset()
    """Rows that a brief look leaves out."""
    keys: int = 1
    """Columns at the left that say what a row is about: every part of a table has them that is too wide."""

    @property
    def marked(self) -> list[str]:
        """Columns to be looked at."""
        return [column for column in self.columns if column.endswith(_MARK)]

    def terminal(self, width: int, details: bool = True) -> Group:
        """The table for rich's console of so many characters: in parts one below the other, where it is too
        wide. Without `details`, its most telling columns and rows alone."""
        shown = [i for i, name in enumerate(self.columns) if details or not self.brief or name in self.brief]
        rows = [row for i, row in enumerate(self.rows) if details or i not in self.minor]
        first, *others = self._fitting(shown, width)
        return Group(self._part(first, rows, self.title), *(self._part(part, rows) for part in others))

    def _fitting(self, shown: Sequence[int], width: int) -> list[list[int]]:
        """The columns in parts that are no wider than that, if they can be."""
        keys, parts = list(shown[: self.keys]), [list(shown[: self.keys])]
        for i in shown[self.keys :]:
            wide = sum(self._width(j) + _PADDING for j in [*parts[-1], i])
            if wide > width and len(parts[-1]) > len(keys):
                parts.append([*keys])
            parts[-1].append(i)
        return parts

    def _part(self, columns: Sequence[int], rows: Sequence[tuple[str, ...]], title: str = "") -> Table:
        name = Text(title) if title else None  # as Text: it may hold what rich would take for markup
        table = Table(title=name, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for i in columns:
            header = "\n".join(textwrap.wrap(self.columns[i], self._width(i), break_long_words=False))
            table.add_column(Text(header), justify="left" if i < self.words else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(row[i], style=style_of(row[i])) for i in columns))
        return table

    def _width(self, column: int) -> int:
        """The width of a column: of its longest cell, and of the longest word of its name."""
        words = [len(word) for word in self.columns[column].split()]
        return max([1, *words, *(len(row[column]) for row in self.rows)])

    def markdown(self) -> str:
        """The table in Markdown."""
        rule = ["---" if i < self.words else "---:" for i in range(len(self.columns))]
        lines = [_line(self.columns), _line(rule), *(_line(row) for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines])


VERDICTS = {
    "beats": "bold green", "leads": "green", "loses": "bold red", "trails": "red", "equal": "cyan",
    "undecided": "yellow",
}  # fmt: skip
"""Colours of the words of verdicts on a terminal."""


def verdict_in(cell: str) -> str:
    """The verdict that a cell begins with; empty where it tells of something else."""
    first = cell.partition(" ")[0]
    return first if first in VERDICTS else ""


def style_of(cell: str) -> str:
    """The style of a cell on a terminal."""
    return VERDICTS.get(verdict_in(cell), "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def winner_table(evidence: Evidence) -> TextTable:
    """Architectures that beat their twins."""
    rows = tuple(
        (
            f"#{winner.trial}",
            look(winner.arm).label,
            str(winner.depth),
            winner.outline or "-",
            accuracy(winner.val),
            points(winner.difference),
            f"#{winner.twin}",
            accuracy(winner.twin_val),
            figure_text(winner.params),
            figure_text(winner.macs),
            "kept" if winner.weights else "-",
        )
        for winner in evidence.winners
    )
    name, kinds = look(evidence.baseline).label, [(w.band, w.arm) for w in evidence.winners]
    columns = (
        "trial", "arm", "convs", STAGES, "val, %", "points ahead", f"{name} twin", "its val, %", "parameters",
        "MACs", "weights",
    )  # fmt: skip
    return TextTable(
        f"Architectures that beat their {name} twin, best of each depth (exploratory)",
        columns,
        rows,
        words=4,
        brief=("trial", "arm", "convs", STAGES, "val, %", "points ahead"),
        minor=frozenset(i for i, kind in enumerate(kinds) if kind in kinds[:i]),
    )


def duel_table(evidence: Evidence) -> TextTable:
    """Rivals against the baseline: at what depth they beat it, by how much. Pairs that a pruner cut short
    have a column where there are any."""
    rows, cut = [], any(duel.cut_short.pairs for duel in evidence.duels)
    halves = any(duel.half for duel in evidence.duels)
    for duel in evidence.duels:
        final, short = duel.final, duel.cut_short
        more = "" if duel.more_pairs is None or duel.word != "undecided" else f" {many(duel.more_pairs)}"
        row = (
            look(duel.arm).label,
            duel.band if duel.half else f"  {duel.band}",
            duel.word + more,
            points(duel.gain),
            span(duel.low, duel.high) or "-",
            str(final.pairs),
            f"{final.wins}/{final.ties}/{final.losses}",
            points(duel.ahead_of_best_baseline),
            points(duel.ahead_of_any_baseline),
        )
        rows.append(row + (f"{short.wins}/{short.ties}/{short.losses}" if short.pairs else "-",) * cut)
    name = look(evidence.baseline).label
    verdict = VERDICT + " (~ more pairs)" * any("undecided " in row[2] for row in rows)
    return TextTable(
        f"Against {name}, points within pairs (exploratory)",
        (
            "arm", "convs", verdict, "gain", "95 % interval", "pairs", "win/tie/loss",
            f"over {name}'s best here", f"over {name}'s best", *("cut short: w/t/l",) * cut,
        ),
        tuple(rows),
        words=3,
        keys=2,
        brief=("arm", "convs", verdict, "gain", "95 % interval", "win/tie/loss"),
        minor=frozenset(
            i
            for i, duel in enumerate(evidence.duels)
            if halves and not duel.half and duel.word not in ("beats", "loses")
        ),
    )  # fmt: skip


def level_table(evidence: Evidence) -> TextTable:
    """Final scores by arm and depth; pruned trials are counted, never scored."""
    rows = tuple(
        (
            look(level.arm).label,
            level.band,
            str(level.trials),
            str(level.to_the_end),
            accuracy(level.best),
            accuracy(level.val.median if level.val else None),
            accuracy(level.train.median if level.train else None),
        )
        for level in evidence.levels
    )
    columns = ("arm", "convs", "trials", "to the end", "best val", "median val", "median train")
    return TextTable("Accuracy by arm and depth, % (exploratory)", columns, rows, words=2, keys=2)


def cause_table(evidence: Evidence) -> TextTable:
    """The causes of how trials ended, by arm and depth."""
    present = [cause for cause in CAUSES if any(level.causes.get(cause) for level in evidence.levels)]
    rows = tuple(
        (
            look(level.arm).label,
            level.band,
            str(level.trials),
            str(level.to_the_end),
            *(str(level.causes.get(cause, 0) or "-") for cause in present),
        )
        for level in evidence.levels
    )
    return TextTable(
        "Why trials ended as they did", ("arm", "convs", "trials", "to the end", *present), rows, 2, keys=2
    )


def failure_table(evidence: Evidence) -> TextTable:
    """Runs to the end that did not learn: diverged, or training accuracy below twice chance."""
    rows = tuple(
        (
            look(failures.arm).label,
            f"{failures.failed} of {failures.to_the_end}",
            "-" if failures.p_against_baseline is None else f"{failures.p_against_baseline:.2g}",
            ", ".join(f"{count} {outcome}" for outcome, count in failures.outcomes.items()),
        )
        for failures in evidence.failures
    )
    against = f"p against {look(evidence.baseline).label} (Fisher)"
    columns = ("arm", "did not learn, of runs to the end", against, "all trials")
    return TextTable("Failures", columns, rows)


def account_table(accounts: Sequence[Account], unequal: Sequence[str], of_what: str = "") -> TextTable:
    """Trials, epochs and prices that each arm was given; a column where arms differ by more than 5 % is
    marked."""
    columns = tuple(name + (_MARK if key in unequal else "") for key, name in _COLUMNS.items())
    rows = tuple(
        (look(account.arm).label, *(figure_text(getattr(account, key)) for key in _COLUMNS))
        for account in accounts
    )
    return TextTable(f"What each arm was given{of_what}", ("arm", *columns), rows)
