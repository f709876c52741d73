"""Values that several test files share."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mariadb_server import MariaServer
from postgres_server import PostgresServer

from models.architecture import BLOCKS, HEADS, INITS, NORMS, PADDINGS, TRANSITIONS, Architecture, Stage
from search.spec import StudySpec
from search.studyfile import load_spec


def sample_architectures(count: int, seed: int = 0) -> list[Architecture]:
    """Valid architectures from all over the family, small enough to run."""
    rng = random.Random(seed)
    found: list[Architecture] = []
    while len(found) < count:
        widths = sorted(rng.choice([1, 3, 4, 6, 8]) for _ in range(rng.randint(1, 4)))
        try:
            architecture = Architecture(
                image_shape=(rng.randint(1, 4), rng.randint(1, 33), rng.randint(1, 33)),
                classes=rng.randint(2, 12),
                block=rng.choice(BLOCKS),
                stages=tuple(Stage(width=width, blocks=rng.randint(1, 3)) for width in widths),
                norm=rng.choice(NORMS),
                init=rng.choice(INITS),
                zero_branch=rng.random() < 0.5,
                kernel=rng.choice([1, 3, 5]),
                padding=rng.choice(PADDINGS),
                stem_pool=rng.random() < 0.3,
                transition=rng.choice(TRANSITIONS),
                head=rng.choice(HEADS),
            )
        except ValueError as error:
            assert "would shrink below 1 pixel" in str(error)  # noqa: PT017 - no other rule may refuse these
            continue
        found.append(architecture)
    return found


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not into the folder of the person who runs the tests."""
    monkeypatch.setenv("ARCHSEARCH_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture(scope="session")
def architectures() -> list[Architecture]:
    return sample_architectures(100)


TINY = """
[data]
name = "digits"
limit = 200
[space]
blocks = {low = 1, high = 3}
widths = [[4, 6]]
norm = ["none", "batch"]
lr_sgd = {low = 0.01, high = 0.1, log = true}
[train]
epochs = 3
batch_size = 32
[search]
pruner = "none"
"""
"""A study whose trials take a tenth of a second."""


@pytest.fixture
def tiny(tmp_path: Path) -> StudySpec:
    return tiny_spec(tmp_path)


def tiny_spec(folder: Path, *changes: tuple[str, str]) -> StudySpec:
    text = TINY
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "tiny.toml"
    path.write_text(text)
    return load_spec(path)


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
