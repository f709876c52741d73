"""Errors that a person is told of, each with the exit code of the command that met it; and lines about what
fails while all goes on."""

from __future__ import annotations

import sys


class SearchError(Exception):
    """A message for the person at the terminal: the rule, the value, the way out. No traceback is shown."""

    exit_code = 1


class StudyFailed(SearchError):
    """The study cannot go on: more trials would not mend what is wrong."""


class TrialsFailed(StudyFailed):
    """Trials fail again and again. The command tells of it, once for all of its workers."""


class SpecError(SearchError):
    """A study file or an option breaks a rule."""

    exit_code = 2


class DataError(SearchError):
    """Images or labels that cannot be trained on."""

    exit_code = 66


class DeviceError(SearchError):
    """The device asked for is not there."""

    exit_code = 69


class DatabaseError(SearchError):
    """The database is out of reach."""

    exit_code = 75


_told: set[str] = set()


def tell_once(line: str, kind: str = "") -> None:
    """Prints a line about what fails without stopping anything: once in a process, of its kind if it has
    one."""
    if (kind or line) not in _told:
        _told.add(kind or line)
        print(line, file=sys.stderr)
