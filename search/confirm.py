"""Confirm what a search suggests: `python -m search.confirm`. Fresh seeds, no pruner, test images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import SpecError
from search.options import (
    add_study_options,
    add_worker_options,
    parser_of,
    run_command,
    study_name,
    study_words,
    whole,
    worker_words,
)

if TYPE_CHECKING:
    from optuna.study import Study
    from rich.console import Console

    from search.launch import Run
    from search.plan import Plan
    from search.spec import StudySpec

EXAMPLES = """\
examples:
  python -m search.confirm                      what the search of digits suggests, ten seeds
  python -m search.confirm --seeds 20           the same confirmation, ten seeds more
  python -m search.confirm --study studies/my.toml --depths 20 32 56 --margin 0.5 --yes

Recipes, hypotheses, margin and seeds are written into the study NAME-confirm before its first run and stay.
The same line goes on where it was stopped, and helps where it runs already, on any machine with the database.
exit codes: 0 done, stopped on request or not started, 1 the trials fail, 2 usage or study file, 66 data,
69 GPU, 75 database out of reach, 130 Ctrl-C
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description = (
        "Train the best recipe of each arm and depth again, with fresh seeds, and judge on test images."
    )
    parser = parser_of("confirm", description, EXAMPLES)
    add_study_options(parser, "of the search in the database")
    parser.add_argument("--seeds", type=_seeds, metavar="N", help="in all, in place of confirm.seeds")
    parser.add_argument(
        "--depths", type=_depth, nargs="+", metavar="CONVS", help="in place of confirm.depths"
    )
    parser.add_argument(
        "--as", dest="as_name", type=study_name, metavar="NAME", help="of it (SEARCH-confirm)"
    )
    parser.add_argument("--margin", type=_margin, metavar="POINTS", help="in place of confirm.margin")
    add_worker_options(parser)
    parser.add_argument(
        "--alone", action="store_true", help="never train several runs as one network, which may be faster"
    )
    parser.add_argument("--yes", action="store_true", help="start without asking")
    return parser.parse_args(argv)


def _seeds(text: str) -> int:
    return whole(text, 1, 1000)


def _depth(text: str) -> int:
    return whole(text, 1, 2000)


def _margin(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"must be a number of points from 0 to 100, got {text[:40]}")
    return points


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.database import storage_url
    from search.storage import check_same, confirmation_name, find, plan_of, watch
    from search.studyfile import spec_of

    url = storage_url(options.storage)
    storage = watch(url, writes=False)
    search = find(storage, options.name or Path(options.study or "digits").stem)
    name, stored = search.study_name, search.user_attrs
    spec = _with_options(spec_of(options.study, options.name, stored), options)
    if stored.get("kind", "search") != "search":
        raise SpecError(f"{name!r} is a {stored['kind']}, and only a search can be confirmed: see --name")

    from search.confirmation import open_confirmation
    from search.datasets import load
    from search.heart import heartbeat_settings
    from search.launch import launch, terminal
    from search.places import needed
    from search.plan import Plan
    from search.recipes import make_plan
    from search.worker import Job
    from search.workers import plan as plan_workers

    heartbeat_settings()
    parts = load(spec.data)
    fingerprint = parts.fingerprint()
    check_same(name, stored, spec, fingerprint)
    need = partial(needed, spec, parts, confirms=True)
    slots = plan_workers(options.workers, options.device, options.per_gpu, need)
    console, confirmation = terminal(), options.as_name or confirmation_name(name)
    known = plan_of(storage, confirmation)
    if known is None:
        plan = make_plan(name, search.get_trials(deepcopy=False), spec, parts)
        if plan.trials < stored["budget"]:
            _warn(
                console,
                f"the search has {plan.trials} of its {stored['budget']} trials: later ones will not count",
            )
    else:
        plan = Plan.from_json(known).with_seeds(options.seeds or 0)
        _check_unchanged(plan, spec, options)
    del parts
    left = _runs_left(plan, find(storage, confirmation) if known else None)
    _show(console, plan, left, len(slots))
    if left and not options.yes and not _agreed(console):
        return 0
    study, plan, runs = open_confirmation(url, confirmation, spec, fingerprint, plan)
    together = 1 if options.alone else runs // (2 * len(slots))  # and no worker is left without
    job = Job(spec, url, confirmation, runs, slots[0].device, fingerprint, True, together)
    ended = launch(job, study, slots, console, options.quiet)
    _tell(options, console, study, plan, ended)
    return ended.code


