"""All commands behind one name, and each as a module: from anywhere, and from its own folder."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search import __main__ as archsearch
from search.__main__ import COMMANDS, main
from search.data.datasets import load
from search.spec.study_file import load_spec
from search.storage.studies import open_study
from search.workers.job import Job
from tests.support.commands import Command
from tests.support.paths import REPOSITORY
from tests.support.studies import TINY

FILES = sorted(path.stem for path in (REPOSITORY / "search").glob("*.py") if path.stem in COMMANDS)


def module_of(command: str) -> Any:
    return importlib.import_module("search.secrets.__main__" if command == "secrets" else f"search.{command}")


# one name


def test_every_command_is_listed() -> None:
    text = {path.stem for path in (REPOSITORY / "search").glob("*.py") if "def main(" in path.read_text()}
    assert text - {"__main__"} | {"secrets"} == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_given_its_words_and_gives_its_code(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(module_of(command), "main", lambda words: given.append(words) or 75)
    assert main([command, "--name", command, "--help"]) == 75
    assert given == [["--name", command, "--help"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_tells_of_its_options_and_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m search.{command} [-h]")
    assert "exit codes: 0 " in shown or "exit codes: 0 stopped" in shown


def test_an_unknown_command_is_answered_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--trials", "3"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no command 'launch'\nusage: archsearch COMMAND ...")
    for command, text in COMMANDS.items():
        assert f"  {command:<10} {text}" in err


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_the_usage_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: archsearch COMMAND ...")
    assert err == ""


def test_words_come_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["archsearch", "nonsense"])
    assert main() == 2
    assert "no command 'nonsense'" in capsys.readouterr().err


def test_it_is_installed_under_its_name() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"archsearch": f"{archsearch.__name__}:main"}


# as modules


def ran(*words: str, cwd: Path = REPOSITORY, **env: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in found.stderr, found.stderr
    return found


@pytest.mark.slow
@pytest.mark.process
def test_as_a_module_it_dispatches() -> None:
    done = ran("-m", "search", "run", "--trials", "0")
    assert done.returncode == 2
    assert "argument --trials: must be a whole number from 1 to 1000000, got 0" in done.stderr
    assert ran("-m", "search", "nonsense").returncode == 2


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("command", [*FILES, "__main__"])
def test_a_command_runs_from_its_own_folder(command: str) -> None:
    """Its neighbours there are found before the standard library."""
    done = ran(f"{command}.py", "--help", cwd=REPOSITORY / "search", PYTHONPATH=str(REPOSITORY))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_no_module_has_the_name_of_one_of_the_standard_library() -> None:
    """Whatever is run from its folder would get ours."""
    paths = [path for top in ("models", "search") for path in (REPOSITORY / top).rglob("*.py")]
    assert len(paths) > 100
    names = {path.stem for path in paths if path.stem not in ("__init__", "__main__")}
    names |= {path.parent.name for path in paths if path.name == "__init__.py"}
    assert not names & sys.stdlib_module_names


# a worker, as its command starts it


class Worker:
    """`python -m search.workers.worker` of the tiny study."""

    def __init__(self, command: Command, trials: int, **changes: Any) -> None:
        spec = load_spec(command.study)
        fingerprint = load(spec.data).fingerprint()
        open_study(command.url, "tiny", spec, fingerprint, trials)
        values = {"data_fingerprint": fingerprint, "device": "cpu"} | changes
        self.job = Job(spec, command.url, "tiny", trials, **values)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "search.workers.worker"],
            cwd=REPOSITORY,
            env=command.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin is not None
        pickle.dump(self.job, self.process.stdin)
        self.process.stdin.flush()

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said; its lifeline, standard input, stays open."""
        with self.process:
            assert self.process.stdout is not None
            said = self.process.stdout.read().decode()
            return self.process.wait(300), said


def test_a_worker_reads_its_job_and_ends_when_the_study_is_done(command: Command) -> None:
    assert Worker(command, 2).ended() == (0, "")
    trials = command.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2


def test_a_worker_does_not_outlive_its_command(command: Command) -> None:
    command.study.write_text(TINY.replace("epochs = 3", "epochs = 3000"))
    worker = Worker(command, 2)
    command.wait_for(lambda trials: any(len(trial.intermediate_values) > 1 for trial in trials))
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.ended() == (0, "")
    assert [trial.state for trial in command.trials()] == [TrialState.WAITING], "its trial is given back"


def test_a_worker_with_other_images_than_the_study_says_so(command: Command) -> None:
    code, said = Worker(command, 2, data_fingerprint="of others").ended()
    assert code == 66
    assert "are not those of the study" in said
    assert "Traceback" not in said
