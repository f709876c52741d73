"""Search a study: `python -m search.run --trials 100`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from search.options import (
    add_study_options,
    add_worker_options,
    parser_of,
    run_command,
    seed,
    study_words,
    whole,
    worker_words,
)

if TYPE_CHECKING:
    from optuna.study import Study
    from rich.console import Console

    from search.launch import Run

EXAMPLES = """\
examples:
  python -m search.run --trials 100                     digits, no network needed, about five minutes
  python -m search.run --trials 150                     the same study, 50 trials more
  python -m search.run --study studies/cifar10.toml --device cuda
  python -m search.run --study my.toml --name my-second-try --seed 7
  python -m search.run --storage postgresql+psycopg://me@host/search    workers anywhere join one study

--trials is the number of trials that the study holds in the end, over all workers, restarts and machines.
exit codes: 0 done or stopped on request, 1 the trials fail, 2 usage or study file, 66 data, 69 GPU,
75 database out of reach, 130 Ctrl-C
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description = "Search CNN architectures: sample, train and prune until the study holds --trials."
    parser = parser_of("run", description, EXAMPLES)
    add_study_options(parser, "of the study in the database")
    parser.add_argument("--trials", type=_count, default=100, metavar="N", help="in all (%(default)s)")
    parser.add_argument("--seed", type=seed, metavar="N", help="in place of search.seed")
    add_worker_options(parser)
    return parser.parse_args(argv)


def _count(text: str) -> int:
    return whole(text, 1, 1_000_000)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.database import storage_url
    from search.studyfile import DEFAULT, find_study, load_spec

    spec = load_spec(find_study(options.study or DEFAULT), seed=options.seed)
    url = storage_url(options.storage)

    from search.datasets import load
    from search.heart import heartbeat_settings
    from search.launch import launch, terminal
    from search.places import needed
    from search.space import check_fit
    from search.storage import open_study
    from search.worker import Job
    from search.workers import plan

    name = options.name or spec.name
    heartbeat_settings()
    parts = load(spec.data)
    check_fit(spec, parts.image_shape, parts.classes, len(parts.train.labels_N))
    slots = plan(options.workers, options.device, options.per_gpu, partial(needed, spec, parts))
    study = open_study(url, name, spec, parts.fingerprint(), options.trials)
    job = Job(spec, url, name, options.trials, slots[0].device, parts.fingerprint())
    del parts
    console = terminal()
    ended = launch(job, study, slots, console, options.quiet)
    _tell(options, console, study, ended)
    return ended.code


def _tell(options: argparse.Namespace, console: Console, study: Study, ended: Run) -> None:
    """The summary, and what to do next."""
    from search.launch import command_line, say
    from search.summary import summary

    trials = study.get_trials(deepcopy=False)
    done = sum(trial.state.is_finished() for trial in trials)
    console.print(summary(trials))
    time_spent = "" if ended.seconds is None else f" in {ended.seconds:.0f} s"
    say(console, f"{study.study_name}: {done} of {max(options.trials, done)} trials done{time_spent}")
    if done > options.trials:
        say(console, f"(it holds more than the {options.trials} asked for)")
    storage = options.storage
    if ended.stopped:
        again = command_line("run", _words(options, options.trials), storage)
        say(console, f"stopped; nothing is lost. To continue: {again}")
        return
    say(console, f"look at it:  {command_line('dashboard', ['--open'], storage)}")
    further = _words(options, max(2 * done, options.trials))
    say(console, f"go on:       {command_line('run', further, storage)}")
    if {"plain"} < {trial.user_attrs.get("arm") for trial in trials} - {None}:
        say(console, f"prove it:    {command_line('confirm', study_words(options), storage)}")


def _words(options: argparse.Namespace, trials: int) -> list[str]:
    """The options as typed, but for the database's address, which may hold a password."""
    chosen = [] if options.seed is None else [f"--seed={options.seed}"]
    return [*study_words(options), f"--trials={trials}", *chosen, *worker_words(options)]


if __name__ == "__main__":
    sys.exit(main())
