"""What the commands share: options, and how a mistake or Ctrl-C ends them."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from search.errors import DatabaseError, SearchError


def parser_of(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m search.{command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_study_options(parser: argparse.ArgumentParser, name: str) -> None:
    """`name`: what --name names."""
    parser.add_argument("--study", help="a name in studies/ or a .toml file (digits)")
    add_storage_option(parser)
    parser.add_argument("--name", type=study_name, help=f"{name} (the study file's)")


def study_words(options: argparse.Namespace) -> list[str]:
    """--study and --name as typed."""
    given = {key: getattr(options, key) for key in ("study", "name")}
    return [f"--{key}={value}" for key, value in given.items() if value is not None]


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", metavar="URL", help="else $OPTUNA_STORAGE, else studies/search.db")


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=workers, default="auto", metavar="N", help="auto: one per core or place on a GPU"
    )
    add_device_option(parser)
    parser.add_argument(
        "--per-gpu",
        type=_per_gpu,
        default=1,
        metavar="N",
        help="workers on one GPU (1); auto: as many as its memory has room for",
    )
    parser.add_argument("--quiet", action="store_true", help="print the summary only")


def worker_words(options: argparse.Namespace) -> list[str]:
    """What add_worker_options adds, as typed."""
    words = []
    for name, default in (("workers", "auto"), ("device", "auto"), ("per_gpu", 1)):
        if (value := getattr(options, name)) != default:
            words.append(f"--{name.replace('_', '-')}={value}")
    return words + (["--quiet"] if options.quiet else [])


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text[:40]}")
    return int(text)


def study_name(text: str) -> str:
    if not (text.strip() and text.isprintable() and len(text) <= 200):
        raise argparse.ArgumentTypeError(f"must be 1 to 200 printable characters, got {text[:40]!r}")
    return text


def seed(text: str) -> int:
    return whole(text, 0, 2**31 - 1)


def _per_gpu(text: str) -> int | str:
    return text if text == "auto" else whole(text, 1, 64)


def workers(text: str) -> str:
    return text if text == "auto" else str(whole(text, 1, 1024))


def run_command(
    run: Callable[[argparse.Namespace], int],
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    argv: Sequence[str] | None,
) -> int:
    """The exit code of a command. A person's mistake is one line, never a traceback."""
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until there is a trial to put back
        # no KeyboardInterrupt: amid an import's exec() it makes Python end by the signal though it was caught
        signal.signal(signal.SIGINT, _stop)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal may lack a sign, but never the summary
        code = _run(run, parse(argv))
        sys.stdout.flush()  # here, where a reader that has gone is known
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(*_: object) -> None:
    print("stopped", file=sys.stderr)
    sys.exit(130)


def _run(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    # imported late, so that Ctrl-C is heeded from the start and mistakes are told before torch is loaded
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return run(options)
    except optuna.exceptions.StorageInternalError as error:
        raise DatabaseError(f"the database failed: {error.__cause__ or error}") from error
    except KeyError as error:
        if "Record does not exist" not in str(error):
            raise
        raise DatabaseError("the study was deleted while it ran") from error
