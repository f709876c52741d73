"""Real searches, run as a person runs them and kept: `python -m search.run` into a database in
benchmarks/pool, which git ignores. What is there is read, what lacks is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study

from benchmarks.curves import POOL
from benchmarks.processes import Search, digits
from search.storage.connections import watch
from search.storage.studies import find
from search.storage.trial_record import TrialRecord, records_of

TRIALS, WORKERS = 100, 2
DATABASE = f"sqlite:///{POOL / 'searches.db'}"
SPENT = POOL / "searches.jsonl"
"""CPU seconds of each command with all its processes, by the name of the study."""
KINDS = {
    "digits": "",
    "matched": 'design = "matched"\npruner = "hyperband"\n',
    "free": 'design = "free"\npruner = "median"\n',
}
"""What their study files add to [search], by the names of their searches: nothing; what the default was
before; the block as one parameter among others, with stock TPE and a median pruner."""


@dataclass(frozen=True)
class Searched:
    """A search that is over."""

    study: Study
    trials: Sequence[TrialRecord]
    cpu_seconds: float


def searched(kind: str, seed: int) -> Searched:
    """The search of a kind and seed, run now unless it is on file."""
    POOL.mkdir(exist_ok=True)
    name = f"{kind}-{seed}"
    command = Search(str(POOL), digits(("seed = 0\n", f"seed = {seed}\n{KINDS[kind]}")), name)
    command.url = DATABASE
    spent = _spent()
    if name not in spent:
        spent[name] = command.run(TRIALS, WORKERS).cpu
        with SPENT.open("a") as file:
            file.write(json.dumps({"name": name, "cpu_seconds": round(spent[name], 1)}) + "\n")
    study = find(watch(DATABASE, writes=False), name)
    return Searched(study, records_of(study), spent[name])


def _spent() -> dict[str, float]:
    lines = SPENT.read_text().splitlines() if SPENT.exists() else []
    return {run["name"]: run["cpu_seconds"] for run in map(json.loads, lines)}
