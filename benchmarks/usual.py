"""The same trials run by us, and as Optuna's own PyTorch example runs them: DataLoader, torchvision's
transforms on single images, a fresh model per trial, threads by n_jobs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Table

TRIALS = 24
STUDY = """
[data]
name = "digits"
[space]
blocks = {low = 1, high = 9, log = true}
widths = [[8, 16, 32], [16, 32], [16, 32]]
norm = ["none", "batch"]
init = ["default", "he"]
optimizer = ["sgd", "adamw"]
lr_sgd = {low = 1e-3, high = 0.3, log = true}
lr_adamw = {low = 1e-4, high = 1e-2, log = true}
max_params = 2_000_000
transition = "pool"
head = "flatten"
[train]
epochs = 5
[search]
sampler = "random"
pruner = "none"
"""


def measure() -> Table:
    table = Table(
        f"{TRIALS} trials of the digits' space, 5 epochs each, start-up included",
        "The same configurations and epochs: drawn by the first line, none pruned. The usual way: one "
        "process, `study.optimize(n_jobs=2)`, torch's own choice of threads, then with one thread.",
        ("how", "wall, s", "CPU, s", "trials per hour", "against the usual way"),
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "same.toml").write_text(STUDY)
        url = f"sqlite:///{folder}/search.db"
        env = os.environ | {
            "ARCHSEARCH_CHECKPOINTS": f"{folder}/checkpoints", "ARCHSEARCH_ARTIFACTS": f"{folder}/artifacts",
        }  # fmt: skip
        words = ["search.run", "--study", f"{folder}/same.toml", "--trials", str(TRIALS), "--quiet"]
        lines = []
        for workers in (2, 1):
            here = url.replace("search.db", f"search{workers}.db")
            run = [*words, "--storage", here, "--workers", str(workers)]
            lines.append((f"archsearch, {workers} workers", *_timed(run, env)))
        for threads in ("", "1"):
            how = ["benchmarks.usual_way", url.replace("search.db", "search2.db"), threads]
            lines.append((f"usual, {threads or 'default'} threads", *_timed(how, env)))
    usual = lines[2][1]
    for name, wall, cpu in lines:
        table.add(name, f"{wall:.1f}", f"{cpu:.1f}", f"{3600 * TRIALS / wall:,.0f}", f"{usual / wall:.2f}x")
    table.notes.append(
        f"Two workers against one: {lines[1][1] / lines[0][1]:.2f}x in wall time, start-up included."
    )
    return table


def _timed(words: list[str], env: dict[str, str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], check=True, env=env, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu
