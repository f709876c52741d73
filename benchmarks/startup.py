"""How long until something is trained: of a worker, of the whole command, of the usual way. Linux."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from benchmarks.processes import ROOT, Search, run
from benchmarks.table import Goal, Table, spread
from search.data.datasets import load
from search.spec.study_file import find_study, load_spec
from search.storage.studies import open_study

DEADLINE = 300.0
"""Seconds after which a search that trains nothing is taken for broken."""


def measure(repeats: int = 5, workers: int = 2, study: str | None = None) -> Table:
    """`study`: text of a study file in place of digits' default one."""
    table = Table(
        "Start-up, seconds of wall time",
        f"Of a fresh process, digits' default study, an empty SQLite database, n = {repeats} in turns; "
        "median, least and most.",
        ("what", "everything is imported", "the first training step is done", "an epoch is in the database"),
    )
    if not Path("/proc/self/stat").exists():
        table.unmeasured.append("start-up: this system does not tell when a process began")
        return table
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ours: list[list[float]] = []
    usual: list[list[float]] = []
    commands: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Search(folder, study, "source")
        spec = load_spec(find_study(source.study))
        source.run(trials=1, workers=1)  # what the usual way will train; and the disk cache is filled
        for turn in range(repeats):
            commands.append(_first_epoch(Search(folder, study, f"command{turn}"), workers))
            worker = Search(folder, study, f"worker{turn}")
            open_study(worker.url, worker.name, spec, load(spec.data).fingerprint(), trials=4)
            ours.append(_first_step("ours", worker))
            usual.append(_first_step("usual", source))
    for what, found in (("a worker of ours", ours), ("the usual way", usual)):
        imported, stepped = zip(*found, strict=True)
        table.add(what, spread(imported, 2), spread(stepped, 2), "")
    table.add(f"`python -m search.run --workers {workers}`", "", "", spread(commands, 2))
    table.notes.append("The usual way imports torch, torchvision and optuna.")
    table.goals.append(
        Goal("from `python -m search.run` to the first finished epoch", spread(commands, 1, " s"), None)
    )
    return table


def _first_step(way: str, search: Search) -> list[float]:
    ran = run(["benchmarks.first_step", way, search.url, search.name], search.env)
    return [float(word) for word in ran.output.split()]


def _first_epoch(search: Search, workers: int) -> float:
    """Seconds until the command's database has one; then the command is stopped."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *search.words(trials=4, workers=workers)], env=search.env, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not _has_epoch(search.url.removeprefix("sqlite:///")):
            if process.poll() not in (None, 0) or time.perf_counter() - began > DEADLINE:
                raise RuntimeError("python -m search.run trained no epoch")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _has_epoch(path: str) -> bool:
    if Path(path).exists():
        with (
            contextlib.suppress(sqlite3.OperationalError),  # its tables are being made
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection,
        ):
            return bool(connection.execute("SELECT 1 FROM trial_intermediate_values LIMIT 1").fetchone())
    return False
