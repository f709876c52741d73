"""Clients in numbers, by way of a PgBouncer that has few connections for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.trial import TrialState

from search.spec.study import StudySpec
from search.storage.internals import storage_of, trial_id_of
from search.storage.studies import open_study
from tests.support.claims import joined
from tests.support.pooler import CONNECTIONS, Pooler
from tests.support.postgres_server import PostgresServer

CLIENTS = 1000 if "ALL_FAULTS" in os.environ else 150
"""All of them take three minutes."""


@pytest.fixture
def pooler(postgres: PostgresServer) -> Iterator[Pooler]:
    with Pooler(postgres) as pooler:
        yield pooler


def test_many_clients_share_twenty_connections(
    postgres: PostgresServer, pooler: Pooler, tiny: StudySpec
) -> None:
    """Each is a worker of its own: it joins, takes a trial, reports, finishes."""
    direct = postgres.new_database()
    study = open_study(direct, "s", tiny, "data", CLIENTS)
    errors: list[BaseException] = []
    gate = threading.Semaphore(200)  # all are connected, so many are busy at once
    barrier = threading.Barrier(CLIENTS)

    def client(number: int) -> None:
        try:
            with gate:
                worker, claims = joined(pooler.before(direct), f"elsewhere:{number}:aa", CLIENTS)
            barrier.wait()
            with gate:
                trial = worker.ask()
                x = trial.suggest_float("x", 0, 1)
                trial.report(x, 1)
                claims.finish(trial_id_of(trial), TrialState.COMPLETE, x, {"outcome": "complete"})
                claims.engine.dispose()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    name, connections = direct.rpartition("/")[2], 0
    while any(thread.is_alive() for thread in threads):
        [[count]] = postgres.admin(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")
        connections = max(connections, count)
        threads[-1].join(0.5)
    assert not errors, errors[0]
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(CLIENTS))
    assert all(trial.state == TrialState.COMPLETE and len(trial.params) == 1 for trial in trials)
    assert connections <= CONNECTIONS + 2, "and the two that this test has itself"


def test_tables_and_studies_are_made_through_the_pooler_once(
    postgres: PostgresServer, pooler: Pooler, tiny: StudySpec
) -> None:
    """Eight at once on an empty database; the lock is nobody's afterwards, though sessions live on."""
    url = pooler.before(postgres.new_database())
    with ThreadPoolExecutor(8) as pool:
        opening = [pool.submit(open_study, url, "s", tiny, "data", 5) for _ in range(8)]
        studies = [opened.result() for opened in opening]
    assert postgres.admin("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert optuna.get_all_study_names(storage_of(studies[0])) == ["s"]
