"""A confirmation as a person runs it, and its parts on real databases."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note  # type: ignore[import-untyped]
from tests.support.confirmations import NAME, SETTINGS, TINY_PLAN, Worker, opened
from tests.support.plans import ARMS, choice, plan
from tests.support.commands import Command

from search.training.checkpoints import StudyCheckpoints
from search.trials.companions import Companions
from search.confirm import main, parse
from search.design.confirmation import open_confirmation
from search.trials.confirming import ConfirmationTrials, Splits
from search.data.batches import to_device
from search.data.config import DataConfig
from search.data.datasets import read
from search.errors import DeviceError, SpecError, StudyFailed
from search.training.results import TrainResult, evaluate
from search.cli.options import worker_words
from search.design.plan import Plan
from search.spec.study import StudySpec
from search.storage.connections import claims_of, join_study
from search.storage.studies import open_study
from search.storage__GONE import PLAN

NAME = "tiny-confirm"
SETTINGS = "\n[confirm]\ndepths = [3, 7]\nseeds = 2\n"


@pytest.fixture
def searched(command: Command) -> Command:
    """A finished search of nine trials."""
    command.study.write_text(command.study.read_text() + SETTINGS)
    done = command.run("--trials", "9", "--workers", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    return command


def confirmed(command: Command, *options: str) -> str:
    done = command.run(*options, command="confirm")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def study_of(command: Command, name: str = NAME) -> Study:
    return optuna.load_study(study_name=name, storage=command.url)


def test_from_a_search_to_verdicts_and_more_seeds(searched: Command) -> None:
    out = confirmed(searched, "--workers", "2")
    study = study_of(searched)
    attrs, trials = study.user_attrs, study.get_trials()
    stored = Plan.from_json(attrs[PLAN])
    runs = list(stored.runs())
    assert (stored.depths, stored.seeds, stored.epochs, stored.steps) == ([3, 7], (2,), 3, 3 * 5)
    assert f"{len(runs)} runs of 15 steps" in out
    assert "Confirmed (test images, 2 seeds)" in out
    assert attrs["test_reads"] == len(trials) == len(runs)
    for run, trial in zip(runs, trials, strict=True):
        assert trial.state == TrialState.COMPLETE
        assert (trial.user_attrs["arm"], trial.user_attrs["depth"]) == (run.arm, run.depth)
        assert trial.user_attrs["epochs"] == 3
        assert 0 <= trial.user_attrs["test_accuracy"] <= 1
    by_twins = Counter((t.user_attrs["group"], t.user_attrs["weights"]) for t in trials)
    assert len(by_twins) == len({run.twins for run in runs}), "twins start from equal weights"
    seeds = {(t.user_attrs["replicate"], t.user_attrs["seed"], t.user_attrs["data_seed"]) for t in trials}
    assert len(seeds) == 2
    assert not {seed for _, seed, _ in seeds} & {t.user_attrs["seed"] for t in searched.trials()}
    assert "Confirmed (test images" in get_note(study_of(searched, "tiny")), "on the page of the search"
    told = searched.run("--json", command="report")
    assert '"confirmation": {' in told.stdout

    before = {t.number: t.user_attrs["test_accuracy"] for t in trials}
    out = confirmed(searched, "--seeds", "3", "--workers", "1", "--quiet")
    assert f"{len(runs) * 3 // 2} runs of 15 steps, {len(runs)} of them done" in out
    assert "(test images, 2, then 3 seeds after looking)" in out
    study = study_of(searched)
    assert len(study.trials) == len(runs) * 3 // 2
    assert {t.number: t.user_attrs["test_accuracy"] for t in study.trials[: len(runs)]} == before

    asked = searched.run("--margin", "2", command="confirm")
    assert asked.returncode == 2
    assert "--margin cannot change what this confirmation began with: 1.0, got 2.0" in asked.stderr
    wrong = searched.run("--name", NAME, "--trials", "99")
    assert wrong.returncode == 2
    assert "is a confirmation: `python -m search.confirm` goes on with it" in wrong.stderr


def test_a_killed_confirmation_goes_on_to_the_same_end(searched: Command) -> None:
    process = searched.start("--workers", "1", "--quiet", command="confirm")
    for _ in range(600):
        if len([t for t in searched.trials(NAME) if t.state.is_finished()]) >= 2:
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()
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
    searched.study.write_text(searched.study.read_text().replace("epochs = 3", "epochs = 4"))
    assert main(words) == 2
    assert "train.epochs: 3 in the study, 4 now" in capsys.readouterr().err


def open_in_a_process(url: str, spec: StudySpec) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened(url, spec)


def test_commands_that_start_together_queue_the_runs_once(url: str, tiny: StudySpec) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_in_a_process, args=(url, tiny)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    study, _, runs = opened(url, tiny)
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert runs == 12
    assert {trial.state for trial in trials} == {TrialState.WAITING}


def test_whoever_is_first_decides_and_seeds_may_be_added(url: str, tiny: StudySpec) -> None:
    opened(url, tiny)
    with pytest.raises(SpecError, match=r"another command began .* at \[5\] convs with a margin of 1"):
        opened(url, tiny, replace(TINY_PLAN, margin=5.0, seeds=(6,)))
    study, agreed, runs = opened(url, tiny, replace(TINY_PLAN, seeds=(6,)))
    assert (agreed.margin, agreed.seeds, runs) == (1.0, (4, 6), 18)
    assert len(study.get_trials()) == 18


def test_a_search_is_never_taken_for_a_confirmation(url: str, tiny: StudySpec) -> None:
    fingerprint = read(tiny.data).split(tiny.data).fingerprint()
    open_study(url, NAME, tiny, fingerprint, 5)
    with pytest.raises(SpecError, match="'tiny-confirm' is a search"):
        opened(url, tiny)


@pytest.fixture
def worker(tmp_path: Path, tiny: StudySpec) -> Worker:
    return Worker(f"sqlite:///{tmp_path}/x.db", tiny)


def test_twins_differ_in_the_block_alone(worker: Worker) -> None:
    trials = [worker.run() for _ in range(3)]
    assert [trial.user_attrs["arm"] for trial in trials] == list(ARMS)
    for name in ("seed", "data_seed", "weights", "depth", "group", "replicate"):
        assert len({trial.user_attrs[name] for trial in trials}) == 1, name
    assert len({str(trial.intermediate_values) for trial in trials}) == 3
    assert claims_of(worker.study).unfinished(worker.study._study_id) == 9


def test_other_initial_weights_than_a_twins_stop_the_study(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.run()
    monkeypatch.setattr("search.confirmation.weights_fingerprint", lambda _: "of another torch")
    with pytest.raises(StudyFailed, match="trials 1 and 0 are twins, but start from different weights"):
        worker.run()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), TrialState.PRUNED),
        (RuntimeError("CUDA error: unspecified launch failure"), TrialState.WAITING),
        (ValueError("a bug"), TrialState.FAIL),
    ],
)
def test_what_fails_as_images_are_loaded_costs_one_run(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception, state: TrialState
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("search.confirmation.to_device", fails)
    sick = pytest.raises(DeviceError) if state == TrialState.WAITING else nullcontext()
    with sick:
        worker.run()
    assert worker.study.get_trials()[0].state == state
    assert not worker.claims.running


def test_what_was_asked_of_workers_is_said_again() -> None:
    words = ["--workers=2", "--device=cpu", "--per-gpu=auto", "--quiet"]
    assert worker_words(parse(words)) == words
    assert worker_words(parse([])) == []


def test_test_images_are_looked_at_once_and_not_by_a_run_that_diverged(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def looks(network: Any, data: Any, *rest: Any) -> Any:
        looked.append(len(data.val_labels_N))
        return evaluate(network, data, *rest)

    monkeypatch.setattr("search.confirmation.evaluate", looks)
    worker.run()
    assert looked == [359]  # the test part of the digits; validation has 40 of the 200
    assert worker.study.user_attrs["test_reads"] == 1

    def diverges(*_: Any) -> TrainResult:
        return TrainResult("diverged", (), 1.0, 1.0, 2.3, None)

    monkeypatch.setattr("search.objective.train", diverges)
    assert worker.run().user_attrs["test_accuracy"] == 0.1
    assert worker.study.user_attrs["test_reads"] == 1


def test_a_split_is_a_function_of_its_seed_and_its_parts_are_disjoint() -> None:
    """The digits have no test part: each seed draws one."""
    whole, config = read(DataConfig(name="digits")), DataConfig(name="digits")
    at = Splits(whole, config, torch.device("cpu"))

    def rows(images: Any) -> set[bytes]:
        return {image.tobytes() for image in images}

    data, test = at(5)
    train, val = rows(data.train_NHWC.numpy()), rows(data.val_NHWC.numpy())
    assert len(train | val | rows(test.pixels_NHWC)) == 1797  # no two digits are the same image
    assert at(6)[1].labels_N.shape == test.labels_N.shape
    assert rows(at(6)[1].pixels_NHWC) != rows(test.pixels_NHWC)
    assert rows(at(5)[1].pixels_NHWC) == rows(test.pixels_NHWC)
