"""Search a study: `python -m search.run --trials 100`."""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
import time
from collections.abc import Sequence

import optuna
from rich.console import Console

from search.errors import DatabaseError, SearchError, StudyFailed
from search.report import summary
from search.storage import claims_of, open_study, shown_url, storage_url
from search.studyfile import find_study, load_spec

EXAMPLES = """\
examples:
  python -m search.run --trials 100                     digits, no network needed, a few minutes
  python -m search.run --trials 150                     the same study, 50 trials more
  python -m search.run --study studies/cifar10.toml --device cuda
  python -m search.run --study my.toml --name my-second-try --seed 7
  python -m search.run --storage postgresql+psycopg://me@host/search    workers anywhere join one study

--trials is the number of trials that the study holds in the end, over all workers, restarts and machines.
exit codes: 0 done or stopped on request, 1 the trials fail, 2 usage or study file, 66 data, 69 GPU,
75 database out of reach, 130 Ctrl-C
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search.run",
        description="Search CNN architectures: sample, train and prune until the study holds --trials.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", default="digits", help="a name in studies/ or a .toml file (%(default)s)")
    parser.add_argument("--trials", type=_count, default=100, metavar="N", help="in all (%(default)s)")
    parser.add_argument(
        "--workers", type=_workers, default="auto", metavar="N", help="auto: one per CPU core or GPU"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--storage", metavar="URL", help="else $OPTUNA_STORAGE, else studies/search.db")
    parser.add_argument("--name", help="of the study in the database (the study file's)")
    parser.add_argument("--seed", type=_seed, metavar="N", help="in place of search.seed")
    parser.add_argument("--quiet", action="store_true", help="print the summary only")
    return parser.parse_args(argv)


def _whole(text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text}")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 1, 1_000_000)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**31 - 1)


def _workers(text: str) -> str:
    return text if text == "auto" else str(_whole(text, 1, 1024))


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        console = Console()
        return run(options, console if console.is_terminal else Console(width=120))
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except optuna.exceptions.StorageInternalError as error:
        print(f"error: the database failed: {error.__cause__ or error}", file=sys.stderr)
        return DatabaseError.exit_code


def run(options: argparse.Namespace, console: Console) -> int:
    spec = load_spec(find_study(options.study), seed=options.seed)
    name = options.name or spec.name
    url = storage_url(options.storage)

    # what follows loads torch: mistakes in the lines above are told at once
    from search import workers
    from search.datasets import load
    from search.progress import Progress
    from search.space import check_fit
    from search.worker import Job, Stop, check_failures

    parts = load(spec.data)
    check_fit(spec, parts.image_shape, parts.classes)
    slots = workers.plan(options.workers, options.device)
    study = open_study(url, name, spec, parts.fingerprint(), options.trials)
    claims = claims_of(study)
    before = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    left = max(options.trials - len(before), claims.unfinished(study._study_id))
    code, stop, started = 0, Stop(), time.monotonic()
    if left:
        job = Job(spec, url, name, options.trials, slots[0].device, parts.fingerprint())
        del parts
        with Progress(study, options.trials, console, options.quiet) as progress:
            if len(slots[:left]) == 1:
                code = workers.work_here(job, stop, progress.update)
            else:
                crew = workers.Crew(job, slots[:left], progress.say)
                code = crew.run(stop, progress.update, lambda: claims.reap(study._study_id, math.inf))
        if code == StudyFailed.exit_code:
            check_failures(study, before)
    trials = study.get_trials(deepcopy=False)
    done = sum(trial.state.is_finished() for trial in trials)
    console.print(summary(trials))
    seconds = time.monotonic() - started
    console.print(
        f"{name}: {done} of {options.trials} trials done" + (f" in {seconds:.0f} s" if left else "")
    )
    again = f"python -m search.run {_options(options, options.trials)}"
    if stop.signal is not None:
        console.print(f"stopped; nothing is lost. To continue: {again}", soft_wrap=True)
        return 130 if stop.signal == signal.SIGINT else code
    if not code:
        console.print("look at it:  optuna-dashboard " + shown_url(url), soft_wrap=True)
        console.print(f"go on:       python -m search.run {_options(options, 2 * done)}", soft_wrap=True)
    return code


def _options(options: argparse.Namespace, trials: int) -> str:
    """The options as typed, but for a database's address, which may hold a password."""
    words = ["--study", options.study, "--trials", str(trials)]
    if options.name:
        words += ["--name", options.name]
    if options.seed is not None:
        words += ["--seed", str(options.seed)]
    if options.storage:
        words += ["--storage", shown_url(options.storage)]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
