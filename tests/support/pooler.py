"""A real PgBouncer before a PostgreSQL: 20 connections for all of its clients, each for a transaction."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from tests.support.postgres_server import PostgresServer, start_server

CONNECTIONS = 20
SETTINGS = """
[databases]
* = host=127.0.0.1 port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = any
pool_mode = transaction
max_client_conn = 1200
default_pool_size = {connections}
server_tls_sslmode = disable
unix_socket_dir =
logfile = {folder}/log
"""


class Pooler:
    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
        if program is None:
            message = "NOT TESTED WITH PGBOUNCER: install pgbouncer"
            pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
        self.folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))  # nobody may not read the folders of root
        text = SETTINGS.format(
            port=self.server.port, own=self.port, folder=self.folder, connections=CONNECTIONS
        )
        (self.folder / "ini").write_text(text)
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": 65534, "group": 65534, "extra_groups": []}
            os.chown(self.folder, 65534, 65534)
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        self.process = start_server(
            [program, str(self.folder / "ini")],
            user,
            lambda: psycopg.connect(where).close(),
            psycopg.OperationalError,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # later versions would wait for their clients
        self.process.wait()
        shutil.rmtree(self.folder)

    def before(self, url: str) -> str:
        """The URL of the same database by way of the pooler."""
        return url.replace(f":{self.server.port}/", f":{self.port}/")
