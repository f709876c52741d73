"""Confirm what a search suggests: `python -m search.confirm`. Fresh seeds, no pruner, test images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from search.errors import SpecError
from search.options import add_study_options, add_worker_options, parser_of, run_command, whole

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
    parser.add_argument("--margin", type=_margin, metavar="POINTS", help="in place of confirm.margin")
    add_worker_options(parser)
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
    from search.studyfile import find_study, load_spec

    path, url = find_study(options.study), storage_url(options.storage)
    name = options.name or path.stem
    storage = watch(url, writes=False)
    search = find(storage, name)
    stored = search.user_attrs
    if "spec" not in stored:
        raise SpecError(f"the study {name!r} was not made by archsearch: choose another with --name")
    spec = _with_options(load_spec(path, seed=stored["spec"]["search"]["seed"]), options)

    from search.confirmation import open_confirmation
    from search.datasets import load
    from search.heart import heartbeat_settings
    from search.launch import launch, terminal
    from search.plan import Plan
    from search.recipes import make_plan
    from search.worker import Job
    from search.workers import plan as plan_workers

    heartbeat_settings()
    parts = load(spec.data)
    fingerprint = parts.fingerprint()
    check_same(name, stored, spec, fingerprint)
    slots = plan_workers(options.workers, options.device)
    console, confirmation = terminal(), confirmation_name(name)
    known = plan_of(storage, confirmation)
    if known is None:
        plan = make_plan(name, search.get_trials(deepcopy=False), spec, parts)
    else:
        plan = Plan.from_json(known).with_seeds(options.seeds or 0)
        _check_unchanged(plan, spec, options)
    del parts
    left = _runs_left(plan, find(storage, confirmation) if known else None)
    _show(console, plan, left, len(slots))
    if left and not options.yes and not _agreed(console):
        return 0
    study, plan, runs = open_confirmation(url, confirmation, spec, fingerprint, plan)
    job = Job(spec, url, confirmation, runs, slots[0].device, fingerprint, confirms=True)
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
                "for another question, give the search another --name"
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
    runs = sum(1 for _ in plan.runs())
    minutes = plan.seconds() * left / runs / workers / 60
    done = f", {runs - left:,} of them done" if left < runs else ""
    console.print(
        Text(
            f"{runs:,} runs of {plan.steps:,} steps{done}; {plan.seeds[-1]} seeds; "
            f"about {minutes:,.0f} minutes with {workers} worker{'s' * (workers != 1)}.",
            style="bold",
        )
    )


def _agreed(console: Console) -> bool:
    """Asks on a terminal only."""
    if not (console.is_terminal and sys.stdin.isatty()):
        return True
    return console.input("Start? \\[y/N] ").strip().lower() in ("y", "yes")


def _tell(options: argparse.Namespace, console: Console, study: Study, plan: Plan, ended: Run) -> None:
    """The verdicts, and what to do next."""
    from search.launch import command_line, say
    from search.verdict_text import confirmed, tables
    from search.verdicts import judge_study

    verdicts = judge_study(study, plan)
    for table in tables(verdicts):
        console.print(table.terminal())
    say(console, confirmed(verdicts))
    words = ["--study", options.study] + (["--name", options.name] if options.name else [])
    if ended.stopped:
        again = [*words, *(["--workers", options.workers] if options.workers != "auto" else [])]
        say(
            console,
            f"stopped; nothing is lost. To continue: {command_line('confirm', again, options.storage)}",
        )
        return
    page = ["--html", f"{study.study_name}.html"]
    say(console, f"look at it:  {command_line('dashboard', ['--open'], options.storage)}")
    say(console, f"a page:      {command_line('report', [*words, *page], options.storage)}")


if __name__ == "__main__":
    sys.exit(main())
