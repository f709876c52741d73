"""What a command says at its end: the findings, and what to do next."""

from __future__ import annotations

import argparse
import sys

from optuna.study import Study
from rich.console import Console

from search.analysis.evidence import gather
from search.analysis.verdicts import judge_study
from search.cli.launch import Launch
from search.cli.options import study_words, worker_words
from search.design.plan import Plan
from search.storage.study_record import record_of_study
from search.storage.trial_record import finished, records_of
from search.views.sentence import confirmable
from search.views.terminal import answer, say, show_confirmation, show_search
from search.views.words import command_line


def tell_search(options: argparse.Namespace, console: Console, study: Study, ended: Launch) -> None:
    """The end of `search.run`."""
    trials, baseline = records_of(study), record_of_study(study).baseline
    done, storage = finished(trials), options.storage
    evidence = gather(trials, baseline)
    show_search(console, evidence, trials)
    time_spent = "" if ended.seconds is None else f" in {ended.seconds:.0f} s"
    say(console, f"{study.study_name}: {done} of {max(options.trials, done)} trials done{time_spent}")
    if done > options.trials:
        say(console, f"(it holds more than the {options.trials} asked for)")
    if ended.stopped:
        again = command_line("run", _search_words(options, options.trials), storage)
        answer(console, evidence)
        say(console, f"stopped; nothing is lost. To continue: {again}")
        return
    say(console, f"look at it:  {command_line('dashboard', ['--open'], storage)}")
    further = _search_words(options, max(2 * done, options.trials))
    say(console, f"go on:       {command_line('run', further, storage)}")
    answer(console, evidence)
    if confirmable(evidence):
        say(console, f"Next: {command_line('confirm', study_words(options), storage)}")


def exit_code(ended: Launch) -> int:
    """The exit code of a launch. What a worker that failed said last is told last."""
    if ended.words:
        print(f"error: {ended.words}", file=sys.stderr)
    return ended.code


def _search_words(options: argparse.Namespace, trials: int) -> list[str]:
    """The options as typed, but for the database's address, which may hold a password."""
    chosen = [] if options.seed is None else [f"--seed={options.seed}"]
    return [*study_words(options), f"--trials={trials}", *chosen, *worker_words(options)]


def tell_confirmation(
    options: argparse.Namespace, console: Console, study: Study, plan: Plan, ended: Launch
) -> None:
    """The end of `search.confirm`."""
    show_confirmation(console, judge_study(study, plan), records_of(study))
    words = study_words(options) + ([f"--as={options.as_name}"] if options.as_name else [])
    if ended.stopped:
        line = command_line("confirm", words + worker_words(options), options.storage)
        say(console, f"stopped; nothing is lost. To continue: {line}")
        return
    page = "".join(c if c.isalnum() or c in "-_." else "_" for c in study.study_name)
    words = [f"--name={study.study_name}", f"--html={page}.html"]
    say(console, f"look at it:  {command_line('dashboard', ['--open'], options.storage)}")
    say(console, f"a page:      {command_line('report', words, options.storage)}")
