"""Optuna's SQL storage, read by rows: its own way makes an object of every row, which is ten times slower.
And attributes of a study that several workers change."""

from __future__ import annotations

import json
import weakref
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models as _models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

models: Any = _models
"""Declared in a style that type checkers cannot follow."""

MANY = 500
"""Trials named one by one in a query; more are asked for as a range."""


class RowStorage(RDBStorage):
    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        weakref.finalize(self, self.engine.dispose)  # else connections are dropped without a goodbye

    def is_waiting(self, study_id: int) -> bool:
        """Whether the queue has a trial."""
        trial = models.TrialModel.__table__
        queued = (trial.c.study_id == study_id) & (trial.c.state == TrialState.WAITING)
        with _create_scoped_session(self.scoped_session) as session:
            return session.scalar(sqlalchemy.select(trial.c.trial_id).where(queued).limit(1)) is not None

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Optuna's storages and its cache read trials through this alone. Those after an id, and those
        included."""
        named = sorted(i for i in included_trial_ids if i <= trial_id_greater_than)
        trial = models.TrialModel.__table__
        wanted = trial.c.study_id == study_id
        if trial_id_greater_than > -1:
            old = trial.c.trial_id.in_(named) if len(named) <= MANY else trial.c.trial_id >= named[0]
            wanted &= (trial.c.trial_id > trial_id_greater_than) | old
        with _create_scoped_session(self.scoped_session) as session:
            models.StudyModel.find_or_raise_by_id(study_id, session)
            rows = session.execute(sqlalchemy.select(trial).where(wanted).order_by(trial.c.trial_id)).all()
            if trial_id_greater_than > -1:
                picked = set(named)
                rows = [r for r in rows if r.trial_id > trial_id_greater_than or r.trial_id in picked]
            rows = [row for row in rows if states is None or row.state in states]
            return _assembled(rows, _Parts(session, study_id, [row.trial_id for row in rows]))

    def count_up(self, study_id: int, key: str) -> None:
        """Adds one to a number among the study's user attributes."""
        self._change(study_id, key, lambda number: (number or 0) + 1)

    def agree(self, study_id: int, key: str, name: str, value: Any, anew: bool = False) -> Any:
        """What a dictionary among the study's user attributes has under `name`: the first value wins, or
        this one."""
        new = {name: value}
        return self._change(study_id, key, lambda old: (old or {}) | new if anew else new | (old or {}))[name]

    def _change(self, study_id: int, key: str, change: Callable[[Any], Any]) -> Any:
        with _create_scoped_session(self.scoped_session) as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            model = models.StudyUserAttributeModel
            row = session.query(model).filter_by(study_id=study_id, key=key).one_or_none()
            value = change(json.loads(row.value_json) if row else None)
            if row is None:
                session.add(model(study_id=study_id, key=key, value_json=json.dumps(value)))
            else:
                row.value_json = json.dumps(value)
        return value


class _Parts:
    """What belongs to trials, by trial."""

    def __init__(self, session: Session, study_id: int, trial_ids: list[int]) -> None:
        self.session, self.study_id, self.ids = session, study_id, trial_ids
        self.params: dict[int, dict[str, Any]] = defaultdict(dict)
        self.distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
        for trial_id, name, value, text in self.read(
            models.TrialParamModel, "param_name", "param_value", "distribution_json", order="param_id"
        ):
            distribution = _distribution(text)
            self.distributions[trial_id][name] = distribution
            self.params[trial_id][name] = distribution.to_external_repr(value)
        self.user_attrs = self.attrs(models.TrialUserAttributeModel)
        self.system_attrs = self.attrs(models.TrialSystemAttributeModel)
        self.values: dict[int, dict[int, float]] = defaultdict(dict)
        value_model, step_model = models.TrialValueModel, models.TrialIntermediateValueModel
        for trial_id, objective, value, kind in self.read(value_model, "objective", "value", "value_type"):
            self.values[trial_id][objective] = value_model.stored_repr_to_value(value, kind)
        self.steps: dict[int, dict[int, float]] = defaultdict(dict)
        for trial_id, step, value, kind in self.read(
            step_model, "step", "intermediate_value", "intermediate_value_type"
        ):
            self.steps[trial_id][step] = step_model.stored_repr_to_intermediate_value(value, kind)

    def attrs(self, model: Any) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = defaultdict(dict)
        for trial_id, key, text in self.read(model, "key", "value_json"):
            found[trial_id][key] = json.loads(text)
        return found

    def read(self, model: Any, *names: str, order: str | None = None) -> Iterable[Any]:
        if not self.ids:
            return []
        table, trial = model.__table__, models.TrialModel.__table__
        columns = [table.c.trial_id, *(table.c[name] for name in names)]
        query = sqlalchemy.select(*columns)
        if len(self.ids) <= MANY:
            query = query.where(table.c.trial_id.in_(self.ids))
        else:
            query = query.join(trial, trial.c.trial_id == table.c.trial_id)
            query = query.where(trial.c.study_id == self.study_id, table.c.trial_id >= self.ids[0])
        if order:
            query = query.order_by(table.c[order])
        return self.session.execute(query)


def _assembled(rows: Iterable[Any], parts: _Parts) -> list[FrozenTrial]:
    return [
        FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=[parts.values[row.trial_id][i] for i in sorted(parts.values[row.trial_id])] or None,
            datetime_start=_local(row.datetime_start),
            datetime_complete=_local(row.datetime_complete),
            params=parts.params[row.trial_id],
            distributions=parts.distributions[row.trial_id],
            user_attrs=parts.user_attrs[row.trial_id],
            system_attrs=parts.system_attrs[row.trial_id],
            intermediate_values=parts.steps[row.trial_id],
            trial_id=row.trial_id,
        )
        for row in rows
    ]


@lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    """The same object for the same text: distributions are values, and a study has a dozen."""
    return json_to_distribution(text)


def _local(stored: datetime | None) -> datetime | None:
    """Stored in UTC without saying so; Optuna's trials carry local time, also without saying so."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
