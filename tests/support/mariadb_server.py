"""A real MariaDB on a free port of the loopback address, gone after the tests: Debian's mariadb-server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any, Self

import pymysql  # type: ignore[import-untyped]

from tests.support.postgres_server import start_server


class MariaServer:
    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": 65534, "group": 65534, "extra_groups": []}
            os.chown(self.folder, 65534, 65534)
        data = f"--datadir={self.folder}/data"
        install = ["mariadb-install-db", "--no-defaults", data, "--auth-root-authentication-method=normal"]
        done = subprocess.run(install, capture_output=True, text=True, cwd="/", **user)
        assert done.returncode == 0, done.stdout + done.stderr
        words = [
            f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder}/socket",
            f"--pid-file={self.folder}/pid", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin",
        ]  # fmt: skip
        program = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        self.process = start_server(
            [program, "--no-defaults", data, *words],
            user,
            lambda: self._admin("SELECT 1"),
            pymysql.err.OperationalError,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # nothing in it is worth an orderly end, which takes ten seconds
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _admin(self, statement: str) -> None:
        with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as connection:
            connection.cursor().execute(statement)

    def new_database(self) -> str:
        name = f"test_{uuid.uuid4().hex[:8]}"
        self._admin(f"CREATE DATABASE {name}")
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}"
