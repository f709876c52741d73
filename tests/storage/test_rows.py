"""Read by rows, a study is what Optuna itself reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage, get_storage
from optuna.trial import TrialState

from search import rows
from search.spec.study import StudySpec
from search.storage.connections import join_study
from search.storage.row_storage import RowStorage
from search.storage.studies import open_study
from tests.support.made_trials import study_of


@pytest.fixture
def filled(url: str, tiny: StudySpec) -> str:
    study = open_study(url, "s", tiny, "data", 5)
    study.add_trials(study_of(30))
    study.enqueue_trial({"block": "plain"}, user_attrs={"note": "ü"})
    worker, claims = join_study(url, "s", "here", 100)
    trial = worker.ask()
    trial.suggest_float("lr", 1e-3, 1, log=True)
    trial.suggest_int("blocks", 1, 9)
    trial.suggest_categorical("norm", ["none", "batch"])
    for step, value in enumerate((0.1, float("inf"), 0.7), start=1):
        trial.report(value, step)
    claims.finish(trial._trial_id, TrialState.COMPLETE, float("-inf"), {"deep": {"list": [1, None]}})
    return url


@pytest.mark.parametrize("many", [500, 2])
def test_all_trials_and_those_after_one(filled: str, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MANY", many)
    ours, theirs = RowStorage(filled), RDBStorage(filled)
    [study] = theirs.get_all_studies()
    for states in (None, (TrialState.COMPLETE,)):
        for after, named in ((-1, set()), (10, set()), (25, {1, 7, 9}), (10**6, set()), (10**6, {3, 31})):
            wanted = (study._study_id, states, set(named), after)
            assert ours._get_trials(*wanted) == theirs._get_trials(*wanted), (states, after, named)
    ours.engine.dispose()
    theirs.engine.dispose()


def test_a_study_that_does_not_exist_is_missed(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "data", 5)
    storage = RowStorage(url)
    with pytest.raises(KeyError):
        storage._get_trials(99, None, set(), -1)
    storage.engine.dispose()


def test_optuna_reads_through_it(tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private in Optuna: this fails when another release reads in another way."""
    url = f"sqlite:///{tmp_path}/x.db"
    open_study(url, "s", tiny, "data", 5)
    calls: list[int] = []
    stock = RowStorage._get_trials

    def counted(*args: Any, **values: Any) -> Any:
        calls.append(1)
        return stock(*args, **values)

    monkeypatch.setattr(RowStorage, "_get_trials", counted)
    storage = RowStorage(url)
    storage.get_all_trials(1)
    optuna.load_study(study_name="s", storage=get_storage(storage)).get_trials()
    assert len(calls) == 2
    storage.engine.dispose()
