"""The table of faults names tests that are there."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import REPOSITORY

TESTS = REPOSITORY / "tests"
NAMED = sorted(set(re.findall(r"`(\w+)/(\w+)(?:::(\w+))?`", (TESTS / "FAULTS.md").read_text())))


@pytest.mark.parametrize(("package", "file", "name"), NAMED)
def test_a_test_of_the_table_is_there(package: str, file: str, name: str) -> None:
    text = (TESTS / package / f"test_{file}.py").read_text()
    assert f"\ndef test_{name}" in text


def test_names_are_found_at_all() -> None:
    assert len(NAMED) > 25
