"""Fixtures: databases with a study "s" in them, made quickly; a package's conftest imports what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.storage.connections import make_tables
from tests.support.claims import a_study, emptied

SERVER = [pytest.mark.slow, pytest.mark.database]


@pytest.fixture(scope="session")
def with_tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Databases whose tables were made once, by their kinds."""
    url = f"sqlite:///{tmp_path_factory.mktemp('tables')}/tables.db"
    make_tables(url)
    return {"sqlite": url}


@pytest.fixture
def study_file(tmp_path: Path, with_tables: dict[str, str]) -> str:
    """An SQLite database that holds a study "s" without trials, which no command has made."""
    shutil.copy(with_tables["sqlite"].removeprefix("sqlite:///"), tmp_path / "study.db")
    url = f"sqlite:///{tmp_path}/study.db"
    a_study(url)
    return url


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=SERVER), pytest.param("mariadb", marks=SERVER)]
)
def study_url(request: pytest.FixtureRequest, with_tables: dict[str, str]) -> str:
    """The same in a database of each kind."""
    kind: str = request.param
    if kind == "sqlite":
        url: str = request.getfixturevalue("study_file")
        return url
    if kind not in with_tables:
        with_tables[kind] = request.getfixturevalue(kind).new_database()
        make_tables(with_tables[kind])
    a_study(emptied(with_tables[kind]))
    return with_tables[kind]
