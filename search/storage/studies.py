"""Studies by their names: opened, found, and compared with the spec and the images that a command brings."""

from __future__ import annotations

import platform
import secrets
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection

from search.data.sources import SOURCES
from search.errors import SpecError
from search.spec.study import StudySpec, spec_differences
from search.spec.study_file import DEFAULT_STUDY, find_study, load_spec
from search.storage.connections import claims_of, command_storage
from search.storage.engines import reaching, schema_lock
from search.storage.internals import storage_of, study_id_of
from search.storage.study_record import KINDS, StudyRecord, record_of_study
from search.storage.urls import is_sqlite

ALIVE_SECONDS = 60.0
"""Seconds since its last sign of life for which a worker on another machine counts as running."""


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
        study = optuna.create_study(
            storage=command_storage(url), study_name=name, direction="maximize", load_if_exists=True
        )
        stored = record_of_study(study)
        if stored.spec is None:
            _begin(study, spec, data_fingerprint, kind)
        else:
            check_same(name, stored, spec.continuing(stored.spec), data_fingerprint)
            if stored.kind != kind:
                command = KINDS[stored.kind]
                raise SpecError(f"{name!r} is a {stored.kind}: `python -m search.{command}` goes on with it")
        host = claims_of(study).elsewhere(study_id_of(study), ALIVE_SECONDS) if is_sqlite(url) else None
        if host:
            raise SpecError(
                f"a worker on {host} runs a trial of {name!r}: SQLite serves one machine or container; for "
                "several use postgresql+psycopg://user@host/database"
            )
        if plan is not None and (agreed := plan(stored.plan)) != stored.plan:
            set_attributes(study, plan=agreed)
        if kind == "search" and stored.confirm != spec.how_to_confirm():
            set_attributes(study, confirm=spec.how_to_confirm())
        if trials > stored.budget:
            set_attributes(study, budget=trials)
    return study


def _begin(study: Study, spec: StudySpec, data_fingerprint: str, kind: str) -> None:
    if study.get_trials(deepcopy=False) or study.directions != [StudyDirection.MAXIMIZE]:
        raise not_ours(study.study_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["validation accuracy"])
    set_attributes(
        study,
        kind=kind,
        key=secrets.token_hex(8),
        versions=versions(),
        data_fingerprint=data_fingerprint,
        spec_fingerprint=spec.fingerprint(),
        spec=spec.canonical(),  # last: it tells that the study is whole
    )


def set_attributes(study: Study, **values: Any) -> None:
    """Stores attributes of a study, by the names of StudyRecord's fields, one after another."""
    for name, value in StudyRecord.attributes(**values).items():
        study.set_user_attr(name, value)


def not_ours(name: str) -> SpecError:
    """The error where a study was made by another program."""
    return SpecError(f"the study {name!r} was not made by archsearch: choose another with --name")


def check_same(name: str, stored: StudyRecord, spec: StudySpec, data_fingerprint: str) -> None:
    """Raises SpecError when a study is not that of the spec and the images."""
    lines = spec_differences(stored.spec or {}, spec.canonical())
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise SpecError(
            f"the study {name!r} was made with another spec:\n{listed}\n"
            f"undo the change to continue it, or start another with --name {name}-2"
        )
    if stored.data_fingerprint != data_fingerprint:
        raise SpecError(
            f"the study {name!r} was made with other images ({stored.data_fingerprint} in the study, "
            f"{data_fingerprint} now): bring them back, or start another with --name {name}-2"
        )


def spec_of(study: str | None, name: str | None, stored: StudyRecord) -> StudySpec:
    """The spec of a study in the database: from its file, or from itself where only `name` is given. Raises
    SpecError."""
    if stored.spec is None:
        raise not_ours(name or study or DEFAULT_STUDY)
    if study is not None or name is None:
        spec = load_spec(find_study(study or DEFAULT_STUDY), seed=stored.spec["search"]["seed"])
        return spec.continuing(stored.spec)
    if needs_file(stored):
        raise SpecError(f"--study FILE is needed as well: it says where the images of {name!r} lie")
    return StudySpec.from_canonical(name, stored.spec, stored.confirm)


def needs_file(stored: StudyRecord) -> bool:
    """Whether only a study's file tells where its images lie."""
    source = SOURCES.get((stored.spec or {}).get("data", {}).get("name", ""))
    return source is not None and source.own_files


def find(storage: BaseStorage, name: str) -> Study:
    """A study that a search has made. Raises SpecError naming the ones there are."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        names = ", ".join(sorted(study.study_name for study in storage.get_all_studies())) or "none"
        raise SpecError(
            f"no study {name!r} in the database, which has: {names}; choose with --name"
        ) from None


def is_there(study: Study) -> bool:
    """Whether the study has not been deleted meanwhile."""
    return study.study_name in optuna.get_all_study_names(storage_of(study))


def plan_of(storage: BaseStorage, name: str) -> dict[str, Any] | None:
    """The plan of a confirmation; None where there is none of that name."""
    try:
        attrs = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    except KeyError:
        return None
    return StudyRecord(attrs).plan


def confirmation_of(study: Study) -> Study | None:
    """The confirmation of a search, in the same database; None where there is none."""
    name = confirmation_name(study.study_name)
    return None if plan_of(storage_of(study), name) is None else beside(study, name)


def beside(study: Study, name: str) -> Study:
    """Another study in the same database, over the same connection. Raises KeyError."""
    return optuna.load_study(study_name=name, storage=storage_of(study))


def confirmation_name(search: str) -> str:
    """The name of a search's confirmation, unless it is given another."""
    return f"{search}-confirm"


def repeats_name(study: str) -> str:
    """The name of the study that holds the repeats of a study's trials."""
    return f"{study}-repeat"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results."""
    names = ("archsearch", "torch", "torchvision", "optuna", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"  # as when run from a checkout
