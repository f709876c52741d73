"""How a command runs and ends: by its work, by a person's mistake, by Ctrl-C."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from search.errors import DatabaseError, SearchError


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
    except BrokenPipeError:  # the reader has gone, as `| head` goes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("search", "models"):
            raise
        print(
            f"error: {error.name} is not installed for {sys.executable}: take the environment in which "
            "archsearch was installed, as .venv/bin/python, or activate it: . .venv/bin/activate",
            file=sys.stderr,
        )
        return 2
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
