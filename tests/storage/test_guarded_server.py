"""A PostgreSQL that asks for a password: where it is taken from, and that nobody sees it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.errors import DatabaseError, SpecError
from search.spec.study import StudySpec
from search.storage.connections import watch
from search.storage.internals import study_id_of, trial_id_of
from search.storage.leases import worker_name
from search.storage.studies import open_study
from tests.support.claims import joined
from tests.support.paths import REPOSITORY
from tests.support.postgres_server import PostgresServer
from tests.support.studies import TINY

pytestmark = [pytest.mark.slow, pytest.mark.database]
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
    worker, claims = joined(url, worker_name(), 1)
    claims.finish(trial_id_of(worker.ask()), TrialState.COMPLETE, 0.5, {"outcome": "complete"})
    assert len(watch(url, writes=False).get_all_trials(study_id_of(study))) == 1


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


@pytest.mark.process
def test_no_secret_is_seen_anywhere(guarded: PostgresServer, password_file: Path, tmp_path: Path) -> None:
    """None is seen in arguments, environment, output, files that the search leaves, tables, or the
    dashboard."""
    url = guarded.new_database()
    (tmp_path / "tiny.toml").write_text(TINY.replace("epochs = 3", "epochs = 60"))
    env = os.environ | {"OPTUNA_STORAGE": url, "ARCHSEARCH_CHECKPOINT_SECONDS": "0"}
    words = ["--study", str(tmp_path / "tiny.toml"), "--trials", "4", "--workers", "2"]
    search, seen = begun(["search.run", *words], env), []
    while search.poll() is None:
        for name in ("cmdline", "environ"):
            seen += [read(pid, name) for pid in [search.pid, *children(search.pid)]]
        with contextlib.suppress(FileNotFoundError):  # they come and go
            seen += [path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*.json")]
        time.sleep(0.1)
    seen.append(search.communicate()[0].encode())
    assert search.returncode == 0, seen[-1]
    assert any(b"search.workers.worker" in text for text in seen)
    database = url.rpartition("/")[2]
    for (table,) in guarded.admin("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database):
        seen += [str(row).encode() for row in guarded.admin(f"SELECT * FROM {table}", database)]
    activity = guarded.admin("SELECT application_name, query FROM pg_stat_activity")
    seen += [str(row).encode() for row in activity]
    dashboard = begun(["search.dashboard", "--port", "0"], env)
    assert dashboard.stdout is not None
    line = dashboard.stdout.readline()
    address = line.split(" shown at ")[1].split()[0]
    seen += [line.encode(), read(dashboard.pid, "cmdline"), read(dashboard.pid, "environ")]
    for page in ("", "api/studies", "api/studies/1", "api/meta", "nowhere"):
        with contextlib.suppress(urllib.request.HTTPError), urllib.request.urlopen(address + page) as answer:
            seen.append(answer.read())
    dashboard.terminate()
    seen.append(dashboard.communicate()[0].encode())
    assert len(seen) > 100
    for form in (SECRET, "s3cr3t"):
        assert not [text for text in seen if form.encode() in text]


def begun(words: list[str], env: dict[str, str]) -> subprocess.Popen[Any]:
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def children(pid: int) -> list[int]:
    return [int(child) for child in read(pid, f"task/{pid}/children").split()]
