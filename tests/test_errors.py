from __future__ import annotations

import pytest

from search import errors
from search.errors import (
    DatabaseError,
    DataError,
    DeviceError,
    SearchError,
    SpecError,
    StudyFailed,
    tell_once,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (SearchError, 1), (StudyFailed, 1), (SpecError, 2), (DataError, 66), (DeviceError, 69),
        (DatabaseError, 75),
    ],
)  # fmt: skip
def test_every_error_has_the_exit_code_that_commands_promise(kind: type[SearchError], code: int) -> None:
    assert kind("x").exit_code == code


def test_a_line_is_told_once_in_a_process_and_once_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "_told", set())
    for line, kind in (
        ("a", ""),
        ("a", ""),
        ("b", ""),
        ("first", "disk"),
        ("second", "disk"),
        ("third", "gpu"),
    ):
        tell_once(line, kind)
    output = capsys.readouterr()
    assert output.err.splitlines() == ["a", "b", "first", "third"]
    assert output.out == "", "results stay apart from complaints"
