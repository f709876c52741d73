"""Peak memory of a worker, of a search with two workers, and of the usual way's one process. Linux."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ROOT, Search
from benchmarks.table import Goal, Table

SAMPLE_SECONDS = 0.2


@dataclass
class Peaks:
    """Peak memory in MiB. `resident`: the most of each process, by what it runs; `together`: the most of all
    at one time, pages that several share counted once."""

    resident: dict[str, list[float]] = field(default_factory=dict)
    together: float = 0.0


def measure(trials: int = 8, study: str | None = None) -> Table:
    """`study`: text of a study file in place of digits' default one."""
    table = Table(
        "Peak memory",
        f"{trials} trials of digits' default study, then the same ones the usual way; looked at every "
        f"{SAMPLE_SECONDS:g} s. Resident: a process's own peak, shared libraries included. Together: all "
        "processes of the command, shared pages counted once.",
        ("what", "resident, MiB", "together, MiB"),
    )
    if not Path("/proc/self/smaps_rollup").exists():
        table.unmeasured.append("peak memory: this system tells no process's proportional share")
        return table
    with tempfile.TemporaryDirectory() as folder:
        search = Search(folder, study)
        ours = _peaks(search.words(trials, workers=2), search.env)
        usual = _peaks(["benchmarks.usual_way", search.url, search.name, "1"], search.env)
    shown = lambda peaks, name: ", ".join(f"{most:,.0f}" for most in peaks.resident.get(name, []))  # noqa: E731
    table.add("archsearch, each worker", shown(ours, "search.workers.worker"), "")
    table.add("archsearch, the command", shown(ours, "search.run"), f"{ours.together:,.0f}")
    table.add("usual way, two threads", shown(usual, "benchmarks.usual_way"), f"{usual.together:,.0f}")
    workers = ours.resident.get("search.workers.worker", [])
    if workers:
        measured = f"{max(workers):,.0f} MiB a worker, {ours.together:,.0f} MiB in all (usual way "
        table.goals.append(
            Goal("memory of a search with 2 workers", f"{measured}{usual.together:,.0f} MiB)", None)
        )
    return table


def _peaks(words: list[str], env: dict[str, str]) -> Peaks:
    """Peak memory of `python -m words` and all its descendants."""
    peaks, most = Peaks(), dict[int, tuple[str, float]]()
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        together = 0.0
        for pid in _descendants(process.pid):
            try:
                together += _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") / 1024
                most[pid] = (_module(pid), _kilobytes(f"/proc/{pid}/status", "VmHWM:") / 1024)
            except (OSError, LookupError):  # it has ended meanwhile
                continue
        peaks.together = max(peaks.together, together)
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"python -m {words[0]} ended with {process.returncode}")
    for module, megabytes in most.values():
        peaks.resident.setdefault(module, []).append(megabytes)
    return peaks


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name in brackets may hold anything; after it come state and parent
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [root]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _kilobytes(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(name)


def _module(pid: int) -> str:
    """The module that `python -m` runs."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index("-m") + 1] if "-m" in words else words[0]
