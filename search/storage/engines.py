"""Connections to databases: their settings and passwords, the lock under which tables are made, and what a
driver's errors mean to a person."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from search.errors import DatabaseError, SpecError
from search.storage.urls import is_sqlite, shown_url

BUSY_SECONDS = 60
"""Seconds that SQLite waits for another process's transaction."""
SCHEMA_SECONDS = 600.0
"""Seconds that a process waits for another that makes tables or a study."""
_SCHEMA_LOCK = 0x61726368  # any number, the same in every process


def engine_settings(url: str, name: str) -> dict[str, Any]:
    """Arguments for SQLAlchemy's create_engine; `name`: the worker, as the server lists its connections. A
    process keeps one of them, and has another for a moment where Optuna needs two at once."""
    parsed = make_url(url)
    backend, driver = parsed.get_backend_name(), parsed.get_driver_name()
    if backend == "sqlite":
        return {"pool_pre_ping": True, "connect_args": {"timeout": BUSY_SECONDS}}
    arguments: dict[str, Any] = {}
    if (password := _password()) is not None:
        arguments["password"] = password  # beside the URL, which is shown and passed on
    if backend == "postgresql":
        arguments |= {
            "connect_timeout": 5, "application_name": f"archsearch {name}"[:63], "keepalives_idle": 10,
            "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000,
        }  # fmt: skip
        if driver == "psycopg":
            arguments["prepare_threshold"] = None  # PgBouncer gives each transaction another connection
    elif backend == "mysql":
        arguments |= {"connect_timeout": 5, "charset": "utf8mb4"}
    settings = {
        "pool_pre_ping": True, "pool_size": 1, "max_overflow": 1, "pool_recycle": 1800,
        "connect_args": arguments,
    }  # fmt: skip
    # MySQL's default reads what was so when the transaction began, locks or no locks
    return settings | ({"isolation_level": "READ COMMITTED"} if backend == "mysql" else {})


def _password() -> str | None:
    name = os.environ.get("OPTUNA_STORAGE_PASSWORD_FILE")
    if not name:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise SpecError(f"OPTUNA_STORAGE_PASSWORD_FILE={name} cannot be read: {reason}") from None


@contextmanager
def schema_lock(url: str) -> Iterator[None]:
    """Lets one process at a time make tables and studies: Optuna's own creation of them races."""
    parsed = make_url(url)
    if is_sqlite(parsed):
        path = Path(parsed.database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
        return
    arguments = engine_settings(url, "lock")["connect_args"]
    engine = sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.NullPool, connect_args=arguments)
    # PostgreSQL's is a transaction's: PgBouncer hands a session to others, with whatever locks it holds. It
    # is asked for again and again: waiting inside would keep one of few connections from whoever has it
    lock = {
        "mysql": sqlalchemy.func.get_lock("archsearch", 0),
        "postgresql": sqlalchemy.func.pg_try_advisory_xact_lock(_SCHEMA_LOCK),
    }[parsed.get_backend_name()]
    ends = time.monotonic() + SCHEMA_SECONDS
    while time.monotonic() < ends:
        with engine.begin() as connection:  # its end gives the lock back, also if this process dies
            if connection.scalar(sqlalchemy.select(lock)):
                yield
                return
        time.sleep(random.uniform(0.1, 0.3))
    raise DatabaseError(f"another process has held the tables of {shown_url(url)} for {SCHEMA_SECONDS:.0f} s")


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turns what a database driver throws into one line, the password left out."""
    shown = shown_url(url)
    try:
        yield
    except ImportError as error:
        missing = error.__cause__ or error
        raise SpecError(f"--storage {shown} needs a driver that is not installed: {missing}") from None
    except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error) as error:
        raise DatabaseError(f"the database {shown} cannot be used: {reason(error)}") from None
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise DatabaseError(f"the database {shown} cannot be used: {str(error).splitlines()[0]}") from None


def reason(error: BaseException) -> str:
    """The driver's message, in one line."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    lines = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def serialize_sqlite(engine: sqlalchemy.Engine) -> None:
    """Makes every transaction take SQLite's write lock when it begins: SQLite has no SELECT FOR UPDATE, and
    without it what was read may have changed when it is written."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # else the driver begins transactions by itself, and later
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before know nothing of this
