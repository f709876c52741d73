"""Search a study: `python -m search.run --trials 100`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from search.cli.commands import run_command
from search.cli.options import add_study_options, add_worker_options, parser_of, seed, whole

EXAMPLES = """\
examples:
  python -m search.run --trials 100                     digits, no network needed, five to fifteen minutes
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
    count = whole(1, 1_000_000)
    parser.add_argument("--trials", type=count, default=100, metavar="N", help="in all (%(default)s)")
    parser.add_argument("--seed", type=seed, metavar="N", help="in place of search.seed")
    add_worker_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.spec.study_file import DEFAULT_STUDY, find_study, load_spec
    from search.storage.urls import storage_url

    spec = load_spec(find_study(options.study or DEFAULT_STUDY), seed=options.seed)
    url = storage_url(options.storage)
    if not options.quiet:
        print(f"loading {spec.data.name}", flush=True)  # what follows takes seconds, and more for large sets

    from search.cli.endings import exit_code, tell_search
    from search.cli.launch import launch
    from search.data.datasets import load
    from search.design.space import check_fit
    from search.devices.slots import slots_for
    from search.storage.studies import open_study
    from search.storage.study_record import record_of_study
    from search.views.terminal import terminal
    from search.workers.heartbeat import heartbeat_settings
    from search.workers.job import Job

    name = options.name or spec.name
    heartbeat_settings()
    parts = load(spec.data)
    check_fit(spec, parts.image_shape, parts.classes, len(parts.train.labels_N))
    slots = slots_for(options.workers, options.device, options.per_gpu)
    study = open_study(url, name, spec, parts.fingerprint(), options.trials)
    spec = spec.continuing(record_of_study(study).spec or {})
    job = Job(spec, url, name, options.trials, slots[0].device, parts.fingerprint())
    del parts
    console = terminal()
    ended = launch(job, study, slots, console, options.quiet)
    tell_search(options, console, study, ended)
    return exit_code(ended)


if __name__ == "__main__":
    sys.exit(main())
