"""How databases are connected to, one process at a time makes tables, and errors are told."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import sqlalchemy.exc
from sqlalchemy.orm import Session

from search.errors import DatabaseError, SpecError
from search.storage import engines
from search.storage.engines import engine_settings, reaching, reason, schema_lock, serialize_sqlite
from tests.support.claims import in_thread, waits

POSTGRES, MARIA = "postgresql+psycopg://me@host/search", "mysql+pymysql://me@host/search"


# settings


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE_PASSWORD_FILE", raising=False)


def test_sqlite_waits_for_other_processes() -> None:
    settings = engine_settings("sqlite:///x.db", "w")
    assert settings == {"pool_pre_ping": True, "connect_args": {"timeout": 60}}


POOL = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 1, "pool_recycle": 1800}
TO_POSTGRES = {
    "connect_timeout": 5, "application_name": "archsearch w", "keepalives_idle": 10, "keepalives_interval": 5,
    "keepalives_count": 3, "tcp_user_timeout": 20_000, "prepare_threshold": None,
}  # fmt: skip


def test_postgresql_is_asked_briefly_by_name_and_through_pgbouncer_too() -> None:
    assert engine_settings(POSTGRES, "w") == POOL | {"connect_args": TO_POSTGRES}
    other = engine_settings("postgresql+psycopg2://me@host/search", "w")["connect_args"]
    assert other == {key: value for key, value in TO_POSTGRES.items() if key != "prepare_threshold"}


def test_a_long_name_is_cut_to_what_the_server_keeps() -> None:
    name = engine_settings(POSTGRES, "x" * 100)["connect_args"]["application_name"]
    assert name == "archsearch " + "x" * 52


def test_mariadb_shows_what_is_so_now_and_speaks_all_of_unicode() -> None:
    assert engine_settings(MARIA, "w") == POOL | {
        "connect_args": {"connect_timeout": 5, "charset": "utf8mb4"}, "isolation_level": "READ COMMITTED",
    }  # fmt: skip


@pytest.mark.parametrize("url", [POSTGRES, MARIA])
def test_a_password_is_all_of_its_file_but_the_end_of_the_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "password"
    monkeypatch.setenv("OPTUNA_STORAGE_PASSWORD_FILE", str(path))
    for text, password in (
        ("secret", "secret"),
        (" ü@: \r\n", " ü@: "),
        ("two\nlines\n\n", "two\nlines"),
        ("", ""),
    ):
        path.write_bytes(text.encode())
        assert engine_settings(url, "w")["connect_args"]["password"] == password
        assert "password" not in engine_settings("sqlite:///x.db", "w")["connect_args"]
    monkeypatch.setenv("OPTUNA_STORAGE_PASSWORD_FILE", "")
    assert "password" not in engine_settings(url, "w")["connect_args"]


def test_a_password_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(
        SpecError, match=r"OPTUNA_STORAGE_PASSWORD_FILE=\S+/none cannot be read: No such file"
    ):
        engine_settings(POSTGRES, "w")
    (tmp_path / "none").write_bytes(b"secret\xff")
    with pytest.raises(SpecError, match="it is no UTF-8 text") as told:
        engine_settings(POSTGRES, "w")
    assert "secret" not in str(told.value)


# the lock


def test_one_at_a_time_makes_tables(url: str) -> None:
    order: list[str] = []

    def second() -> None:
        with schema_lock(url):
            order.append("second")

    with schema_lock(url):
        thread, said = in_thread(second)
        assert waits(thread)
        order.append("first")
    thread.join()
    assert (said, order) == ([None], ["first", "second"])


def test_the_lock_is_given_back_after_an_error(url: str) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), schema_lock(url):
            raise ZeroDivisionError


def test_the_lock_of_a_file_lies_beside_it_in_a_folder_that_is_made(tmp_path: Path) -> None:
    with schema_lock(f"sqlite:///{tmp_path}/new/folder/x.db"):
        assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["x.db.lock"]


@pytest.mark.slow
@pytest.mark.database
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_who_waits_too_long_for_a_lock_is_told(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(kind).new_database()
    monkeypatch.setattr(engines, "SCHEMA_SECONDS", 0.3)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with schema_lock(url):
            held.set()
            done.wait(60)

    thread, _ = in_thread(hold)
    assert held.wait(60)
    with (
        pytest.raises(DatabaseError, match=r"another process has held the tables of .* for 0 s"),
        schema_lock(url),
    ):
        pass
    done.set()
    thread.join()


# errors

URL = "postgresql+psycopg://me:secret@host/search"
REFUSED = sqlalchemy.exc.OperationalError("SELECT secret", {}, Exception("connection refused\nand more"))


def internal(cause: Exception | None) -> optuna.exceptions.StorageInternalError:
    error = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (REFUSED, "connection refused"),
        (internal(REFUSED), "connection refused"),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
        (PermissionError(13, "Permission denied"), "[Errno 13] Permission denied"),
        (
            RuntimeError("The runtime optuna version is older.\nUpgrade."),
            "The runtime optuna version is older.",
        ),
    ],
)
def test_what_a_driver_throws_is_told_in_a_line(error: Exception, line: str) -> None:
    with pytest.raises(DatabaseError) as told, reaching(URL):
        raise error
    assert str(told.value) == f"the database postgresql+psycopg://me:***@host/search cannot be used: {line}"
    assert told.value.__suppress_context__, "the password would stand in the traceback"


def test_a_driver_that_is_missing_is_a_matter_of_the_url() -> None:
    error = ImportError("Failed to import DB access module")
    error.__cause__ = ModuleNotFoundError("No module named 'psycopg'")
    with pytest.raises(SpecError) as told, reaching(URL):
        raise error
    assert str(told.value) == (
        "--storage postgresql+psycopg://me:***@host/search needs a driver that is not installed: "
        "No module named 'psycopg'"
    )


@pytest.mark.parametrize("error", [SpecError("rule"), KeyError("no such study"), ValueError("x")])
def test_what_is_no_matter_of_the_database_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as told, reaching(URL):
        raise error
    assert told.value is error


def test_a_reason_is_a_line_whatever_the_error() -> None:
    assert reason(REFUSED) == "connection refused"
    assert reason(internal(REFUSED)) == "connection refused"
    assert reason(internal(None)) == "An exception is raised during the commit."
    assert reason(TimeoutError()) == "TimeoutError"
    assert reason(ValueError("\n one line\n\n two")) == "one line"


# SQLite


def test_a_transaction_of_sqlite_has_its_lock_from_the_beginning(tmp_path: Path) -> None:
    """What it reads first is still so when it writes."""
    made: list[Any] = []
    for _ in range(2):
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/x.db", connect_args={"timeout": 0})
        with engine.connect():
            pass  # a connection from before
        serialize_sqlite(engine)
        made.append(engine)
    first, second = made
    with Session(first) as session:
        session.execute(sqlalchemy.text("SELECT 1"))
        with pytest.raises(sqlalchemy.exc.OperationalError, match="database is locked"), second.begin():
            pass
        session.commit()
    with second.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1, "NORMAL"
    for engine in made:
        engine.dispose()


def test_a_transaction_of_sqlite_is_undone_as_a_whole(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/x.db")
    serialize_sqlite(engine)
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:  # noqa: PT012
        connection.exec_driver_sql("CREATE TABLE x (y INT)")
        raise ZeroDivisionError
    assert not sqlalchemy.inspect(engine).has_table("x")
    engine.dispose()
