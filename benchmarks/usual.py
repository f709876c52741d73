"""A search as it comes, and its trials once more as Optuna's own PyTorch example would train them."""

from __future__ import annotations

import statistics
import tempfile

from benchmarks.processes import Search, epochs_of, per_hour, run
from benchmarks.table import Goal, Table, ratios, spread

FACTOR = 3.0
"""Goal: this many times the usual way's trials per hour."""
THREADS = {0: "torch's default threads", 1: "1 thread"}


def measure(
    trials: int = 100, rounds: int = 1, study: str | None = None, threads: tuple[int, ...] = (0, 1)
) -> Table:
    """`study`: text of a study file instead of digits' default one; `threads`: of torch in the usual way, the
    goal's first."""
    ways = {THREADS[count]: count for count in threads}
    table = Table(
        f"{trials} trials of a default search, and the same ones the usual way",
        "Digits' default study: TPE, Hyperband, 15 epochs, two workers. The usual way trains the very same "
        "configurations, each for as many epochs as ours was before it ended or was pruned, in one process, "
        f"`study.optimize(n_jobs=2)`; it suggests and prunes nothing. Start-up included, n = {rounds} "
        "searches, each followed by the usual ways; median, least and most.",
        ("how", "wall, s", "CPU, s", "trials per hour", "ours against it"),
    )
    walls: dict[str, list[float]] = {"ours": [], **{how: [] for how in ways}}
    cpus: dict[str, list[float]] = {how: [] for how in walls}
    epochs = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            search = Search(folder, study)
            ran = {"ours": search.run(trials, workers=2)}
            epochs.append(epochs_of(search.trials()))
            for how, count in ways.items():
                ran[how] = run(["benchmarks.usual_way", search.url, search.name, str(count)], search.env)
        for how, one in ran.items():
            walls[how].append(one.wall)
            cpus[how].append(one.cpu)
    for how in walls:
        table.add(
            "archsearch, 2 workers" if how == "ours" else f"usual, {how}", spread(walls[how], 1),
            spread(cpus[how], 1), spread([per_hour(trials, wall) for wall in walls[how]], 0),
            "" if how == "ours" else spread(ratios(walls[how], walls["ours"]), 2, "x"),
        )  # fmt: skip
    table.notes.append(f"Epochs trained in each search: {', '.join(map(str, epochs))}.")
    found = {how: ratios(walls[how], walls["ours"]) for how in ways}
    table.goals.append(
        Goal(
            f"{FACTOR:g} times the usual way in trials per hour, {trials} trials of the default search",
            "; ".join(f"{spread(values, 2, 'x')} with {how}" for how, values in found.items()),
            statistics.median(found[THREADS[threads[0]]]) >= FACTOR,
        )
    )
    return table
