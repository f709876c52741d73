"""Confirm what a search suggests: `python -m search.confirm`. Fresh seeds, no pruner, test images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli.commands import run_command
from search.cli.options import (
    add_study_options,
    add_worker_options,
    number,
    parser_of,
    study_name,
    whole,
)
from search.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from search.design.plan import Plan
    from search.spec.study import StudySpec

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
    parser.add_argument("--seeds", type=whole(1, 1000), metavar="N", help="in all, in place of confirm.seeds")
    parser.add_argument(
        "--depths", type=whole(1, 2000), nargs="+", metavar="CONVS", help="in place of confirm.depths"
    )
    parser.add_argument(
        "--as", dest="as_name", type=study_name, metavar="NAME", help="its own name (SEARCH-confirm)"
    )
    parser.add_argument("--margin", type=number(0, 100), metavar="POINTS", help="in place of confirm.margin")
    add_worker_options(parser)
    parser.add_argument("--yes", action="store_true", help="start without asking, as without a terminal")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.spec.study_file import DEFAULT_STUDY
    from search.storage.connections import watch
    from search.storage.studies import check_same, confirmation_name, find, plan_of, spec_of
    from search.storage.study_record import record_of_study
    from search.storage.urls import storage_url

    url = storage_url(options.storage)
    storage = watch(url, writes=False)
    search = find(storage, options.name or Path(options.study or DEFAULT_STUDY).stem)
    name, stored = search.study_name, record_of_study(search)
    spec = _with_options(spec_of(options.study, options.name, stored), options)
    if stored.kind != "search":
        raise SpecError(f"{name!r} is a {stored.kind}, and only a search can be confirmed: see --name")
    if not options.quiet:
        print(f"loading {spec.data.name}", flush=True)

    from search.cli.endings import exit_code, tell_confirmation
    from search.cli.launch import launch
    from search.data.datasets import load
    from search.design.confirmation import open_confirmation
    from search.design.plan import Plan
    from search.design.recipes import make_plan
    from search.devices.slots import slots_for
    from search.storage.trial_record import finished, records_of
    from search.views.terminal import show_plan, terminal, warn
    from search.workers.heartbeat import heartbeat_settings
    from search.workers.job import Job

    heartbeat_settings()
    parts = load(spec.data)
    fingerprint = parts.fingerprint()
    check_same(name, stored, spec, fingerprint)
    slots = slots_for(options.workers, options.device, options.per_gpu)
    console, confirmation = terminal(), options.as_name or confirmation_name(name)
    known = plan_of(storage, confirmation)
    if known is None:
        plan, done = make_plan(name, records_of(search), spec, parts), 0
        if plan.trials < stored.budget:
            unfinished = f"the search has {plan.trials} of its {stored.budget} trials"
            warn(console, f"{unfinished}: later ones will not count")
    else:
        plan = Plan.from_json(known).with_seeds(options.seeds or 0)
        _check_unchanged(plan, spec, options)
        done = finished(records_of(find(storage, confirmation)))
    del parts
    left = sum(1 for _ in plan.runs()) - done
    show_plan(console, plan, left, len(slots))
    if left and not options.yes and not _agreed(console):
        console.print("not started")
        return 0
    study, plan, runs = open_confirmation(url, confirmation, spec, fingerprint, plan)
    job = Job(spec, url, confirmation, runs, slots[0].device, fingerprint, confirms=True)
    ended = launch(job, study, slots, console, options.quiet)
    tell_confirmation(options, console, study, plan, ended)
    return exit_code(ended)


def _with_options(spec: StudySpec, options: argparse.Namespace) -> StudySpec:
    named = {"seeds": options.seeds, "margin": options.margin}
    given: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if options.depths is not None:
        given["depths"] = tuple(options.depths)
    return replace(spec, confirm=replace(spec.confirm, **given))


def _check_unchanged(plan: Plan, spec: StudySpec, options: argparse.Namespace) -> None:
    """Depths and margin were fixed when the confirmation began: one may not choose them by its results."""
    from search.design.recipes import confirmed_depths

    for option, asked, fixed in (
        ("depths", sorted(confirmed_depths(spec)), plan.depths),
        ("margin", spec.confirm.margin, plan.margin),
    ):
        if getattr(options, option) is not None and asked != fixed:
            raise SpecError(
                f"--{option} cannot change what this confirmation began with: {fixed}, got {asked}; "
                "for another question, name another confirmation with --as"
            )


def _agreed(console: Console) -> bool:
    """Whether a person agrees, who is asked on a terminal only."""
    if not (console.is_terminal and sys.stdin.isatty()):
        return True
    try:
        return console.input("Start? \\[y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


if __name__ == "__main__":
    sys.exit(main())
