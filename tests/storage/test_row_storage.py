"""A storage to look on: what it reads, and that it leaves no connection behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import sqlalchemy
from optuna.trial import TrialState

from search.storage.internals import cached, study_id_of, trial_id_of
from search.storage.row_storage import RowStorage
from tests.support.claims import a_study, joined, queued


def test_unfinished_trials_are_those_that_run_or_wait(study_url: str) -> None:
    other = a_study(study_url, "t")
    study, claims = joined(study_url, budget=10)
    study_id = study_id_of(study)
    assert claims.unfinished(study_id) == 0
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        claims.finish(trial_id_of(study.ask()), state, None, {})
    assert claims.unfinished(study_id) == 0
    study.ask()
    assert claims.unfinished(study_id) == 1
    study.add_trials(queued(1.0, 2.0))
    assert claims.unfinished(study_id) == 3
    assert claims.unfinished(study_id_of(other)) == 0


def test_counting_begins_at_one(study_url: str) -> None:
    study, claims = joined(study_url)
    for name, times in (("test_reads", 3), ("others", 1)):
        for _ in range(times):
            claims.count_up(study_id_of(study), name)
    assert study.user_attrs == {"test_reads": 3, "others": 1}


def test_optuna_reads_through_it(study_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna reads with its cache and without."""
    calls: list[int] = []
    stock = RowStorage._get_trials

    def counted(*args: Any, **values: Any) -> Any:
        calls.append(1)
        return stock(*args, **values)

    study, _ = joined(study_url)
    study.ask()
    monkeypatch.setattr(RowStorage, "_get_trials", counted)
    storage = RowStorage(study_url, {})
    for reader in (storage, cached(storage)):
        assert [trial.number for trial in reader.get_all_trials(study_id_of(study))] == [0]
    assert len(calls) == 2
    storage.engine.dispose()


@pytest.fixture
def disposed(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Engines whose connections were closed."""
    found: list[weakref.ref[Any]] = []
    stock = sqlalchemy.Engine.dispose

    def dispose(engine: sqlalchemy.Engine, close: bool = True) -> None:
        found.append(weakref.ref(engine))
        stock(engine, close)

    monkeypatch.setattr(sqlalchemy.Engine, "dispose", dispose)
    return found


def test_who_forgets_a_storage_closes_its_connections(study_file: str, disposed: list[Any]) -> None:
    storage = RowStorage(study_file, {})
    storage.get_all_studies()
    assert not disposed
    del storage
    gc.collect()
    assert len(disposed) == 1


def test_a_storage_that_cannot_be_made_closes_its_connections(study_file: str, disposed: list[Any]) -> None:
    engine = sqlalchemy.create_engine(study_file)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        connection.exec_driver_sql("UPDATE version_info SET schema_version = 11")
    engine.dispose()
    disposed.clear()
    with pytest.raises(RuntimeError, match="The runtime optuna version"):
        RowStorage(study_file, {})
    assert len(disposed) == 1


def test_a_storage_without_an_engine_says_what_is_wrong() -> None:
    with pytest.raises(sqlalchemy.exc.ArgumentError):
        RowStorage("no url at all", {})
