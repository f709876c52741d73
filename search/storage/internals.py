"""Optuna's private names, but for those that row_storage and claim_storage override: its tables, sessions and
cache, and what studies, trials and samplers hide.

tests/storage/test_internals.py fails when one of them goes, and pyproject.toml bounds the release.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models as _models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.orm import Session

models: Any = _models
"""Optuna's tables, declared in a style that type checkers cannot follow."""

QUEUED_PARAMS = "fixed_params"
"""System attribute of a queued trial: the parameters that it will get."""
OF_AN_ATTEMPT = ("completed_rung_", "artifacts:")
"""Beginnings of system attributes that belong to one attempt at a trial: the pruner's notes, and uploads."""


def transaction(storage: RDBStorage, or_there: bool = False) -> AbstractContextManager[Session]:
    """A session that is committed at its end, rolled back at an error; `or_there`: a row that is there
    already is as good as written. Raises StorageInternalError for what the database refuses."""
    return _create_scoped_session(storage.scoped_session, ignore_integrity_error=or_there)


def cached(storage: RDBStorage) -> BaseStorage:
    """The storage behind Optuna's cache, which reads a finished trial once."""
    return _CachedStorage(storage)


def behind_cache(storage: BaseStorage) -> Any:
    """The storage that `cached` was given; the storage itself where it is not cached."""
    return storage._backend if isinstance(storage, _CachedStorage) else storage


def storage_of(study: Study) -> BaseStorage:
    """The storage that the study is in."""
    return study._storage


def study_id_of(study: Study) -> int:
    """The key of a study in its table."""
    return study._study_id


def trial_id_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The key of a trial in its table, not its number."""
    return trial._trial_id


def as_begun(trial: optuna.Trial) -> FrozenTrial:
    """The trial as it was when this process began it."""
    return trial._cached_frozen_trial


def with_good_ones(sampler: TPESampler, count: Callable[[int], int]) -> TPESampler:
    """The sampler, but `count` says of how many trials how many are the good ones. (Its argument for that is
    deprecated, without another way.)"""
    sampler._gamma = count
    return sampler


def look_again(study: Study) -> None:
    """Makes the study forget which trials it has seen in this thread."""
    study._thread_local.cached_all_trials = None


class PickyStudy(Study):
    """A study that looks into its queue only where there is something in it: Optuna reads every unfinished
    trial whole, each time that a worker asks for one. Its storage is a RowStorage."""

    def _pop_waiting_trial_id(self) -> int | None:
        waits = behind_cache(self._storage).is_waiting(self._study_id)
        return super()._pop_waiting_trial_id() if waits else None
