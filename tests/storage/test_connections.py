"""A study's database, opened by a command, by a worker, or to look on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from search.errors import DatabaseError
from search.storage import connections
from search.storage.claim_storage import ClaimStorage
from search.storage.connections import (
    COMMAND_SECONDS,
    claims_of,
    command_storage,
    join_study,
    make_tables,
    watch,
)
from search.storage.engines import schema_lock
from search.storage.internals import behind_cache, storage_of, study_id_of, trial_id_of
from search.storage.patience import PATIENCE
from search.storage.row_storage import RowStorage
from search.storage.urls import is_sqlite
from tests.support.claims import holding_study, joined

POSTGRES = "postgresql+psycopg://me:secret@127.0.0.1:1/none"


# commands and workers


def test_tables_are_made_once_and_then_checked(url: str) -> None:
    for _ in range(2):
        make_tables(url)
    engine = sqlalchemy.create_engine(url)
    assert sqlalchemy.inspect(engine).has_table("trials")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        connection.exec_driver_sql("UPDATE version_info SET schema_version = 11")
    engine.dispose()
    with pytest.raises(DatabaseError, match="cannot be used: The runtime optuna version"):
        make_tables(url)


def test_tables_are_made_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    stock = schema_lock

    def lock(url: str) -> Any:
        seen.append(url)
        return stock(url)

    monkeypatch.setattr(connections, "schema_lock", lock)
    make_tables(f"sqlite:///{tmp_path}/x.db")
    assert seen == [f"sqlite:///{tmp_path}/x.db"]


def test_a_command_makes_tables_claims_nothing_and_waits_for_a_moment_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = optuna.create_study(storage=command_storage(f"sqlite:///{tmp_path}/x.db"), study_name="s")
    claims = claims_of(study)
    assert (claims.worker, claims.budget) == (None, 0)
    assert claims.patience.seconds == COMMAND_SECONDS == 10
    claims.patience.note_failure(StorageInternalError("away"))
    claims.patience.note_success()
    assert capfd.readouterr() == ("", "")


class Made(Exception):
    """The storage is made, with these arguments."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, ...]]:
    def make(*args: Any, **options: Any) -> None:
        raise Made(args, options)

    monkeypatch.setattr(connections, "ClaimStorage", make)

    def call(function: Callable[..., Any], *given: Any) -> tuple[Any, ...]:
        with pytest.raises(Made) as found:
            function(*given)
        return found.value.args

    return call


def test_a_worker_keeps_one_connection_and_leaves_tables_alone(made: Callable[..., Any]) -> None:
    """Workers that share few connections would wait for each other for ever for their second one."""
    (url, settings, worker, budget), options = made(join_study, POSTGRES, "s", "host:1:aa", 7)
    assert (url, worker, budget) == (POSTGRES, "host:1:aa", 7)
    assert (settings["pool_size"], settings["max_overflow"]) == (1, 0)
    assert settings["connect_args"]["application_name"] == "archsearch host:1:aa"
    assert options == {"skip_table_creation": True, "skip_compatibility_check": True}
    (_, settings, *_), _ = made(join_study, "sqlite:///x.db", "s", "host:1:aa", 7)
    assert "max_overflow" not in settings
    (_, settings), options = made(command_storage, POSTGRES)
    assert (settings["pool_size"], settings["max_overflow"], options) == (1, 1, {})


def test_a_worker_joins_by_name_and_budget(study_url: str) -> None:
    hurry: list[bool] = []
    study, claims = join_study(study_url, "s", "host:1:aa", 7, lambda: bool(hurry))
    assert (claims.worker, claims.budget, claims.patience.seconds) == ("host:1:aa", 7, PATIENCE)
    assert behind_cache(storage_of(study)) is claims
    assert claims_of(study) is claims
    assert isinstance(claims.direct, ClaimStorage)
    assert not claims.patience.in_a_hurry()
    hurry.append(True)
    assert claims.patience.in_a_hurry()
    with pytest.raises(KeyError):
        join_study(study_url, "nobody's", "host:1:aa", 7)


