"""Passwords and clients in numbers: a PostgreSQL that asks for a password, and a PgBouncer before it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
from optuna.trial import TrialState

from search.errors import DatabaseError, SpecError
from search.spec.study import StudySpec
from search.storage.connections import join_study, watch
from search.storage.leases import worker_name
from search.storage.studies import open_study
from tests.support.paths import REPOSITORY
from tests.support.postgres_server import PostgresServer, _die_with_parent
from tests.support.studies import TINY, tiny_spec

optuna.logging.set_verbosity(optuna.logging.ERROR)
SECRET = "s3cr3t-{}%/@:w ü"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    folder = tmp_path_factory.mktemp("guarded")
    with PostgresServer(folder, "max_connections=60", password=SECRET) as server:
        yield server


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "password"
    path.write_text(SECRET + "\n", encoding="utf-8")
    monkeypatch.setenv("OPTUNA_STORAGE_PASSWORD_FILE", str(path))
    return path


def test_the_password_comes_from_its_file(
    guarded: PostgresServer, password_file: Path, tiny: StudySpec
) -> None:
    url = guarded.new_database()
    study = open_study(url, "s", tiny, "data", 1)
    worker, claims = join_study(url, "s", worker_name(), 1)
    worker.sampler = optuna.samplers.RandomSampler()
    trial = worker.ask()
    claims.finish(trial._trial_id, TrialState.COMPLETE, 0.5, {"outcome": "complete"})
    assert len(watch(url, writes=False).get_all_trials(study._study_id)) == 1


def test_a_wrong_or_missing_password_is_told_without_it(
    guarded: PostgresServer, password_file: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = guarded.new_database()
    password_file.write_text("not this one")
    with pytest.raises(DatabaseError, match=r"cannot be used: .*password authentication failed") as wrong:
        open_study(url, "s", tiny, "data", 1)
    assert "not this one" not in str(wrong.value)
    monkeypatch.delenv("OPTUNA_STORAGE_PASSWORD_FILE")
    with pytest.raises(DatabaseError, match="no password supplied"):
        open_study(url, "s", tiny, "data", 1)
    monkeypatch.setenv("OPTUNA_STORAGE_PASSWORD_FILE", "/nowhere/at/all")
    with pytest.raises(SpecError, match="OPTUNA_STORAGE_PASSWORD_FILE=/nowhere/at/all cannot be read"):
        open_study(url, "s", tiny, "data", 1)


def test_no_secret_is_seen_anywhere(guarded: PostgresServer, password_file: Path, tmp_path: Path) -> None:
    """Not in arguments, environment, output, files that the search leaves, tables, or the dashboard."""
    url = guarded.new_database()
    (tmp_path / "tiny.toml").write_text(TINY.replace("epochs = 3", "epochs = 60"))
    env = os.environ | {"OPTUNA_STORAGE": url, "ARCHSEARCH_CHECKPOINT_SECONDS": "0"}
    words = ["--study", str(tmp_path / "tiny.toml"), "--trials", "4", "--workers", "2"]
    search = subprocess.Popen(
        [sys.executable, "-m", "search.run", *words],
        cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    seen = []
    while search.poll() is None:
        for name in ("cmdline", "environ"):
            seen += [read(pid, name) for pid in [search.pid, *children(search.pid)]]
        with contextlib.suppress(FileNotFoundError):  # they come and go
            seen += [path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*.json")]
        time.sleep(0.1)
    seen.append(search.communicate()[0].encode())
    assert search.returncode == 0, seen[-1]
    assert any(b"search.worker" in text for text in seen)
    database = url.rpartition("/")[2]
    for (table,) in guarded.admin("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database):
        seen += [str(row).encode() for row in guarded.admin(f"SELECT * FROM {table}", database)]
    activity = guarded.admin("SELECT application_name, query FROM pg_stat_activity")
    seen += [str(row).encode() for row in activity]
    dashboard = subprocess.Popen(
        [sys.executable, "-m", "search.dashboard", "--port", "0"],
        cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert dashboard.stdout is not None
    line = dashboard.stdout.readline()
    address = line.split(" shown at ")[1].split()[0]
    seen += [line.encode(), read(dashboard.pid, "cmdline"), read(dashboard.pid, "environ")]
    import urllib.request

    for page in ("", "api/studies", "api/studies/1", "api/meta", "nowhere"):
        with contextlib.suppress(urllib.request.HTTPError), urllib.request.urlopen(address + page) as answer:
            seen.append(answer.read())
    dashboard.terminate()
    seen.append(dashboard.communicate()[0].encode())
    assert len(seen) > 100
    for form in (SECRET, "s3cr3t"):
        assert not [text for text in seen if form.encode() in text]


def read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def children(pid: int) -> list[int]:
    return [int(child) for child in read(pid, f"task/{pid}/children").split()]


def test_a_password_on_the_command_line_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    from search.errors import tell_once
    from search.storage.urls import storage_url

    tell_once.cache_clear()
    storage_url("postgresql+psycopg://me:hush@host/search")
    shown = capsys.readouterr().err
    assert "others on this machine can read a password in --storage" in shown
    assert "hush" not in shown


def test_another_schema_is_told(postgres: PostgresServer, tiny: StudySpec) -> None:
    url = postgres.new_database()
    open_study(url, "s", tiny, "data", 1)
    postgres.admin("UPDATE version_info SET schema_version = 11", url.rpartition("/")[2])
    postgres.admin("UPDATE alembic_version SET version_num = 'v9.9.9.a'", url.rpartition("/")[2])
    with pytest.raises(DatabaseError, match="cannot be used: The runtime optuna version"):
        open_study(url, "s", tiny, "data", 1)


POOLER = """
[databases]
* = host=127.0.0.1 port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = any
pool_mode = transaction
max_client_conn = 1200
default_pool_size = 20
server_tls_sslmode = disable
unix_socket_dir =
logfile = {folder}/log
"""


@pytest.fixture
def pooler(postgres: PostgresServer) -> Iterator[int]:
    """The port of a PgBouncer with 20 connections to the server, one transaction each."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        message = "NOT TESTED WITH PGBOUNCER: install pgbouncer"
        pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = int(free.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))  # nobody may not read the folders of root's tests
    (folder / "ini").write_text(POOLER.format(port=postgres.port, own=own, folder=folder))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": 65534, "group": 65534, "extra_groups": []}
        os.chown(folder, 65534, 65534)
    process = subprocess.Popen(
        [program, str(folder / "ini")], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=_die_with_parent, **user,
    )  # fmt: skip
    for _ in range(100):
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(f"host=127.0.0.1 port={own} user=postgres dbname=postgres").close()
            break
        time.sleep(0.1)
    yield own
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


