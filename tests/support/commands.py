"""Commands as a person runs them: real processes, a real database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from optuna.trial import FrozenTrial

from tests.support.paths import REPOSITORY
from tests.support.stored import stored_trials
from tests.support.studies import TINY


class Command:
    """`python -m search.run` on the tiny study, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/search.db"
        self.study = folder / "tiny.toml"
        self.study.write_text(TINY)
        self.started: list[subprocess.Popen[str]] = []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("OPTUNA", "ARCHSEARCH"))}
        self.env["ARCHSEARCH_ARTIFACTS"] = f"{folder}/artifacts"
        self.env["ARCHSEARCH_CHECKPOINTS"] = f"{folder}/checkpoints"

    def start(self, *options: str, command: str = "run", **env: str) -> subprocess.Popen[str]:
        words = ["--study", str(self.study), "--storage", self.url, *options]
        process = subprocess.Popen(
            [sys.executable, "-m", f"search.{command}", *words],
            cwd=REPOSITORY,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Nothing outlives a test that failed: the workers die with their command."""
        for process in self.started:
            process.kill()
            process.communicate()

    def run(self, *options: str, command: str = "run", **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*options, command=command, **env)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def trials(self, name: str = "tiny") -> list[FrozenTrial]:
        return stored_trials(self.folder / "search.db", name)

    def wait_for(self, condition: Callable[[list[FrozenTrial]], bool]) -> list[FrozenTrial]:
        for _ in range(1200):
            trials = self.trials()
            if condition(trials):
                return trials
            time.sleep(0.1)
        raise AssertionError("waited in vain")
