"""What a person sees while a search runs: a live screen on a terminal, a line per trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.analysis.trials import arms_of, best_of, of_arm, outcomes_of
from search.storage.trial_record import TrialRecord, records_of
from search.views.terminal import progress_line, running_line, say
from search.views.words import minutes, percent

SHOWN = 8
"""How many finished trials the screen shows, the last ones, and how many that run."""
QUIET_SECONDS = 300.0
"""Seconds without a line after which a log is told how far the trials are that run."""
STYLES = {"error": "red", "lost": "red", "oom": "yellow", "infeasible": "yellow", "diverged": "yellow"}
"""Colours of outcomes; their words are there as well."""
STAR = "★ "
"""Stands before the best trial of an arm."""


class Progress:
    """Follows a study in its database, so trials of other machines show as well."""

    def __init__(
        self, study: Study, budget: int, console: Console, quiet: bool = False, epochs: int | None = None
    ) -> None:
        """`epochs`: how many each trial is trained; None where they differ."""
        self.study, self.budget, self.console, self.quiet = study, budget, console, quiet
        self.epochs = epochs
        self.trials = records_of(study)
        self.seen = {trial.number for trial in self.trials if trial.is_finished}
        self.at_start = len(self.seen)
        self.finished: list[TrialRecord] = []
        self.started = self.said = time.monotonic()
        live = console.is_terminal and not console.is_dumb_terminal and not quiet
        self.live = Live(self._screen(), console=console, transient=True) if live else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        """A line above the live screen, which it does not tear."""
        self.said = time.monotonic()
        say(self.console, line)

    def update(self) -> None:
        """Looks at the study again, and shows what has ended since."""
        try:
            self.trials = records_of(self.study)
        except StorageInternalError:  # the workers wait for the database; so can the screen
            return
        new = [trial for trial in self.trials if trial.is_finished and trial.number not in self.seen]
        for trial in sorted(new, key=lambda trial: (trial.ended_at, trial.number)):
            self.seen.add(trial.number)
            self.finished.append(trial)
            if not self.live and not self.quiet:
                self.say(f"{len(self.seen)}/{self.budget} {progress_line(trial)}{self._left()}")
        if self.live:
            self.live.update(self._screen())
        elif not self.quiet and time.monotonic() - self.said > QUIET_SECONDS:
            for line in self._running():
                self.say(f"running: {line}")

    def _running(self) -> Iterator[str]:
        """Lines about the trials that run, those that began first."""
        running = [trial for trial in self.trials if trial.is_running]
        for trial in running[:SHOWN]:
            yield running_line(trial, self.epochs, datetime.now())

    def _left(self) -> str:
        done = len(self.seen) - self.at_start
        if not done or len(self.seen) >= self.budget:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.budget - len(self.seen))
        return f"  ~{minutes(seconds)} left"

    def _screen(self) -> RenderableType:
        running = sum(trial.is_running for trial in self.trials)
        head = Table.grid(padding=(0, 2))
        elapsed = time.monotonic() - self.started
        head.add_row(
            Text(f"{self.study.study_name}: {len(self.seen)} of {self.budget} trials", style="bold"),
            ProgressBar(total=self.budget, completed=len(self.seen), width=30),
            Text(f"{minutes(elapsed)}{self._left()}"),
        )
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in outcomes_of(self.trials).items())
        counts = Text(f"{outcomes or 'none'}; {running} running", style="dim")
        tops = {arm: top for arm in arms_of(self.trials) if (top := best_of(of_arm(self.trials, arm)))}
        best = [
            f"{arm} {percent(top.score)} % ({top.depth} convs, trial {top.number})"
            for arm, top in tops.items()
        ]
        first = {top.number for top in tops.values()}
        lines = [_line(trial, trial.number in first) for trial in self.finished[-SHOWN:]]
        lines += [
            Text(f"… {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in self._running()
        ]
        return Group(head, counts, *lines, Text(f"{STAR}best: {'; '.join(best or ['-'])}", style="bold"))


def _line(trial: TrialRecord, best: bool) -> Text:
    """A finished trial; `best`: of its arm, so far."""
    style = "green" if best else STYLES.get(trial.ended, "dim" if trial.is_pruned else "")
    mark = STAR if best else " " * len(STAR)
    return Text(f"{mark}{progress_line(trial)}", style=style, no_wrap=True, overflow="ellipsis")
