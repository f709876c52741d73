"""Opening and joining studies. The only module that sees a database URL."""

from __future__ import annotations

import os
import platform
import sqlite3
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, get_storage
from optuna.study import Study, StudyDirection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from search.claims import ClaimStorage
from search.errors import DatabaseError, SpecError
from search.rows import RowStorage
from search.spec import StudySpec, differences

DEFAULT_URL = "sqlite:///studies/search.db"
BUSY_SECONDS = 60
KINDS = {"search": "run", "confirmation": "confirm", "collection of repeats": "repeat"}
"""Of studies, with the command that each belongs to."""
PLAN = "confirmation"
"""User attribute of a study that is one: what it trains and tests."""
_SCHEMA_LOCK = 0x61726368  # any number, the same in every process: the key of a PostgreSQL advisory lock


def storage_url(option: str | None) -> str:
    """--storage, else OPTUNA_STORAGE, else SQLite in studies/. Raises SpecError for what is no URL."""
    text = option or os.environ.get("OPTUNA_STORAGE") or DEFAULT_URL
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        shown = text if "@" not in text else text.rpartition("@")[2]
        raise SpecError(
            f"--storage must be a database URL such as {DEFAULT_URL} or "
            f"postgresql+psycopg://user@host/database, got {shown!r}"
        ) from None
    if _is_sqlite(url) and url.database in (None, "", ":memory:"):
        raise SpecError(f"--storage must name a file: a search outlives its process, got {text!r}")
    return text


def open_study(
    url: str,
    name: str,
    spec: StudySpec,
    data_fingerprint: str,
    trials: int,
    kind: str = "search",
    plan: Callable[[Any], dict[str, Any]] | None = None,
) -> Study:
    """Creates the study, or continues it if it is the same one; then it may hold `trials` trials.

    `kind`: one of KINDS. `plan` gives a confirmation's plan to store, from the one that is stored, None at
    first. Safe when several processes start at once. Raises SpecError when the study holds another spec or
    other data, DatabaseError when the database cannot be reached.
    """
    with _reaching(url), _schema_lock(url):
        storage = get_storage(_connect(url))
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        stored = study.user_attrs
        if "spec" not in stored:
            if study.get_trials(deepcopy=False) or study.directions != [StudyDirection.MAXIMIZE]:
                raise SpecError(f"the study {name!r} was not made by archsearch: choose another with --name")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["validation accuracy"])
            study.set_user_attr("kind", kind)
            study.set_user_attr("versions", versions())
            study.set_user_attr("data_fingerprint", data_fingerprint)
            study.set_user_attr("spec_fingerprint", spec.fingerprint())
            study.set_user_attr("spec", spec.canonical())
        else:
            check_same(name, stored, spec, data_fingerprint)
            if (found := stored.get("kind", "search")) != kind:
                raise SpecError(f"{name!r} is a {found}: `python -m search.{KINDS[found]}` goes on with it")
        if plan is not None and (agreed := plan(stored.get(PLAN))) != stored.get(PLAN):
            study.set_user_attr(PLAN, agreed)
        if trials > stored.get("budget", 0):
            study.set_user_attr("budget", trials)
    return study


def join_study(url: str, name: str, worker: str, budget: int) -> tuple[Study, ClaimStorage]:
    """A worker's own connection to a study that is open. Raises DatabaseError."""
    with _reaching(url):
        claims = _connect(url, worker, budget)
        return optuna.load_study(study_name=name, storage=get_storage(claims)), claims


