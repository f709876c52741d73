"""A study's database, opened by a command, by a worker, or to look on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import sqlalchemy
from optuna.storages import BaseStorage
from optuna.study import Study
from sqlalchemy.engine import make_url

from search.errors import DatabaseError
from search.storage.claim_storage import ClaimStorage
from search.storage.engines import BUSY_SECONDS, engine_settings, reaching, schema_lock
from search.storage.internals import PickyStudy, behind_cache, cached, storage_of
from search.storage.patience import Patience, PatientStorage
from search.storage.row_storage import RowStorage
from search.storage.urls import shown_url

COMMAND_SECONDS = 10.0
"""Seconds that a command waits for its database; its workers, who tell of it, wait longer."""


def command_storage(url: str) -> BaseStorage:
    """The storage of a command that begins or continues a study; makes tables. To be called within the
    schema lock."""
    direct = ClaimStorage(url, engine_settings(url, "command"))
    return cached(PatientStorage(direct, Patience(COMMAND_SECONDS, tell=_nobody)))


def _nobody(line: str) -> None:
    """Says nothing: the workers tell of a database that is away, the command that started them need not."""


def make_tables(url: str) -> None:
    """Makes the tables where they are not there yet; else they are checked. Raises DatabaseError."""
    with reaching(url), schema_lock(url):
        RowStorage(url, engine_settings(url, "migrate")).engine.dispose()


def join_study(
    url: str, name: str, worker: str, budget: int, in_a_hurry: Callable[[], bool] = lambda: False
) -> tuple[Study, PatientStorage]:
    """A worker's own connection to a study that is open; `in_a_hurry`: whether it is to end, and no longer
    waits for a database that is away. Raises DatabaseError."""
    settings = engine_settings(url, worker)
    if "max_overflow" in settings:
        settings["max_overflow"] = 0
    # made and checked by open_study; Optuna's check needs two connections at once, for which workers that
    # share few of them would wait for each other for ever
    unchecked = {"skip_table_creation": True, "skip_compatibility_check": True}
    patience = Patience(in_a_hurry=in_a_hurry)
    with reaching(url):
        direct = patience.call(lambda: ClaimStorage(url, settings, worker, budget, **unchecked))
        claims = PatientStorage(direct, patience)
        return PickyStudy(study_name=name, storage=cached(claims)), claims


def claims_of(study: Study) -> PatientStorage:
    """The storage of a study that `open_study` or `join_study` gave."""
    claims = behind_cache(storage_of(study))
    assert not isinstance(claims, BaseStorage), "studies that are looked at have no claims"
    return claims  # type: ignore[no-any-return]


def watch(url: str, writes: bool) -> BaseStorage:
    """A storage to look on with: it waits for no lock, makes nothing, and reads a finished trial once. The
    database refuses to be written to, unless `writes`. Raises DatabaseError."""
    parsed, engine_kwargs = make_url(url), engine_settings(url, "dashboard")
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        del engine_kwargs["connect_args"]
        path = Path(parsed.database or "")
        if not path.is_file():
            raise DatabaseError(f"there is no {path} yet: `python -m search.run` makes it")
        engine_kwargs["creator"] = lambda: _connect(path, writes)
    else:
        engine_kwargs["pool_size"] = 4  # a browser asks for several things at once
        if backend == "postgresql" and not writes:
            engine_kwargs["execution_options"] = {"postgresql_readonly": True}
        elif not writes:
            engine_kwargs["connect_args"]["init_command"] = "SET SESSION TRANSACTION READ ONLY"
    with reaching(url):
        engine = sqlalchemy.create_engine(url, **engine_kwargs)
        made = sqlalchemy.inspect(engine).has_table("trials")
        engine.dispose()
        if not made:
            raise DatabaseError(f"{shown_url(url)} holds no study yet: `python -m search.run` makes one")
        return cached(RowStorage(url, engine_kwargs, skip_table_creation=True))


def _connect(path: Path, writes: bool) -> sqlite3.Connection:
    # "rw", never "rwc": a file taken away meanwhile is not made anew. Nor "ro": whoever closes a database
    # last has to write its log back into the file
    file = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(file, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute(f"PRAGMA query_only={not writes}")
    return connection
