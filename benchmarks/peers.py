"""The same trials run by us and by Ray Tune, with two processes each and the images in memory; and a search
of each."""

from __future__ import annotations

import json
import statistics
import tempfile
from importlib.util import find_spec
from typing import Any

from benchmarks.processes import Search, digits, epochs_of, per_hour, run, seconds_of
from benchmarks.table import Goal, Table, ratios, spread

WAYS = {"Ray Tune": "list", "Ray Tune, reuse_actors": "reuse"}


def measure(trials: int = 24, rounds: int = 2, epochs: int = 15) -> Table:
    table = Table(
        f"{trials} trials by Ray Tune",
        f"The same configurations for the same epochs ({epochs}; those that diverge end early with us "
        "and are trained as far by Ray), none pruned, images in memory, two processes with a core and a "
        "thread each. Ray starts locally, without its dashboard, and makes a process for each trial; "
        f"with `reuse_actors` two stay. n = {rounds} in turns; median, least and most. Without start-up: "
        "from the first trial's start to the last one's end.",
        (
            "how",
            "wall, s",
            "trials per hour",
            "without start-up",
            "epochs",
            "ours against it",
            "without start-up",
        ),
    )
    if find_spec("ray") is None:
        table.unmeasured.append("Ray Tune: needs `pip install -e '.[benchmarks]'`")
        return table
    epochs_too = ("epochs = 15", f"epochs = {epochs}")
    fixed = digits(('"tpe"', '"random"'), ('"hyperband"', '"none"'), epochs_too)
    names = ["archsearch", *WAYS]
    walls: dict[str, list[float]] = {name: [] for name in names}
    inner: dict[str, list[float]] = {name: [] for name in names}
    trained: dict[str, int] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            search = Search(folder, fixed)
            walls["archsearch"].append(search.run(trials, workers=2).wall)
            found = search.trials()
            inner["archsearch"].append(seconds_of(found))
            trained["archsearch"] = epochs_of(found)
            for name, mode in WAYS.items():
                wall, told = _ray(search, mode)
                walls[name].append(wall)
                inner[name].append(told["seconds"])
                trained[name] = told["epochs"]
    for name in names:
        against = [spread(ratios(times[name], times["archsearch"]), 2, "x") for times in (walls, inner)]
        table.add(
            name, spread(walls[name], 1), *_speeds(trials, walls[name], inner[name]), str(trained[name]),
            *(["", ""] if name == "archsearch" else against),
        )  # fmt: skip
    _add_searches(table, trials, digits(epochs_too))
    _add_goals(table, walls, inner)
    return table


def _speeds(trials: int, *times: list[float]) -> list[str]:
    return [spread([per_hour(trials, seconds) for seconds in each], 0) for each in times]


def _ray(search: Search, mode: str) -> tuple[float, dict[str, Any]]:
    ran = run(["benchmarks.ray_way", search.url, search.name, mode], search.env)
    return ran.wall, json.loads(ran.output.splitlines()[-1])


def _add_searches(table: Table, trials: int, study: str) -> None:
    """Each as it comes: they draw other networks and prune otherwise, so no ratio is given."""
    with tempfile.TemporaryDirectory() as folder:
        search = Search(folder, study)
        wall, found = search.run(trials, workers=2).wall, search.trials()
        other_wall, told = _ray(search, "search")
    rows = (
        ("another search: archsearch, TPE, Hyperband", wall, seconds_of(found), epochs_of(found)),
        ("another search: Ray Tune, OptunaSearch, ASHA", other_wall, told["seconds"], told["epochs"]),
    )
    for name, whole, inside, count in rows:
        table.add(name, f"{whole:.1f}", *_speeds(trials, [whole], [inside]), str(count), "", "")
    table.notes.append(
        "The other searches draw their own networks, of other depths and cost, and prune at other epochs; "
        "one run each. ASHA with its defaults but reduction_factor = 3."
    )


def _add_goals(table: Table, walls: dict[str, list[float]], inner: dict[str, list[float]]) -> None:
    for name in WAYS:
        whole, inside = (ratios(times[name], times["archsearch"]) for times in (walls, inner))
        table.goals.append(
            Goal(
                f"the same trials, per hour, against {name}: at least as many",
                f"{spread(whole, 2, 'x')}; without start-up {spread(inside, 2, 'x')}",
                statistics.median(whole) >= 1 and statistics.median(inside) >= 1,
            )
        )