def watch(url: str, writes: bool) -> BaseStorage:
    """For looking on: waits for no lock, makes nothing, reads a finished trial once. Raises DatabaseError.

    Without `writes`, SQLite and PostgreSQL refuse them too.
    """
    parsed, engine_kwargs = make_url(url), dict[str, Any](pool_pre_ping=True)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        path = Path(parsed.database or "")
        if not path.is_file():
            raise DatabaseError(f"there is no {path} yet: `python -m search.run` makes it")

        def connect() -> sqlite3.Connection:
            # "rw", never "rwc": a file taken away meanwhile is not made anew. Nor "ro": whoever closes a
            # database last has to write its log back into the file
            file = f"{path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(file, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
            connection.execute(f"PRAGMA query_only={not writes}")
            return connection

        engine_kwargs["creator"] = connect
    elif backend == "postgresql" and not writes:
        engine_kwargs["execution_options"] = {"postgresql_readonly": True}
    with _reaching(url):
        engine = sqlalchemy.create_engine(url, **engine_kwargs)
        made = sqlalchemy.inspect(engine).has_table("trials")
        engine.dispose()
        if not made:
            raise DatabaseError(f"{shown_url(url)} holds no study yet: `python -m search.run` makes one")
        storage = RowStorage(url, engine_kwargs, skip_table_creation=True)
    weakref.finalize(storage, storage.engine.dispose)
    return get_storage(storage)


def find(storage: BaseStorage, name: str) -> Study:
    """A study that a search has made. Raises SpecError naming the ones there are."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        names = ", ".join(sorted(study.study_name for study in storage.get_all_studies())) or "none"
        raise SpecError(
            f"no study {name!r} in the database, which has: {names}; choose with --name"
        ) from None
    return study


def plan_of(storage: BaseStorage, name: str) -> dict[str, Any] | None:
    """The plan of a confirmation; None where there is none of that name."""
    try:
        attrs = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    except KeyError:
        return None
    return attrs.get(PLAN)


def confirmation_of(study: Study) -> Study | None:
    """The confirmation of a search, in the same database."""
    name = confirmation_name(study.study_name)
    return None if plan_of(study._storage, name) is None else beside(study, name)


def beside(study: Study, name: str) -> Study:
    """Another study in the same database, over the same connection. Raises KeyError."""
    return optuna.load_study(study_name=name, storage=study._storage)


def confirmation_name(search: str) -> str:
    return f"{search}-confirm"


def claims_of(study: Study) -> ClaimStorage:
    claims = study._storage._backend  # type: ignore[attr-defined]
    assert isinstance(claims, ClaimStorage)
    return claims


def shown_url(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def versions() -> dict[str, str]:
    names = ("archsearch", "torch", "torchvision", "optuna", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"  # as when run from a checkout


def check_same(name: str, stored: dict[str, Any], spec: StudySpec, data_fingerprint: str) -> None:
    """Raises SpecError when a study is not that of the spec and the images."""
    lines = differences(stored["spec"], spec.canonical())
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise SpecError(
            f"the study {name!r} was made with another spec:\n{listed}\n"
            f"undo the change to continue it, or start another with --name {name}-2"
        )
    if stored["data_fingerprint"] != data_fingerprint:
        raise SpecError(
            f"the study {name!r} was made with other images ({stored['data_fingerprint']} in the study, "
            f"{data_fingerprint} now): bring them back, or start another with --name {name}-2"
        )


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _connect(url: str, worker: str | None = None, budget: int = 0) -> ClaimStorage:
    engine_kwargs: dict[str, Any] = {"pool_pre_ping": True}
    if _is_sqlite(make_url(url)):
        engine_kwargs["connect_args"] = {"timeout": BUSY_SECONDS}
    else:
        engine_kwargs |= {"pool_size": 1, "max_overflow": 2}
    return ClaimStorage(url, engine_kwargs, worker, budget)


@contextmanager
def _schema_lock(url: str) -> Iterator[None]:
    """One process at a time makes tables and studies: Optuna's own creation of them races."""
    parsed = make_url(url)
    if _is_sqlite(parsed):
        path = Path(parsed.database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
    elif parsed.get_backend_name() == "postgresql":
        engine = sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:  # closing it gives the lock back, also if this process dies
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(_SCHEMA_LOCK)))
            yield
    else:
        yield


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turns what a database driver throws into one line, the password left out."""
    shown = shown_url(url)
    try:
        yield
    except ImportError as error:
        missing = error.__cause__ or error
        raise SpecError(f"--storage {shown} needs a driver that is not installed: {missing}") from None
    except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        detail = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
        raise DatabaseError(f"the database {shown} cannot be used: {detail}") from None
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise DatabaseError(f"the database {shown} cannot be used: {str(error).splitlines()[0]}") from None
