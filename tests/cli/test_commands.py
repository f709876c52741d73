"""How a command ends: by its work, by a person's mistake, by a signal, by a reader that has gone."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from search.cli.commands import run_command
from search.errors import DatabaseError, DataError, DeviceError, SearchError, SpecError, StudyFailed
from tests.support.paths import REPOSITORY


def ends(error: BaseException | int) -> int:
    """The exit code of a command whose work gives or raises this."""

    def run(_: argparse.Namespace) -> int:
        if isinstance(error, BaseException):
            raise error
        return error

    return run_command(run, lambda _: argparse.Namespace(), [])


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (SearchError("so it is"), 1, "error: so it is\n"),
        (StudyFailed("so it is"), 1, "error: so it is\n"),
        (SpecError("so it is"), 2, "error: so it is\n"),
        (DataError("so it is"), 66, "error: so it is\n"),
        (DeviceError("so it is"), 69, "error: so it is\n"),
        (DatabaseError("so it is"), 75, "error: so it is\n"),
        (StorageInternalError("so it is"), 75, "error: the database failed: so it is\n"),
        (KeyError("Record does not exist."), 75, "error: the study was deleted while it ran\n"),
        (
            ModuleNotFoundError("No module named 'optuna'", name="optuna"),
            2,
            f"error: optuna is not installed for {sys.executable}: take the environment in which "
            "archsearch was installed, as .venv/bin/python, or activate it: . .venv/bin/activate\n",
        ),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (0, 0, ""),
        (7, 7, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_mistake_is_a_line_with_a_code_of_its_own(
    error: BaseException | int, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(error) == code
    assert capsys.readouterr() == ("", says)


def test_the_cause_of_a_database_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OSError("disk full")
    assert ends(error) == 75
    assert capsys.readouterr().err == "error: the database failed: disk full\n"


@pytest.mark.parametrize(
    "error",
    [
        KeyError("no such key"),
        ValueError("a bug"),
        ModuleNotFoundError("No module named 'search.nosuch'", name="search.nosuch"),
    ],
)
def test_a_bug_is_no_mistake_of_a_persons(error: Exception) -> None:
    with pytest.raises(type(error)):
        ends(error)


def test_after_its_end_ctrl_c_is_pythons_own_again() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ends(0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def process(body: str, **further: Any) -> subprocess.Popen[str]:
    """A command that does this."""
    lines = "\n    ".join(body.splitlines())
    text = (
        f"import argparse, os, signal, sys, time\nfrom search.cli.commands import run_command\n"
        f"def run(_):\n    {lines}\n    return 0\n"
        "sys.exit(run_command(run, lambda _: argparse.Namespace(), []))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=REPOSITORY, text=True, stderr=subprocess.PIPE, **further
    )


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "stopped\n"), (signal.SIGTERM, 0, "")]
)
def test_a_signal_ends_it_without_a_traceback(number: signal.Signals, code: int, says: str) -> None:
    with process('print("here", flush=True)\ntime.sleep(60)', stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "here\n"
        command.send_signal(number)
        _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (code, says)


@pytest.mark.slow
@pytest.mark.process
def test_a_reader_that_has_gone_is_no_error() -> None:
    """The reader goes as `| head` does."""
    reading, writing = os.pipe()
    with process('print("a line")', stdout=writing) as command:
        os.close(writing)
        os.close(reading)
        _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (0, "")


@pytest.mark.slow
@pytest.mark.process
def test_a_terminal_that_lacks_a_sign_gets_another() -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    with process('print("2×2")', stdout=subprocess.PIPE, env=env) as command:
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out, err) == (0, "2?2\n", "")
