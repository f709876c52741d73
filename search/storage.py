"""Opening, joining and looking at studies."""

from __future__ import annotations

import platform
import secrets
import sqlite3
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, get_storage
from optuna.study import Study, StudyDirection
from sqlalchemy.engine import make_url

from search.database import BUSY_SECONDS, engine_settings, is_sqlite, reaching, schema_lock, shown_url
from search.errors import DatabaseError, SpecError
from search.patience import PATIENCE, Patience, PatientStorage, to_stderr
from search.rows import RowStorage
from search.spec import StudySpec, differences

REPEATS = "collection of repeats"
KINDS = {"search": "run", "confirmation": "confirm", REPEATS: "repeat"}
"""Of studies, with the command that each belongs to."""
ALIVE_SECONDS = 60.0
"""Since its last sign of life, a worker on another machine counts as running."""
PLAN = "confirmation"
"""User attribute of a study that is one: what it trains and tests."""


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
    with reaching(url), schema_lock(url):
        storage = get_storage(PatientStorage(url, engine_settings(url, "command"), seconds=10, tell=_nobody))
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
            study.set_user_attr("key", secrets.token_hex(8))
            study.set_user_attr("versions", versions())
            study.set_user_attr("data_fingerprint", data_fingerprint)
            study.set_user_attr("spec_fingerprint", spec.fingerprint())
            study.set_user_attr("spec", spec.canonical())
        else:
            check_same(name, stored, spec, data_fingerprint)
            if (found := stored.get("kind", "search")) != kind:
                raise SpecError(f"{name!r} is a {found}: `python -m search.{KINDS[found]}` goes on with it")
        if is_sqlite(url) and (host := claims_of(study).elsewhere(study._study_id, ALIVE_SECONDS)):
            raise SpecError(
                f"a worker on {host} runs a trial of {name!r}: SQLite serves one machine or container; for "
                "several use postgresql+psycopg://user@host/database"
            )
        if plan is not None and (agreed := plan(stored.get(PLAN))) != stored.get(PLAN):
            study.set_user_attr(PLAN, agreed)
        if trials > stored.get("budget", 0):
            study.set_user_attr("budget", trials)
    return study


def make_tables(url: str) -> None:
    """Where they are not there yet; else they are checked. Raises DatabaseError."""
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
    patience = Patience(PATIENCE, to_stderr, in_a_hurry)
    with reaching(url):
        claims = patience.call(
            lambda: PatientStorage(
                url, settings, worker, budget, skip_table_creation=True, skip_compatibility_check=True
            )
        )
        claims.patience = patience
        return _WorkerStudy(study_name=name, storage=get_storage(claims)), claims


class _WorkerStudy(Study):
    def _pop_waiting_trial_id(self) -> int | None:
        """Optuna's own reads every unfinished trial whole, each time that a worker asks for one."""
        return super()._pop_waiting_trial_id() if claims_of(self).is_waiting(self._study_id) else None


def watch(url: str, writes: bool) -> BaseStorage:
    """For looking on: waits for no lock, makes nothing, reads a finished trial once. Raises DatabaseError.

    Without `writes`, the database refuses them too.
    """
    parsed, engine_kwargs = make_url(url), engine_settings(url, "dashboard")
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        del engine_kwargs["connect_args"]
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
        storage = RowStorage(url, engine_kwargs, skip_table_creation=True)
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


def claims_of(study: Study) -> PatientStorage:
    claims = study._storage._backend  # type: ignore[attr-defined]
    assert isinstance(claims, PatientStorage)
    return claims


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


def _nobody(line: str) -> None:
    """The workers tell of a database that is away; the command that started them need not as well."""
