"""A database of the code before its packages: it opens, says the same, and goes on.

data/old_study.sql.xz is a search of nine trials, eight of them finished and the last interrupted; its
confirmation, 7 of 12 runs; a repeat of trial 5; and the pages of both, as the code of that day left them.
data/old_checkpoint.tar.xz is where trial 8 stood; its training seconds were set to 1,000.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note  # type: ignore[import-untyped]

from search import confirm, repeat, report, run
from search.storage.trial_record import TrialRecord
from search.views.confirmation_figures import FIGURES as CONFIRMATION_FIGURES
from search.views.search_figures import FIGURES as SEARCH_FIGURES
from search.web.dashboard_internals import FIGURE_PREFIX

optuna.logging.set_verbosity(optuna.logging.ERROR)
DATA = Path(__file__).parent / "data"
STUDY = """
[data]
name = "digits"
limit = 400
[space]
blocks = {low = 1, high = 3}
widths = [[6, 10]]
norm = ["none", "batch"]
lr_sgd = {low = 0.01, high = 0.1, log = true}
[train]
epochs = 6
batch_size = 16
[search]
seed = 7
pruner = "none"
[confirm]
depths = [3, 7]
seeds = 2
"""
DONE, CONFIRMED = range(8), (0, 1, 2, 3, 6, 7, 8)
"""Numbers of the trials of the search and the confirmation that had finished."""


def near(value: Any) -> Any:
    """A value that is equal, but for the last digits."""
    return pytest.approx(value, rel=1e-7)


class Old:
    """The old database, this test's own, and commands on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.file = folder / "search.db"
        self.url = f"sqlite:///{self.file}"
        (folder / "old.toml").write_text(STUDY)
        self.rewrite(lzma.decompress((DATA / "old_study.sql.xz").read_bytes()).decode())
        with tarfile.open(DATA / "old_checkpoint.tar.xz") as archive:
            archive.extractall(folder / "checkpoints", filter="data")

    def rewrite(self, script: str) -> None:
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            database.executescript(script)

    def __call__(self, command: Any, *words: str) -> str:
        """What the command says. It ends well."""
        study = ["--study", str(self.folder / "old.toml"), "--storage", self.url]
        assert command.main([*words, *study]) == 0
        out, err = self.capsys.readouterr()
        assert err == ""
        return out

    def study(self, name: str = "old") -> optuna.Study:
        return optuna.load_study(study_name=name, storage=self.url)

    def trials(self, name: str = "old") -> list[FrozenTrial]:
        return self.study(name).get_trials()

    def figures(self, name: str) -> set[str]:
        """Names of the figures on a study's page."""
        study = self.study(name)
        stored = study._storage.get_study_system_attrs(study._study_id)
        return {key.split(":")[2] for key in stored if key.startswith(FIGURE_PREFIX)}


@pytest.fixture
def old(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Old]:
    threads = torch.get_num_threads()
    yield Old(tmp_path, capsys)
    torch.set_num_threads(threads)


def test_it_reports_the_same_numbers(old: Old) -> None:
    before = old.file.read_bytes()
    found = json.loads(old(report, "--json"))
    search, confirmation = found["search"], found["confirmation"]
    assert (search["finished"], search["to_the_end"], search["arms"]) == (
        8,
        8,
        ["plain", "residual", "preact"],
    )
    assert search["sentence"].startswith(
        "Exploratory, 8 trials: up to 20 convs residual and pre-activation are undecided (−0.4 points in 2 "
        "pairs, −1.3 in 3)."
    )
    assert confirmation["sentence"].startswith("So far, 7 of 12 runs (test images, 2 seeds): ")
    residual, preact = search["duels"]
    assert residual["final"] == {
        "pairs": 2, "wins": 1, "ties": 0, "losses": 1,
        "mean": near(-0.416666667), "median": near(-0.416666667),
    }  # fmt: skip
    assert (preact["final"]["pairs"], preact["final"]["mean"]) == (3, near(-1.25))
    assert (preact["word"], preact["gain"]) == ("too few", near(-1.25))
    assert (preact["low"], preact["high"], preact["holm_p"]) == (None, None, 0.75)
    assert (residual["best"], residual["best_baseline"]) == (near(44.5833333), 35.0)
    assert (confirmation["planned"], confirmation["finished"], confirmation["test_reads"]) == (12, 7, 7)
    versus = {(v["arm"], v["depth"], v["recipe"]): v["result"] for v in confirmation["versus"]}
    first = versus["residual", 3, "own"]
    assert (first["word"], first["more_pairs"], first["pairs"]) == ("undecided", 31, 2)
    assert (first["mean"], first["interval"]) == (near(-5.431754875), near([-116.920737935, 106.05722818547]))
    assert first["superiority"] == near([0.5, 0.0945312057, 0.9054687943])
    assert versus["preact", 7, "own"] is None
    assert old.file.read_bytes() == before, "nothing is changed"


def test_what_was_stored_of_a_trial_is_read(old: Old) -> None:
    trials = [TrialRecord(trial) for trial in old.trials()]
    assert [trial.is_finished for trial in trials] == [True] * 8 + [False]
    best = trials[3]
    assert (best.arm, best.depth, best.num_params, best.group, best.lead) == ("residual", 5, 3852, 1, True)
    assert (best.score, best.train_accuracy) == (near(0.445833333), near(0.425))
    assert (best.architecture is not None, best.cause, best.curve) == (True, "collapsed", {})
    runs = [TrialRecord(trial) for trial in old.trials("old-confirm")]
    assert [run.number for run in runs if run.is_finished] == list(CONFIRMED)
    assert {runs[number].members for number in CONFIRMED} == {2}, "they were trained two by two"
    [repeated] = [TrialRecord(trial) for trial in old.trials("old-repeat")]
    assert (repeated.origin, repeated.changed) == (5, {"block": "residual", "epochs": 4})


