"""A confirmation as a person runs it."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState
from optuna_dashboard import get_note  # type: ignore[import-untyped]
from rich.console import Console

from search import confirm
from search.confirm import main
from search.design.plan import Plan
from search.run import main as run_main
from search.storage.study_record import StudyRecord
from tests.support.commands import Command
from tests.support.confirmations import NAME, SETTINGS
from tests.support.studies import TINY

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished search of nine trials."""
    command = Command(tmp_path_factory.mktemp("search"))
    command.study.write_text(TINY + SETTINGS)
    done = command.run("--trials", "9", "--workers", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    return command.folder / "search.db"


@pytest.fixture
def searched(command: Command, search: Path) -> Command:
    """The same search, this test's own."""
    command.study.write_text(TINY + SETTINGS)
    shutil.copy(search, command.folder)
    return command


def confirmed(command: Command, *options: str) -> str:
    done = command.run(*options, command="confirm")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def study_of(command: Command, name: str = NAME) -> Study:
    return optuna.load_study(study_name=name, storage=command.url)


def test_from_a_search_to_verdicts_and_more_seeds(
    searched: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    out = confirmed(searched, "--workers", "2")
    study = study_of(searched)
    attrs, trials = StudyRecord(study.user_attrs), study.get_trials()
    plan = Plan.from_json(attrs.plan or {})
    runs = list(plan.runs())
    assert (plan.depths, plan.seeds, plan.epochs, plan.steps) == ([3, 7], (2,), 3, 3 * 5)
    assert (plan.search, plan.trials, plan.margin) == ("tiny", 9, 1.0)
    assert f"{len(runs)} runs of 15 steps" in out
    assert "Nothing is confirmed (test images, 2 seeds)" in out
    assert attrs.test_reads == len(trials) == len(runs)
    for run, trial in zip(runs, trials, strict=True):
        assert trial.state == TrialState.COMPLETE
        assert (trial.user_attrs["arm"], trial.user_attrs["depth"]) == (run.arm, run.depth)
        assert trial.user_attrs["epochs"] == 3
        right = 359 * trial.user_attrs["test_accuracy"]
        assert right == pytest.approx(round(right), abs=1e-9), "a share of the 359 test images"
    by_twins = Counter((t.user_attrs["group"], t.user_attrs["weights"]) for t in trials)
    assert len(by_twins) == len({run.twins for run in runs}), "twins start from equal weights"
    seeds = {(t.user_attrs["replicate"], t.user_attrs["seed"], t.user_attrs["data_seed"]) for t in trials}
    assert len(seeds) == 2
    assert not {seed for _, seed, _ in seeds} & {t.user_attrs["seed"] for t in searched.trials()}
    assert "Nothing is confirmed (test images" in get_note(study_of(searched, "tiny")), (
        "on the page of the search"
    )
    told = json.loads(searched.run("--json", command="report").stdout)
    assert told["confirmation"]["finished"] == len(runs)

    before = {t.number: t.user_attrs["test_accuracy"] for t in trials}
    out = confirmed(searched, "--seeds", "3", "--workers", "1", "--quiet")
    assert f"{len(runs) * 3 // 2} runs of 15 steps, {len(runs)} of them done" in out
    assert "(test images, 2, then 3 seeds after looking)" in out
    study = study_of(searched)
    assert len(study.trials) == len(runs) * 3 // 2
    assert {t.number: t.user_attrs["test_accuracy"] for t in study.trials[: len(runs)]} == before
    again = confirmed(searched)
    assert "Nothing is confirmed (test images, 2, then 3 seeds after looking)" in again, (
        "nothing is left to do"
    )
    assert len(study_of(searched).trials) == len(runs) * 3 // 2

    words = ["--study", str(searched.study), "--storage", searched.url]
    for margin in ("2.0", "0.0"):
        assert main([*words, "--margin", margin]) == 2
        says = f"--margin cannot change what this confirmation began with: 1.0, got {margin}"
        assert says in capsys.readouterr().err
    assert main([*words, "--depths", "3"]) == 2
    assert (
        "--depths cannot change what this confirmation began with: [3, 7], got [3]" in capsys.readouterr().err
    )
    assert run_main([*words, "--name", NAME, "--trials", "99"]) == 2
    assert "is a confirmation: `python -m search.confirm` goes on with it" in capsys.readouterr().err


def test_what_is_asked_for_another_confirmation_is_written_into_its_plan(searched: Command) -> None:
    words = ["--as", "other", "--margin", "2.5", "--depths", "5", "--seeds", "1", "--workers", "1", "--quiet"]
    confirmed(searched, *words)
    plan = Plan.from_json(StudyRecord(study_of(searched, "other").user_attrs).plan or {})
    assert (plan.margin, plan.depths, plan.seeds) == (2.5, [5], (1,))
    assert NAME not in optuna.get_all_study_names(searched.url)


def killed_half_way(command: Command) -> None:
    """A confirmation of which some runs have ended."""
    process = command.start("--workers", "1", "--quiet", command="confirm")
    for _ in range(600):
        if len([t for t in command.trials(NAME) if t.state.is_finished()]) >= 2:
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_worker_cannot_go_on_with_is_the_last_word_of_the_command(
    searched: Command, workers: str
) -> None:
    killed_half_way(searched)
    trials = searched.trials(NAME)
    ended = [trial._trial_id for trial in trials if trial.state.is_finished()]
    waiting = next(trial for trial in trials if trial.state == TrialState.WAITING)
    with closing(sqlite3.connect(searched.folder / "search.db")) as database, database:
        changed = "UPDATE trial_user_attributes SET value_json = ? WHERE key = ? AND trial_id = ?"
        for key, value in (("weights", "of another torch"), ("group", waiting.user_attrs["group"])):
            database.executemany(changed, [(json.dumps(value), key, trial_id) for trial_id in ended])
    done = searched.run("--workers", workers, "--quiet", command="confirm")
    assert done.returncode == 1
    [last] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "are twins, but start from different weights" in last
    assert "Traceback" not in done.stdout + done.stderr


def test_a_killed_confirmation_goes_on_to_the_same_end(searched: Command) -> None:
    killed_half_way(searched)
    half = {t.number: t.user_attrs for t in searched.trials(NAME) if t.state.is_finished()}
    assert half
    confirmed(searched, "--workers", "1", "--quiet")
    trials = searched.trials(NAME)
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    for number, attrs in half.items():
        assert trials[number].user_attrs == attrs, "what was done is not done again"
    assert len(trials) <= study_of(searched).user_attrs["test_reads"] <= len(trials) + 1


def test_what_cannot_be_confirmed_is_told(searched: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--study", str(searched.study), "--storage", searched.url]
    assert main([*words, "--name", "other"]) == 2
    assert "no study 'other' in the database, which has: tiny" in capsys.readouterr().err
    assert main([*words, "--depths", "500"]) == 2
    assert "must be near depths of the space, 3 to 7 convs, got [500]" in capsys.readouterr().err
    assert main(["--study", str(searched.study), "--storage", f"sqlite:///{searched.folder}/no.db"]) == 75
    assert "there is no " in capsys.readouterr().err
    searched.study.write_text(searched.study.read_text().replace("epochs = 3", "epochs = 4"))
    assert main(words) == 2
    assert "train.epochs: 3 in the study, 4 now" in capsys.readouterr().err
    assert optuna.get_all_study_names(searched.url) == ["tiny"], "nothing is made"


def test_it_starts_only_when_the_person_at_the_terminal_agrees(
    searched: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(confirm, "_agreed", lambda _: False)
    words = ["--study", str(searched.study), "--storage", searched.url]
    assert main(words) == 0
    assert "runs of 15 steps" in capsys.readouterr().out, "the plan is shown"
    assert optuna.get_all_study_names(searched.url) == ["tiny"], "nothing was begun"


@pytest.mark.parametrize(
    ("terminal", "answer", "agreed"),
    [
        (True, "y", True),
        (True, " YES ", True),
        (True, "n", False),
        (True, "", False),
        (True, EOFError(), False),
        (False, AssertionError("nobody is there to be asked"), True),
    ],
)
def test_who_is_asked_whether_to_start(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, answer: str | BaseException, agreed: bool
) -> None:
    class Asked(Console):
        def input(self, prompt: object = "", **_: Any) -> str:
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert confirm._agreed(Asked(file=io.StringIO(), force_terminal=terminal)) is agreed
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    assert confirm._agreed(Asked(file=io.StringIO(), force_terminal=terminal)), "as in a pipe"


def test_a_confirmation_is_not_confirmed(searched: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--study", str(searched.study), "--storage", searched.url]
    confirmed(searched, "--seeds", "1", "--workers", "1", "--quiet")
    assert main([*words, "--name", NAME]) == 2
    assert f"'{NAME}' is a confirmation, and only a search can be confirmed" in capsys.readouterr().err
