"""Fixtures that several test files share, and what is slow."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from selenium import webdriver

from models.architecture import Architecture
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.spec.study import StudySpec
from tests.support.commands import Command
from tests.support.dashboard import a_browser
from tests.support.mariadb_server import MariaServer
from tests.support.postgres_server import PostgresServer
from tests.support.studies import sample_architectures, tiny_spec

SLOW = {"postgres": "database", "mariadb": "database", "command": "process", "browser": "browser"}
"""Fixtures that make a test slow, with the marker of what it needs."""


# ignored in the background of a script: the commands that are started here would inherit it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        needed = set(getattr(item, "fixturenames", ()))
        if "url" in needed and getattr(item, "callspec", None):  # which asks for a server when it is run
            needed.add(
                {"postgresql": "postgres", "mariadb": "mariadb"}.get(item.callspec.params.get("url"), "")
            )  # type: ignore[attr-defined]
        for fixture in needed & SLOW.keys():
            item.add_marker(SLOW[fixture])
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the folder of the person who runs the tests."""
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A command leaves its handlers of signals behind: in the process of the tests, SIGTERM would raise
    SystemExit in some later test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws from torch is the same at every run, in whatever order tests run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def architectures() -> list[Architecture]:
    return sample_architectures(100)


@pytest.fixture(scope="session")
def digits() -> TrainingData:
    torch.set_num_threads(1)
    parts = load(DataConfig(name="digits", val_fraction=0.25))
    return to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))


@pytest.fixture
def tiny(tmp_path: Path) -> StudySpec:
    return tiny_spec(tmp_path)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    command.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with a_browser(tmp_path) as browser:
        yield browser


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the product promises."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/search.db"
    server: PostgresServer | MariaServer = request.getfixturevalue(
        "postgres" if request.param == "postgresql" else "mariadb"
    )
    return server.new_database()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaServer]:
    if shutil.which("mariadb-install-db") is None:
        message = "NOT TESTED ON MARIADB: install mariadb-server"
        pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    with MariaServer() as server:
        yield server