@pytest.mark.slow
def test_the_search_goes_on_from_where_it_was_stopped(old: Old) -> None:
    before = old.trials()
    [manifest] = (old.folder / "checkpoints").rglob("*.json")
    torch_of_then = json.loads(manifest.read_text())["identity"]["torch"]
    out = old(run, "--trials", "12", "--workers", "1", "--quiet")
    assert "old: 12 of 12 trials done" in out
    after = old.trials()
    assert after[:8] == before[:8], "what was done stays as it was"
    assert {trial.state for trial in after} == {TrialState.COMPLETE}
    stopped = after[8]
    assert (stopped.params, stopped.user_attrs["seed"]) == (before[8].params, before[8].user_attrs["seed"])
    assert len(stopped.user_attrs["curve"]["val_loss"]) == 6
    # a checkpoint is one of its torch: with another one, the trial has begun anew
    assert (stopped.user_attrs["train_seconds"] > 1000) is (torch.__version__ == torch_of_then)
    fresh = [TrialRecord(trial) for trial in after[9:]]
    assert [(trial.group, trial.arm) for trial in fresh] == [(3, "plain"), (3, "residual"), (3, "preact")]


@pytest.mark.slow
def test_its_page_is_published_without_the_figures_of_earlier_versions(old: Old) -> None:
    old.rewrite(
        "UPDATE study_system_attributes "
        "SET key = replace(key, 'archsearch-6-budget', 'archsearch-6-outcomes');"
        "INSERT INTO study_system_attributes (study_id, key, value_json) "
        f"VALUES (1, '{FIGURE_PREFIX}mine:0', '\"\"');"
    )
    assert "archsearch-6-outcomes" in old.figures("old")
    old(run, "--trials", "9", "--workers", "1", "--quiet")
    assert old.figures("old") == {*SEARCH_FIGURES, "mine"}, "a person's own stays"
    note = get_note(old.study())
    assert "So far, 7 of 12 runs (test images, 2 seeds)" in note
    assert note.startswith("**Exploratory, 9 trials: "), "the trial that was finished counts"
    assert re.search(r"residual and pre-activation are undecided \(.* in 3 pairs, .* in 3\)", note)


@pytest.mark.slow
def test_the_confirmation_goes_on(old: Old) -> None:
    before = {trial.number: trial for trial in old.trials("old-confirm")}
    out = old(confirm, "--workers", "1", "--quiet")
    assert "12 runs of 120 steps, 7 of them done; 2 seeds" in out
    assert "Nothing is confirmed (test images, 2 seeds)" in out
    after = old.trials("old-confirm")
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 12
    for number in CONFIRMED:
        assert after[number] == before[number], "what was done is not done again"
    assert old.study("old-confirm").user_attrs["test_reads"] == 12
    by_twins = {(trial.user_attrs["group"], trial.user_attrs["weights"]) for trial in after}
    assert len(by_twins) == 4, "the new twins of old runs start from the same weights"
    assert old.figures("old-confirm") == set(CONFIRMATION_FIGURES)


@pytest.mark.slow
def test_its_trials_are_repeated(old: Old) -> None:
    """They are equal bit for bit on one machine. On another one rounding grows, so what is compared is the
    network, its recipe, and the loss of the first step."""
    origins = old.trials()
    out = old(repeat, "5", "--quiet")
    assert "identical" in out, "or how far it is from that"
    assert "kept as trial 1 of the study old-repeat" in out, "beside the repeat that was there"
    now, then = old.trials("old-repeat")[1], origins[5]
    for name in ("architecture", "seed", "depth", "params", "macs", "fingerprint", "arm"):
        assert now.user_attrs[name] == then.user_attrs[name], name
    assert now.params.items() >= then.params.items()
    assert now.user_attrs["loss_at_start"] == pytest.approx(then.user_attrs["loss_at_start"], rel=1e-4)
    old(repeat, "5", "--quiet")
    again = old.trials("old-repeat")[2]
    assert again.user_attrs["curve"] == now.user_attrs["curve"]
    assert again.intermediate_values == now.intermediate_values


def test_its_repeats_are_repeated_with_what_was_changed(old: Old) -> None:
    old(repeat, "0", "--name", "old-repeat", "--quiet")
    [first], [second] = old.trials("old-repeat"), old.trials("old-repeat-repeat")
    assert second.user_attrs["epochs"] == first.user_attrs["epochs"] == 4
    for name in ("architecture", "seed", "fingerprint"):
        assert second.user_attrs[name] == first.user_attrs[name], name


def test_a_run_of_its_confirmation_is_repeated_on_its_own_split(old: Old) -> None:
    old(repeat, "3", "--name", "old-confirm", "--quiet")
    then, [now] = old.trials("old-confirm")[3], old.trials("old-confirm-repeat")
    for name in ("architecture", "seed", "data_seed", "fingerprint"):
        assert now.user_attrs[name] == then.user_attrs[name], name
    assert now.user_attrs["loss_at_start"] == pytest.approx(then.user_attrs["loss_at_start"], rel=1e-4)
