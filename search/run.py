"""Search a study: `python -m search.run --trials 100`."""

from __future__ import annotations

import argparse
import io
import math
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.errors import DatabaseError, SearchError, StudyFailed

if TYPE_CHECKING:
    from optuna.study import Study
    from rich.console import Console

    from search.spec import StudySpec
    from search.worker import Stop

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
    parser.add_argument("--name", type=_name, help="of the study in the database (the study file's)")
    parser.add_argument("--seed", type=_seed, metavar="N", help="in place of search.seed")
    parser.add_argument("--quiet", action="store_true", help="print the summary only")
    return parser.parse_args(argv)


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text[:40]}")
    return int(text)


def _name(text: str) -> str:
    if not (text.strip() and text.isprintable() and len(text) <= 200):
        raise argparse.ArgumentTypeError(f"must be 1 to 200 printable characters, got {text[:40]!r}")
    return text


def _count(text: str) -> int:
    return _whole(text, 1, 1_000_000)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**31 - 1)


def _workers(text: str) -> str:
    return text if text == "auto" else str(_whole(text, 1, 1024))


def main(argv: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until there is a trial to put back
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal may lack a sign, but never the summary
        return run(parse(argv))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def run(options: argparse.Namespace) -> int:
    # imported late, so that Ctrl-C is heeded from the start and mistakes are told before torch is loaded
    import optuna
    from rich.console import Console

    from search.storage import storage_url
    from search.studyfile import find_study, load_spec

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = load_spec(find_study(options.study), seed=options.seed)
    url = storage_url(options.storage)
    console = Console()
    try:
        return _search(options, spec, url, console if console.is_terminal else Console(width=120))
    except optuna.exceptions.StorageInternalError as error:
        raise DatabaseError(f"the database failed: {error.__cause__ or error}") from error
    except KeyError as error:
        if "Record does not exist" not in str(error):
            raise
        raise DatabaseError("the study was deleted while it ran") from error


def _search(options: argparse.Namespace, spec: StudySpec, url: str, console: Console) -> int:
    from search import workers
    from search.datasets import load
    from search.progress import Progress
    from search.space import check_fit
    from search.storage import claims_of, open_study
    from search.worker import Job, Stop, check_failures, heartbeat_settings

    name = options.name or spec.name
    heartbeat_settings()
    parts = load(spec.data)
    check_fit(spec, parts.image_shape, parts.classes, len(parts.train.labels_N))
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
    finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    if not code and stop.signal is None and (finished < options.trials or claims.unfinished(study._study_id)):
        raise SearchError("all workers were killed; the study keeps what was done, run it again to go on")
    _tell(options, console, study, stop, time.monotonic() - started if left else None)
    return 130 if stop.signal == signal.SIGINT else code


def _tell(
    options: argparse.Namespace, console: Console, study: Study, stop: Stop, seconds: float | None
) -> None:
    """The summary, and what to do next."""
    from rich.text import Text

    from search.report import summary
    from search.storage import shown_url

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    trials = study.get_trials(deepcopy=False)
    done = sum(trial.state.is_finished() for trial in trials)
    console.print(summary(trials))
    time_spent = "" if seconds is None else f" in {seconds:.0f} s"
    say(f"{study.study_name}: {done} of {max(options.trials, done)} trials done{time_spent}")
    if done > options.trials:
        say(f"(it holds more than the {options.trials} asked for)")
    storage = ["--storage", shown_url(options.storage)] if options.storage else []
    if stop.signal is not None:
        again = shlex.join([*_words(options, options.trials), *storage])
        say(f"stopped; nothing is lost. To continue: python -m search.run {again}")
        return
    say(f"look at it:  {shlex.join(['python', '-m', 'search.dashboard', '--open', *storage])}")
    again = shlex.join([*_words(options, max(2 * done, options.trials)), *storage])
    say(f"go on:       python -m search.run {again}")


def _words(options: argparse.Namespace, trials: int) -> list[str]:
    """The options as typed, but for the database's address, which may hold a password."""
    words = ["--study", options.study, "--trials", str(trials)]
    for name, default in (("name", None), ("seed", None), ("workers", "auto"), ("device", "auto")):
        value = getattr(options, name)
        if value != default:
            words += [f"--{name}", str(value)]
    return words + (["--quiet"] if options.quiet else [])


if __name__ == "__main__":
    sys.exit(main())
