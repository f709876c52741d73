"""A confirmation as a study: who begins it decides, and its runs are queued once."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search.data.datasets import read
from search.design.confirmation import templates
from search.design.plan import Plan
from search.design.seeds import confirmation_seed
from search.errors import SpecError
from search.spec.study import StudySpec
from search.storage.studies import open_study
from search.storage.study_record import record_of_study
from search.storage.trial_record import TrialRecord
from tests.support.arms import OURS
from tests.support.confirmations import NAME, TINY_PLAN, opened
from tests.support.plans import RATES, choice, plan

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_each_run_of_a_plan_is_a_queued_trial() -> None:
    own = plan([choice(arm, depth, rate) for depth in (9, 21) for arm, rate in RATES.items()], seeds=(2, 3))
    runs, queue = list(own.runs()), templates(own, search_seed=11)
    assert len(queue) == len(runs) == 3 * 2 * 7
    for run, trial in zip(runs, queue, strict=True):
        record = TrialRecord(trial)
        assert trial.state == TrialState.WAITING
        assert record.queued == {"block": run.arm, **run.params}
        assert record.stored == {
            "group": run.twins,
            "replicate": run.replicate,
            "best_of": list(run.best_of),
            "seed": confirmation_seed(11, run.replicate),
        }
    assert len({trial.user_attrs["seed"] for trial in queue}) == 3


def test_a_confirmation_stores_its_plan_and_may_hold_its_runs(url: str, tiny: StudySpec) -> None:
    study, agreed, runs = opened(url, tiny)
    stored = record_of_study(study)
    assert (agreed, runs) == (TINY_PLAN, 12)
    assert (stored.kind, stored.budget, stored.test_reads) == ("confirmation", 12, 0)
    assert stored.spec_fingerprint == tiny.fingerprint()
    assert Plan.from_json(stored.plan or {}) == TINY_PLAN
    assert len(study.get_trials()) == 12


def test_seeds_follow_from_the_searchs_own(tmp_path: Path, tiny: StudySpec) -> None:
    seeded = replace(tiny, search=replace(tiny.search, seed=7))
    study, _, _ = opened(f"sqlite:///{tmp_path}/x.db", seeded)
    found = [trial.user_attrs["seed"] for trial in study.get_trials()]
    assert found == [confirmation_seed(7, run.replicate) for run in TINY_PLAN.runs()]


def test_whoever_is_first_decides_and_seeds_may_be_added(url: str, tiny: StudySpec) -> None:
    opened(url, tiny)
    for other in (
        replace(TINY_PLAN, margin=5.0, seeds=(6,)),
        replace(TINY_PLAN, trials=100),
        plan([replace(choice(arm, 7), params={"blocks_1": 3}) for arm in OURS], seeds=(4,)),
    ):
        with pytest.raises(SpecError, match=r"another command began .* at \[5\] convs with a margin of 1"):
            opened(url, tiny, other)
    study, agreed, runs = opened(url, tiny, replace(TINY_PLAN, seeds=(6,)))
    assert (agreed.margin, agreed.seeds, runs) == (1.0, (4, 6), 18)
    before = study.get_trials()
    assert len(before) == record_of_study(study).budget == 18
    study, agreed, runs = opened(url, tiny, replace(TINY_PLAN, seeds=(5,)))
    assert (agreed.seeds, runs) == ((4, 6), 18), "none is taken away"
    assert study.get_trials() == before


def test_a_search_is_never_taken_for_a_confirmation(url: str, tiny: StudySpec) -> None:
    fingerprint = read(tiny.data).split(tiny.data).fingerprint()
    open_study(url, NAME, tiny, fingerprint, 5)
    with pytest.raises(SpecError, match=r"'tiny-confirm' is a search: .* goes on with it"):
        opened(url, tiny)


def open_in_a_process(url: str, spec: StudySpec) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened(url, spec)


@pytest.mark.slow
def test_commands_that_start_together_queue_the_runs_once(url: str, tiny: StudySpec) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_in_a_process, args=(url, tiny)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    study, _, runs = opened(url, tiny)
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert runs == 12
    assert {trial.state for trial in trials} == {TrialState.WAITING}
