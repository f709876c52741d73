"""Evidence as tables of text, for a terminal, a note, a page and a figure alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from search.evidence import Evidence
from search.sentence import NAMES, points, span
from search.statistics import MANY
from search.verdicts import Verdicts

COLUMNS = {
    "trials": "trials",
    "to_the_end": "to the end",
    "epochs": "epochs",
    "seconds": "training, s",
    "mean_params": "mean parameters",
    "mean_macs": "mean MACs",
}
CAUSES = ("fine", "slow", "vanished", "exploded", "collapsed", "diverged", "unknown")


@dataclass(frozen=True)
class Grid:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """Columns of words at the left; numbers follow."""

    def terminal(self) -> Table:
        table = Table(title=Text(self.title))  # as Text: names may hold what rich would take for markup
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i < self.words else "right")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def markdown(self) -> str:
        rule = ["---" if i < self.words else "---:" for i in range(len(self.columns))]
        lines = [_line(self.columns), _line(rule), *(_line(row) for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines])


def beat_grid(evidence: Evidence) -> Grid:
    """Who beats plain, at what depth, by how much."""
    rows = []
    for duel in evidence.duels:
        final, cut = duel.final, duel.cut_short
        more = "" if duel.more_pairs is None or duel.word != "undecided" else f" {many(duel.more_pairs)}"
        rows.append(
            (
                NAMES[duel.arm],
                duel.band,
                duel.word + more,
                points(final.mean),
                span(duel.low, duel.high) or "-",
                str(final.pairs),
                f"{final.wins}/{final.ties}/{final.losses}",
                points(duel.ahead_of_best_plain),
                points(duel.ahead_of_any_plain),
                f"{cut.wins}/{cut.ties}/{cut.losses}" if cut.pairs else "-",
            )
        )
    return Grid(
        "Against plain, points within pairs; best: the rival's minus plain's (exploratory)",
        (
            "arm", "convs", "verdict, pairs lacking", "mean", "95 % interval", "pairs", "win/tie/loss",
            "best here", "best of all", "cut short: w/t/l",
        ),
        tuple(rows),
        words=3,
    )  # fmt: skip


def many(pairs: int) -> str:
    """An estimate of pairs still needed."""
    return "> 1,000" if pairs > MANY else f"~{pairs}"


def ledger_grid(evidence: Evidence | Verdicts) -> Grid:
    """What each arm was given; a column where arms differ by more than 5 % is marked."""
    columns = tuple(name + (" (unequal)" if key in evidence.unequal else "") for key, name in COLUMNS.items())
    rows = tuple(
        (NAMES[account.arm], *(_number(getattr(account, key)) for key in COLUMNS))
        for account in evidence.ledger
    )
    own = ", runs under their own best recipe alone" if isinstance(evidence, Verdicts) else ""
    return Grid(f"What each arm was given{own}", ("arm", *columns), rows)


def cause_grid(evidence: Evidence) -> Grid:
    """Why trials ended as they did."""
    present = [cause for cause in CAUSES if any(level.causes.get(cause) for level in evidence.levels)]
    rows = tuple(
        (
            NAMES[level.arm],
            level.band,
            str(level.trials),
            str(level.to_the_end),
            *(str(level.causes.get(cause, 0) or "-") for cause in present),
        )
        for level in evidence.levels
    )
    return Grid(
        "Why trials ended as they did", ("arm", "convs", "trials", "to the end", *present), rows, words=2
    )


def failure_grid(evidence: Evidence) -> Grid:
    """Runs to the end that did not learn: diverged, or training accuracy below twice chance."""
    rows = tuple(
        (
            NAMES[failures.arm],
            f"{failures.failed} of {failures.to_the_end}",
            "-" if failures.p_against_plain is None else f"{failures.p_against_plain:.2g}",
            ", ".join(f"{count} {outcome}" for outcome, count in failures.outcomes.items()),
        )
        for failures in evidence.failures
    )
    columns = ("arm", "did not learn, of runs to the end", "p against plain (Fisher)", "all trials")
    return Grid("Failures", columns, rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