CLIENTS = 1000 if "ALL_FAULTS" in os.environ else 150
"""All of them take three minutes."""


def test_many_clients_share_twenty_connections(postgres: PostgresServer, pooler: int, tmp_path: Path) -> None:
    """Each a worker of its own: it joins, takes a trial, reports, finishes."""
    spec = tiny_spec(tmp_path)
    direct = postgres.new_database()
    study = open_study(direct, "s", spec, "data", CLIENTS)
    url = direct.replace(f":{postgres.port}/", f":{pooler}/")
    errors: list[BaseException] = []
    gate = threading.Semaphore(200)  # all are connected, so many are busy at once

    def client(number: int) -> None:
        try:
            with gate:
                worker, claims = join_study(url, "s", f"elsewhere:{number}:aa", CLIENTS)
                worker.sampler = optuna.samplers.RandomSampler()
            barrier.wait()
            with gate:
                trial = worker.ask()
                x = trial.suggest_float("x", 0, 1)
                trial.report(x, 1)
                claims.finish(trial._trial_id, TrialState.COMPLETE, x, {"outcome": "complete"})
                claims.engine.dispose()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    barrier = threading.Barrier(CLIENTS)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    name, connections = direct.rpartition("/")[2], 0
    while any(thread.is_alive() for thread in threads):
        rows = postgres.admin(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")
        connections = max(connections, rows[0][0])
        time.sleep(0.5)
    assert not errors, errors[0]
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(CLIENTS))
    assert all(trial.state == TrialState.COMPLETE and len(trial.params) == 1 for trial in trials)
    assert connections <= 20 + 2, "and the two that this test has itself"


def test_tables_and_studies_are_made_through_the_pooler_once(
    postgres: PostgresServer, pooler: int, tiny: StudySpec
) -> None:
    """Eight at once on an empty database; the lock is nobody's afterwards, though sessions live on."""
    direct = postgres.new_database()
    url = direct.replace(f":{postgres.port}/", f":{pooler}/")
    with ThreadPoolExecutor(8) as pool:
        opening = [pool.submit(open_study, url, "s", tiny, "data", 5) for _ in range(8)]
        studies = [opened.result() for opened in opening]
    assert postgres.admin("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert optuna.get_all_study_names(studies[0]._storage) == ["s"]