def test_a_database_out_of_reach_is_told_without_its_password() -> None:
    for call in (lambda: join_study(POSTGRES, "s", "w", 1, lambda: True), lambda: watch(POSTGRES, True)):
        with pytest.raises(
            DatabaseError, match=r"127\.0\.0\.1:1/none cannot be used: connection failed"
        ) as told:
            call()
        assert "secret" not in str(told.value)


# looking on


def looked_at(url: str, writes: bool) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=watch(url, writes))


def test_who_looks_on_sees_what_is_done_and_has_no_claims(study_url: str) -> None:
    study, claims = joined(study_url)
    looker = looked_at(study_url, writes=False)
    assert looker.trials == []
    trial = study.ask()
    trial.report(0.5, 1)
    assert looker.trials[0].intermediate_values == {1: 0.5}
    claims.finish(trial_id_of(trial), TrialState.COMPLETE, 0.75, {})
    assert looker.best_value == 0.75
    assert type(behind_cache(storage_of(looker))) is RowStorage
    with pytest.raises(AssertionError, match="studies that are looked at have no claims"):
        claims_of(looker)


def test_who_looks_on_waits_for_no_lock(study_url: str) -> None:
    study, claims = joined(study_url)
    looker = looked_at(study_url, writes=False)
    with holding_study(claims, study_id_of(study)):
        assert looker.get_trials() == []


def test_the_database_refuses_what_a_looker_may_not_write(study_url: str) -> None:
    with pytest.raises(StorageInternalError) as refused:
        looked_at(study_url, writes=False).set_user_attr("x", 1)
    assert "read" in str(refused.value.__cause__).lower()
    looker = looked_at(study_url, writes=True)
    looker.set_user_attr("x", 1)
    assert joined(study_url)[0].user_attrs == {"x": 1}


def test_a_finished_trial_is_read_once(study_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study, claims = joined(study_url)
    claims.finish(trial_id_of(study.ask()), TrialState.COMPLETE, 0.75, {})
    study.ask()
    read: list[int] = []
    stock = RowStorage._get_trials

    def counted(*args: Any, **values: Any) -> Any:
        found = stock(*args, **values)
        read.append(len(found))
        return found

    monkeypatch.setattr(RowStorage, "_get_trials", counted)
    looker = looked_at(study_url, writes=False)
    for _ in range(2):
        assert len(looker.trials) == 2
    assert read == [2, 1]


def test_where_nothing_is_nothing_is_made(url: str, tmp_path: Path) -> None:
    for writes in (False, True):
        with pytest.raises(DatabaseError) as told:
            watch(url, writes)
        assert "`python -m search.run` makes" in str(told.value)
        assert not list(tmp_path.glob("*.db*"))
    if not is_sqlite(url):
        assert "holds no study yet" in str(told.value)
        return
    assert f"there is no {tmp_path}/search.db yet" in str(told.value)
    (tmp_path / "search.db").touch()
    with pytest.raises(
        DatabaseError, match=r"search\.db holds no study yet: `python -m search\.run` makes one"
    ):
        watch(url, writes=False)
    assert (tmp_path / "search.db").stat().st_size == 0


def test_a_file_that_is_taken_away_is_not_made_anew(study_file: str, tmp_path: Path) -> None:
    looker = looked_at(study_file, writes=True)
    behind_cache(storage_of(looker)).engine.dispose()  # as when the connection is a new one
    for path in tmp_path.glob("study.db*"):
        path.unlink()
    with pytest.raises(StorageInternalError):
        looker.get_trials()
    assert not list(tmp_path.glob("study.db*"))


def test_a_file_with_an_odd_name_is_found(tmp_path: Path) -> None:
    """Its name becomes part of a URI."""
    url = f"sqlite:///{tmp_path}/100% ü#.db"
    make_tables(url)
    assert watch(url, writes=False).get_all_studies() == []