def _with_options(spec: StudySpec, options: argparse.Namespace) -> StudySpec:
    given = {key: getattr(options, key) for key in ("seeds", "margin", "depths")}
    given = {key: value for key, value in given.items() if value is not None}
    return replace(spec, confirm=replace(spec.confirm, **given))


def _check_unchanged(plan: Plan, spec: StudySpec, options: argparse.Namespace) -> None:
    """Depths and margin were fixed when the confirmation began: one may not choose them by its results."""
    from search.recipes import ladder_of

    for option, asked, fixed in (
        ("depths", ladder_of(spec.space, spec.confirm.depths), plan.depths),
        ("margin", spec.confirm.margin, plan.margin),
    ):
        if getattr(options, option) is not None and asked != fixed:
            raise SpecError(
                f"--{option} cannot change what this confirmation began with: {fixed}, got {asked}; "
                "for another question, name another confirmation with --as"
            )


def _runs_left(plan: Plan, study: Study | None) -> int:
    done = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)) if study else 0
    return sum(1 for _ in plan.runs()) - done


def _show(console: Console, plan: Plan, left: int, workers: int) -> None:
    """Recipes, hypotheses and price, before anything is trained."""
    from rich.text import Text

    from search.verdict_text import plan_grid

    console.print(plan_grid(plan).terminal())
    for text in plan.hypotheses().values():
        console.print(Text(f"- {text}"))
    if plan.seeds[-1] < (least := plan.least_seeds()):
        _warn(console, f"no verdict is possible with fewer than {least} seeds at {len(plan.depths)} depths")
    runs = sum(1 for _ in plan.runs())
    seconds = plan.seconds() * left / runs / workers
    time = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
    done = f", {runs - left:,} of them done" if left < runs else ""
    seeds = f"{plan.seeds[-1]} seed{'s' * (plan.seeds[-1] != 1)}"
    line = f"{runs:,} runs of {plan.steps:,} steps{done}; {seeds}; about {time} with {workers} "
    console.print(Text(f"{line}worker{'s' * (workers != 1)}.", style="bold"))


def _warn(console: Console, line: str) -> None:
    from search.launch import say

    say(console, f"warning: {line}")


def _agreed(console: Console) -> bool:
    """Asks on a terminal only."""
    if not (console.is_terminal and sys.stdin.isatty()):
        return True
    try:
        return console.input("Start? \\[y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _tell(options: argparse.Namespace, console: Console, study: Study, plan: Plan, ended: Run) -> None:
    """The verdicts, and what to do next."""
    from search.launch import command_line, say
    from search.verdict_text import confirmed, tables
    from search.verdicts import judge_study

    verdicts = judge_study(study, plan)
    for table in tables(verdicts):
        console.print(table.terminal())
    say(console, confirmed(verdicts))
    words = study_words(options) + ([f"--as={options.as_name}"] if options.as_name else [])
    if ended.stopped:
        again = words + worker_words(options) + (["--alone"] if options.alone else [])
        line = command_line("confirm", again, options.storage)
        say(console, f"stopped; nothing is lost. To continue: {line}")
        return
    page = "".join(c if c.isalnum() or c in "-_." else "_" for c in study.study_name)
    words = [f"--name={study.study_name}", f"--html={page}.html"]
    say(console, f"look at it:  {command_line('dashboard', ['--open'], options.storage)}")
    say(console, f"a page:      {command_line('report', words, options.storage)}")


if __name__ == "__main__":
    sys.exit(main())
