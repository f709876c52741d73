"""Commands that are measured from outside: wall time, CPU, memory; and searches run as a person runs them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial

from search.spec.study_file import find_study
from search.storage.connections import watch
from search.storage.studies import find

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """Times of a command and all its children, in seconds."""

    wall: float
    cpu: float
    output: str


def run(words: list[str], env: dict[str, str]) -> Ran:
    """`python -m words`. Raises RuntimeError with the end of what it said when it failed."""
    before, began = _children_cpu(), time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", *words], env=env, cwd=ROOT, capture_output=True, text=True)
    wall = time.perf_counter() - began
    if ended.returncode:
        raise RuntimeError(f"python -m {words[0]} ended with {ended.returncode}: {ended.stderr[-1500:]}")
    return Ran(wall, _children_cpu() - before, ended.stdout)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clean_env(folder: str) -> dict[str, str]:
    """This one without settings of a person's own searches, and with their files in `folder`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPTUNA", "ARCHSEARCH"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    return env | {
        "PYTHONPATH": path,  # also for processes that start elsewhere, as Ray's do
        "ARCHSEARCH_CHECKPOINTS": f"{folder}/checkpoints",
        "ARCHSEARCH_ARTIFACTS": f"{folder}/artifacts",
        "ARCHSEARCH_DATA": os.environ.get("ARCHSEARCH_DATA") or str(ROOT / "data"),
    }


@dataclass
class Search:
    """`python -m search.run` into a database of its own."""

    folder: str
    text: str | None = None
    """A study file's; None: studies/digits.toml."""
    name: str = "search"
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        # checkpoints are named by the study: two searches of one folder would continue each other's
        self.env = clean_env(f"{self.folder}/{self.name}")
        self.study = "digits"
        if self.text is not None:
            self.study = f"{self.folder}/study.toml"
            Path(self.study).write_text(self.text)
        self.url = f"sqlite:///{self.folder}/{self.name}.db"

    def words(self, trials: int, workers: int) -> list[str]:
        return [
            "search.run", "--study", self.study, "--name", self.name, "--storage", self.url, "--quiet",
            "--device", "cpu", "--trials", str(trials), "--workers", str(workers),
        ]  # fmt: skip

    def run(self, trials: int, workers: int) -> Ran:
        """Raises RuntimeError when it was stopped before the study held so many trials that ended."""
        ran = run(self.words(trials, workers), self.env)
        ended = sum(trial.state.is_finished() for trial in self.trials())
        if ended < trials:  # a search that is told to stop ends with 0 as well
            raise RuntimeError(f"{self.name} was stopped after {ended} of {trials} trials")
        return ran

    def trials(self) -> list[FrozenTrial]:
        return find(watch(self.url, writes=False), self.name).get_trials(deepcopy=False)


def digits(*changes: tuple[str, str]) -> str:
    """Text of digits' default study, each old part, which it has once, replaced by the new one."""
    text = find_study("digits").read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def seconds_of(trials: list[FrozenTrial]) -> float:
    """Seconds from the first trial's start to the last one's end: no start-up of processes, no summary."""
    starts = [t.datetime_start for t in trials if t.datetime_start]
    ends = [t.datetime_complete for t in trials if t.datetime_complete]
    return (max(ends) - min(starts)).total_seconds()


def epochs_of(trials: list[FrozenTrial]) -> int:
    """Epochs that were trained to their end."""
    return sum(t.user_attrs.get("epochs", 0) for t in trials)


def per_hour(count: int, seconds: float) -> float:
    return 3600 * count / seconds
