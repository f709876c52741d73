"""The stack of docker-compose.yml on a real engine: `docker build -t archsearch .`, `pytest -m compose`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import REPOSITORY

pytestmark = [pytest.mark.compose, pytest.mark.slow]

COMPOSE = str(Path(sys.executable).parent / "docker-compose")
STUDY = """
[data]
name = "digits"
limit = 400
[space]
blocks = {low = 1, high = 2}
widths = [[8, 16]]
norm = ["batch"]
lr_sgd = {low = 0.01, high = 0.1, log = true}
[train]
epochs = 30
[search]
pruner = "none"
"""
TEST = """
services:
  worker:
    volumes: ["./tiny.toml:/app/studies/tiny.toml:ro"]
"""
TRIALS = 60


def docker(*words: str, check: bool = True, **more: Any) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, **more)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + ("" if check else done.stderr)


def why_not() -> str:
    if shutil.which("docker") is None:
        return "no docker"
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no container engine answers"
    if subprocess.run(["docker", "image", "inspect", "archsearch:latest"], capture_output=True).returncode:
        return "no image: docker build -t archsearch ."
    return ""


class Stack:
    """A project of its own, on a free port, with secrets of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, f"test{uuid.uuid4().hex[:8]}"
        for name in ("docker-compose.yml", "docker-compose.join.yml"):
            shutil.copy(REPOSITORY / name, folder)
        shutil.copytree(REPOSITORY / "deploy", folder / "deploy")
        (folder / "tiny.toml").write_text(STUDY)
        (folder / "test.yml").write_text(TEST)
        words = [sys.executable, "-m", "search.secrets", "--folder", str(folder / "secrets")]
        made = subprocess.run(words, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout
        self.login = tuple(made.split("login of the dashboard: ")[1].split("   ")[0].split(" / "))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.env = {
            **os.environ, "PORT": str(self.port), "STUDY": "tiny", "TRIALS": str(TRIALS),
            "ARCHSEARCH_HEARTBEAT": "1", "ARCHSEARCH_GRACE": "6", "HOST": "localhost",
        }  # fmt: skip

    def compose(self, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        files = ["-f", "docker-compose.yml", "-f", "test.yml"]
        return subprocess.run(
            [COMPOSE, "-p", self.project, *files, *words],
            env=self.env, cwd=self.folder, check=True, capture_output=True, **more,
        )  # fmt: skip

    def up(self) -> None:
        self.compose("up", "-d", "--no-build", "--scale", "worker=3")

    def ids(self, *service: str) -> list[str]:
        return self.compose("ps", "-aq", *service).stdout.decode().split()

    def inspect(self, *service: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(docker("inspect", *self.ids(*service)))
        return found

    def sql(self, query: str, role: str = "owner") -> str:
        """The answer as text; what the server refuses, as its message."""
        [db] = self.ids("db")
        line = f"PGPASSWORD=$(cat /run/secrets/db_{role}) psql -h 127.0.0.1 -U archsearch_{role} "
        line += '-At archsearch -c "$0"'
        return docker("exec", db, "bash", "-c", line, query, check=False).strip()

    def states(self) -> dict[str, int]:
        rows = self.sql("SELECT state, count(*) FROM trials GROUP BY state").split()
        return {state: int(count) for state, count in (row.split("|") for row in rows if "|" in row)}

    def done(self) -> int:
        return self.states().get("COMPLETE", 0)

    def answer(
        self, path: str, login: tuple[str, ...] | None = None, method: str = "GET"
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Host", "localhost")
        if login:
            token = base64.b64encode(":".join(login).encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return int(response.status), response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def until(true: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


def running(container: dict[str, Any]) -> bool:
    return bool(container["State"]["Running"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if reason := why_not():
        pytest.skip(f"THE COMPOSE STACK WAS NOT RUN: {reason}")
    made = Stack(tmp_path_factory.mktemp("stack"))
    try:
        made.up()
        until(lambda: made.inspect("gateway")[0]["State"].get("Health", {}).get("Status") == "healthy")
        yield made
    finally:
        made.compose("--profile", "tools", "down", "-v", "--remove-orphans")


def test_a_killed_worker_is_replaced_and_its_trial_goes_on(stack: Stack) -> None:
    until(lambda: stack.done() >= 3)
    worker = stack.ids("worker")[0]
    kill = (
        "import os, pathlib, signal\n"
        "pids = [int(p.parent.name) for p in pathlib.Path('/proc').glob('[0-9]*/cmdline')\n"
        "        if b'search.run' in p.read_bytes() and int(p.parent.name) not in (1, os.getpid())]\n"
        "[os.kill(pid, signal.SIGKILL) for pid in pids]\n"
    )
    restarts = json.loads(docker("inspect", worker))[0]["RestartCount"]
    docker("exec", worker, "python", "-c", kill)
    until(lambda: json.loads(docker("inspect", worker))[0]["RestartCount"] > restarts)
    until(lambda: stack.states().get("RUNNING", 0) == 3)
    assert "FAIL" not in stack.states()


def test_stop_puts_the_trial_back_and_ends_with_0(stack: Stack) -> None:
    worker = stack.ids("worker")[1]
    docker("stop", "--time", "60", worker)
    state = json.loads(docker("inspect", worker))[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert stack.states().get("RUNNING", 0) <= 2
    assert "FAIL" not in stack.states()


def test_a_database_that_restarts_costs_no_worker_and_no_trial(stack: Stack) -> None:
    alive = {c["Id"]: c["RestartCount"] for c in stack.inspect("worker") if running(c)}
    assert len(alive) == 2
    before = stack.done()
    docker("restart", "--time", "30", *stack.ids("db"))
    until(lambda: stack.done() > before + 1)
    now = {c["Id"]: c["RestartCount"] for c in stack.inspect("worker") if running(c)}
    assert now == alive
    assert "FAIL" not in stack.states()


def test_roles_may_do_what_they_need_alone(stack: Stack) -> None:
    assert "permission denied" in stack.sql("CREATE TABLE x (y int)", "worker")
    assert "must be owner" in stack.sql("DROP TABLE trials", "worker")
    assert int(stack.sql("SELECT count(*) FROM trials", "viewer")) > 0
    for refused in ("DELETE FROM trials", "UPDATE trials SET state = 'FAIL'", "CREATE TABLE x (y int)"):
        assert "read-only transaction" in stack.sql(refused, "viewer")
        assert "permission denied" in stack.sql(f"SET TRANSACTION READ WRITE; {refused}", "viewer")


def test_containers_are_locked_down(stack: Stack) -> None:
    published = {}
    for container in stack.inspect():
        host, name = container["HostConfig"], container["Config"]["Labels"]["com.docker.compose.service"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert not host["Privileged"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root"), name
        if host["PortBindings"]:
            published[name] = [b["HostIp"] for ports in host["PortBindings"].values() for b in ports]
    assert published == {"gateway": ["127.0.0.1"]}


def test_workers_have_no_way_out(stack: Stack) -> None:
    """They do not even reach the next network, where a container that may download finds the gateway."""
    [gateway] = stack.inspect("gateway")
    address = gateway["NetworkSettings"]["Networks"][f"{stack.project}_edge"]["IPAddress"]
    line = f"import socket; socket.create_connection(({address!r}, 8080), 3); print('out')"
    entry = ["run", "--rm", "-T", "--entrypoint", "python", "fetch", "-c", line]
    assert stack.compose(*entry).stdout.strip() == b"out"
    for service in ("worker", "dashboard"):
        container = next(c["Id"] for c in stack.inspect(service) if running(c))
        said = docker("exec", container, "python", "-c", line, check=False)
        assert "TimeoutError" in said or "unreachable" in said, service


def test_the_gateway_wants_a_login_and_lets_nobody_write(stack: Stack) -> None:
    assert stack.answer("/api/studies")[0] == 401
    assert stack.answer("/api/studies", ("admin", "wrong"))[0] == 401
    status, body = stack.answer("/api/studies", stack.login)
    assert status == 200
    [study] = json.loads(body)["study_summaries"]
    assert stack.answer(f"/api/studies/{study['study_id']}", stack.login, "DELETE")[0] == 403
    assert stack.sql("SELECT study_name FROM studies") == "tiny"


def test_all_is_done_once_and_nothing_failed(stack: Stack) -> None:
    docker("start", stack.ids("worker")[1])
    until(lambda: not any(running(c) for c in stack.inspect("worker")), 600)
    assert stack.states() == {"COMPLETE": TRIALS}
    assert [c["State"]["ExitCode"] for c in stack.inspect("worker")] == [0, 0, 0]
    numbers = [int(n) for n in stack.sql("SELECT number FROM trials ORDER BY number").split()]
    assert numbers == list(range(TRIALS))


def test_up_again_changes_nothing(stack: Stack) -> None:
    others = {service: stack.ids(service) for service in ("db", "dashboard", "gateway")}
    stack.up()
    until(lambda: not any(running(c) for c in stack.inspect("worker")))
    assert {service: stack.ids(service) for service in others} == others
    assert stack.states() == {"COMPLETE": TRIALS}


def test_a_backup_brings_all_rows_back(stack: Stack) -> None:
    tables = ("studies", "trials", "trial_values", "trial_intermediate_values", "trial_user_attributes")
    counts = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    before = stack.sql(counts)
    dump = stack.compose("run", "--rm", "-T", "backup").stdout
    assert dump.startswith(b"PGDMP")
    stack.sql("TRUNCATE studies CASCADE")
    assert stack.sql(counts) == "0|0|0|0|0"
    stack.compose("run", "--rm", "-T", "restore", input=dump)
    assert stack.sql(counts) == before
    assert stack.sql("SELECT count(*) FROM trials", "viewer") == str(TRIALS), "the roles' rights are back too"


def test_another_machine_may_join(stack: Stack) -> None:
    """It joins through the port that the override publishes, with the worker's password alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        stack.env["DB_PORT"] = str(free.getsockname()[1])
    stack.compose("-f", "docker-compose.join.yml", "up", "-d", "--no-build", "db")
    url = f"postgresql+psycopg://archsearch_worker@127.0.0.1:{stack.env['DB_PORT']}/archsearch"
    until(
        lambda: "accepting" in docker("exec", *stack.ids("db"), "pg_isready", "-h", "127.0.0.1", check=False)
    )
    words = ["--study", str(stack.folder / "tiny.toml"), "--trials", str(TRIALS), "--storage", url]
    env = os.environ | {"OPTUNA_STORAGE_PASSWORD_FILE": str(stack.folder / "secrets" / "db_worker")}
    done = subprocess.run(
        [sys.executable, "-m", "search.run", *words],
        env=env, capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{TRIALS} of {TRIALS} trials done" in done.stdout


def test_no_secret_is_in_logs_commands_or_environments(stack: Stack) -> None:
    """No secret is in the environment of any process either: `docker inspect` shows what a container is
    given."""
    secrets = [path.read_text().strip().split(":", 1)[-1] for path in (stack.folder / "secrets").iterdir()]
    said = json.dumps(stack.inspect()) + stack.compose("logs").stdout.decode()
    said += "".join(docker("top", c["Id"], "-eo", "pid,args") for c in stack.inspect() if running(c))
    assert len(said) > 10_000
    for secret in [*secrets, stack.login[1]]:
        assert secret not in said
