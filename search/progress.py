"""What a person sees while a search runs: a live screen on a terminal, a line per trial elsewhere."""

from __future__ import annotations

import json
import time
from types import TracebackType

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.scores import arms_of, best_of, outcome_counts, percent

LAST = 8
"""Finished trials shown."""


class Progress:
    """Follows a study in its database, so trials of other machines show as well."""

    def __init__(self, study: Study, budget: int, console: Console, quiet: bool = False) -> None:
        self.study, self.budget, self.console, self.quiet = study, budget, console, quiet
        self.trials = study.get_trials(deepcopy=False)
        self.seen = {trial.number for trial in self.trials if trial.state.is_finished()}
        self.at_start = len(self.seen)
        self.finished: list[FrozenTrial] = []
        self.started = time.monotonic()
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
        self.console.print(Text(line), soft_wrap=True)

    def update(self) -> None:
        try:
            self.trials = self.study.get_trials(deepcopy=False)
        except StorageInternalError:  # the workers wait for the database; so can the screen
            return
        new = [t for t in self.trials if t.state.is_finished() and t.number not in self.seen]
        for trial in sorted(new, key=lambda t: (t.datetime_complete, t.number)):
            self.seen.add(trial.number)
            self.finished.append(trial)
            if not self.live and not self.quiet:
                self.say(f"{len(self.seen)}/{self.budget} {trial_line(trial)}{self._left()}")
        if self.live:
            self.live.update(self._screen())

    def _left(self) -> str:
        done = len(self.seen) - self.at_start
        if not done or len(self.seen) >= self.budget:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.budget - len(self.seen))
        return f"  ~{_minutes(seconds)} left"

    def _screen(self) -> RenderableType:
        running = sum(trial.state == TrialState.RUNNING for trial in self.trials)
        head = Table.grid(padding=(0, 2))
        elapsed = time.monotonic() - self.started
        head.add_row(
            Text(f"{self.study.study_name}: {len(self.seen)} of {self.budget} trials", style="bold"),
            ProgressBar(total=self.budget, completed=len(self.seen), width=30),
            Text(f"{_minutes(elapsed)}{self._left()}"),
        )
        counts = Text(f"{outcome_counts(self.trials)}; {running} running", style="dim")
        lines = [
            Text(trial_line(trial), no_wrap=True, overflow="ellipsis") for trial in self.finished[-LAST:]
        ]
        best = []
        for arm in arms_of(self.trials):
            top = best_of([trial for trial in self.trials if trial.user_attrs.get("arm") == arm])
            if top is not None:
                depth = top.user_attrs["depth"]
                best.append(f"{arm} {percent(top.value)} % ({depth} convs, trial {top.number})")
        return Group(head, counts, *lines, Text("best: " + "; ".join(best or ["-"]), style="bold"))


def trial_line(trial: FrozenTrial) -> str:
    attrs = trial.user_attrs
    stages = json.loads(attrs["architecture"])["stages"] if "architecture" in attrs else []
    widths = "-".join(str(stage["width"]) for stage in stages)
    outcome = attrs.get("outcome", trial.state.name.lower())
    if outcome == "pruned":
        outcome = f"pruned at {attrs.get('epochs')}"
    seconds = f"{attrs['train_seconds']:.1f} s" if "train_seconds" in attrs else ""
    replicate = f"  replicate of {attrs['replicate_of']}" if "replicate_of" in attrs else ""
    return (
        f"#{trial.number:<4}{attrs.get('arm', '?'):<9}{attrs.get('depth', '?'):>3} convs {widths:<10}"
        f"{attrs.get('params', 0):>9,} params {percent(attrs.get('val_accuracy')):>5} % "
        f"{outcome:<12}{seconds}{replicate}"
    )


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
