"""n workers against one, while all of them have work: neither start-up nor the last trial's tail."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from datetime import datetime

from optuna.trial import FrozenTrial

from benchmarks.processes import Search
from benchmarks.table import Goal, Table, ratios, spread

SHARE = 0.92
"""Goal: this share of n times one worker's speed."""
STUDY = """
[data]
name = "digits"
[space]
block = ["residual"]
blocks = 3
widths = [16, 32, 32]
norm = "batch"
init = "he"
optimizer = "sgd"
lr_sgd = {low = 0.01, high = 0.1, log = true}
transition = "pool"
head = "flatten"
[train]
epochs = %d
[search]
sampler = "random"
pruner = "none"
"""
"""Trials that cost the same: else two workers, whose end is cut off, may have had an easier mix than one."""


def measure(trials: int = 16, rounds: int = 3, counts: tuple[int, ...] = (1, 2), epochs: int = 15) -> Table:
    table = Table(
        "Workers",
        f"{trials} trials of one network (21 convs, digits, {epochs} epochs) with learning rates of their "
        "own, trained by each number of workers in turns. Epochs per second from when the last "
        f"worker has its first trial until one finds nothing more to do; n = {rounds}, median, least and "
        "most.",
        ("workers", "epochs per second", "against one", "share of n"),
    )
    speeds = dict[int, list[float]]((count, []) for count in counts)
    for _ in range(rounds):
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                search = Search(folder, STUDY % epochs)
                search.run(trials, count)
                speeds[count].append(steady_speed(search.trials(), count))
    for count in counts:
        gains = ratios(speeds[count], speeds[counts[0]])
        shares = [gain / count for gain in gains]
        table.add(str(count), spread(speeds[count], 2), spread(gains, 2, "x"), spread(shares, 3))
        if count > 1:
            table.goals.append(
                Goal(
                    f"{count} workers at least {SHARE:g} n times as fast as one, while all have work",
                    f"{spread(shares, 3)} n",
                    statistics.median(shares) >= SHARE,
                )
            )
    return table


def steady_speed(trials: list[FrozenTrial], workers: int) -> float:
    """Epochs per second of all workers while each has a trial. An unfinished share of a trial counts as that
    share of its epochs. Raises ValueError when there was no such time."""
    spans = defaultdict[str, list[tuple[datetime, datetime, int]]](list)
    for t in trials:
        if t.datetime_start and t.datetime_complete:
            worker = t.user_attrs["worker"]
            spans[worker].append((t.datetime_start, t.datetime_complete, t.user_attrs["epochs"]))
    began = max(min(start for start, _, _ in mine) for mine in spans.values())
    ended = min(max(end for _, end, _ in mine) for mine in spans.values())
    seconds = (ended - began).total_seconds()
    if len(spans) != workers or seconds <= 0:
        raise ValueError(
            f"{len(spans)} of {workers} workers were at work at one time: more trials are needed"
        )
    epochs = 0.0
    for start, end, trained in (span for mine in spans.values() for span in mine):
        inside = (min(end, ended) - max(start, began)).total_seconds()
        epochs += trained * max(0.0, inside) / (end - start).total_seconds()
    return epochs / seconds
