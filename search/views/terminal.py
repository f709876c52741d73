"""A study in a terminal: what a search or a confirmation shows at its end, and what a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from models.arms.arm import look
from search.analysis.evidence import Evidence
from search.analysis.trials import outcomes_of
from search.analysis.verdicts import Verdicts
from search.design.plan import Plan
from search.storage.trial_record import TrialRecord
from search.views.confirmation_tables import champion_table, confirmed, plan_table, verdict_table
from search.views.failures import failed_lines, why_failed
from search.views.findings import Findings
from search.views.sentence import sentence
from search.views.tables import duel_table, winner_table
from search.views.words import minutes, percent, plural


def terminal() -> Console:
    """A console, wide where nobody watches: a log's lines do not wrap."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def say(console: Console, line: str) -> None:
    """Prints a line as it is, however long."""
    console.print(Text(line), soft_wrap=True)


def show_search(console: Console, evidence: Evidence, trials: Sequence[TrialRecord]) -> None:
    """Prints what a search has: who beats the baseline, which architectures do, the best of each arm, what
    was spent."""
    for table in (duel_table(evidence), winner_table(evidence)):
        if table.rows:
            console.print(table.terminal(console.width, details=False))
    for line in [*best_lines(evidence, trials), spent_line(trials), *failed_lines(trials)]:
        say(console, line)


def answer(console: Console, evidence: Evidence) -> None:
    """Prints the sentence of a search."""
    _say_bold(console, sentence(evidence))


def best_lines(evidence: Evidence, trials: Sequence[TrialRecord]) -> list[str]:
    """The best trial of each arm, and its recipe in short."""
    by_number = {trial.number: trial for trial in trials}
    lines = []
    for leader in evidence.leaders:
        best = by_number[leader.trial]
        words = [f"{leader.val:.1f} %", f"{best.depth} convs", best.outline, _optimizer(best)]
        lines.append(f"Best {look(leader.arm).label}, #{leader.trial}: {', '.join(filter(None, words))}")
    return lines


def spent_line(trials: Sequence[TrialRecord]) -> str:
    """The price of a search in a line: trials by their outcomes, epochs, seconds."""
    outcomes = outcomes_of(trials)
    listed = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "none"
    seconds = sum(trial.train_seconds or 0.0 for trial in trials)
    epochs = sum(trial.epochs for trial in trials)
    count = plural(sum(outcomes.values()), "trial")
    return f"Spent: {count} ({listed}), {epochs} epochs, {seconds:.0f} s of training."


def recipe_line(trial: TrialRecord) -> str:
    """A trial's architecture and optimizer."""
    return ", ".join(filter(None, (trial.architecture_words, _optimizer(trial))))


def _optimizer(trial: TrialRecord) -> str:
    """The optimizer and its learning rate; empty where they were not drawn."""
    optimizer = trial.drawn.get("optimizer")
    rate = trial.drawn.get(f"lr_{optimizer}") if optimizer else None
    return f"{optimizer} lr {rate:.2g}" if rate else ""


def show_plan(console: Console, plan: Plan, left: int, workers: int) -> None:
    """Prints recipes, hypotheses and price of a confirmation, before anything is trained. `left`: runs that
    have not ended."""
    console.print(plan_table(plan).terminal(console.width))
    for text in plan.hypotheses().values():
        console.print(Text(f"- {text}"))
    if plan.seeds[-1] < (least := plan.least_seeds()):
        depths = len(plan.depths)
        warn(console, f"no verdict is possible with fewer than {least} seeds at {depths} depths")
    runs = sum(1 for _ in plan.runs())
    seconds = plan.seconds() * left / runs / workers
    time = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
    done = f", {runs - left:,} of them done" if left < runs else ""
    line = (
        f"{runs:,} runs of {plan.steps:,} steps{done}; {plural(plan.seeds[-1], 'seed')}; about {time} with "
        f"{plural(workers, 'worker')}."
    )
    console.print(Text(line, style="bold"))


def warn(console: Console, line: str) -> None:
    """Prints a line as a warning."""
    say(console, f"warning: {line}")


def show_confirmation(console: Console, verdicts: Verdicts, trials: Sequence[TrialRecord]) -> None:
    """Prints the end of a confirmation."""
    for table in (verdict_table(verdicts), champion_table(verdicts)):
        if table.rows:
            console.print(table.terminal(console.width, details=False))
    for line in failed_lines(trials):
        say(console, line)
    _say_bold(console, confirmed(verdicts))


def _say_bold(console: Console, line: str) -> None:
    console.print(Text(line, style="bold"), soft_wrap=not console.is_terminal)


def show_findings(console: Console, findings: Findings, details: bool) -> None:
    """Prints what a study says but its figures; without `details`, the tables that answer, in few columns."""
    for section in findings.sections:
        course = section.course
        data = f" ({course.data})" * (course.data not in ("", section.name))
        say(console, f"{section.name}{data}: {course.counted}")
        _say_bold(console, section.sentence)
        whole = details or section.kind == "trial"
        for table in section.tables if whole else section.answer:
            console.print(table.terminal(console.width, details=whole))
        for note in section.notes:
            say(console, note)
        for name, address in section.files.items():
            say(console, f"Kept: {name}, among the artifacts as {address.partition('/')[2]}")
        if section.next:
            say(console, f"Next: {section.next}")
    if not details and findings.trial is None:
        say(console, "More: --details for all tables, --trial N for one trial, --html FILE for figures")


def progress_line(trial: TrialRecord) -> str:
    """A finished trial in a line; of one that failed, why."""
    head = f"#{trial.number:<3} {trial.arm or '?':<8} {trial.depth or '?':>3} convs"
    if why := why_failed(trial):
        return f"{head} {trial.ended}: {why}"
    architecture = trial.architecture
    widths = "-".join(str(stage.width) for stage in architecture.stages) if architecture else ""
    outcome = f"pruned at {trial.epochs}" if trial.outcome == "pruned" else trial.ended
    seconds = "" if trial.train_seconds is None else f"{trial.train_seconds:.1f} s"
    replicate = "" if trial.replicate_of is None else f"  replicate of {trial.replicate_of}"
    return (
        f"{head} {widths:<9} {trial.num_params or 0:>9,} params {percent(trial.val_accuracy):>5} % "
        f"{outcome:<11} {seconds}{replicate}"
    )


def running_line(trial: TrialRecord, epochs: int | None, now: datetime) -> str:
    """A trial that runs, in a line: its epoch, its accuracy, its own time left. `epochs`: how many it has;
    `now`: the time by the clock."""
    if not trial.arm:
        return f"#{trial.number:<3} is being drawn"
    done = max(trial.reported, default=0)
    line = f"#{trial.number:<3} {trial.arm or '?':<8} {trial.depth or '?':>3} convs  epoch {done}"
    if epochs is not None:
        line += f"/{epochs}"
    if done:
        line += f"  {percent(trial.reported[done])} %"
    if done and epochs is not None and trial.started_at is not None:
        seconds = (now - trial.started_at).total_seconds() / done * (epochs - done)
        line += f"  ~{minutes(max(seconds, 0))} left"
    return line
