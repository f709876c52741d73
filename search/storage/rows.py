"""Optuna's SQL tables, read and written by rows: its own way makes an object of every row, which is ten times
slower.

Everything here happens within a transaction of the caller.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from search.storage.internals import models
from search.storage.trial_record import GOES_ON, PLACE, TURN

NAMED_TRIALS = 500
"""Trials named one by one in a query; more are asked for as a range."""
Attributes = dict[str, Any]


def read_trials(
    session: Session, study_id: int, states: Container[TrialState] | None, named: set[int], after: int
) -> list[FrozenTrial]:
    """The trials of a study whose id is above `after`, and those `named`. Raises KeyError where there is no
    such study."""
    older = sorted(i for i in named if i <= after)
    trial = models.TrialModel.__table__
    wanted = trial.c.study_id == study_id
    if after > -1:
        old = trial.c.trial_id.in_(older) if len(older) <= NAMED_TRIALS else trial.c.trial_id >= older[0]
        wanted &= (trial.c.trial_id > after) | old
    models.StudyModel.find_or_raise_by_id(study_id, session)
    rows = session.execute(sqlalchemy.select(trial).where(wanted).order_by(trial.c.trial_id)).all()
    if after > -1:
        picked = set(older)
        rows = [row for row in rows if row.trial_id > after or row.trial_id in picked]
    rows = [row for row in rows if states is None or row.state in states]
    return _assembled(rows, _Parts(session, study_id, [row.trial_id for row in rows]))


def is_waiting(session: Session, study_id: int) -> bool:
    """Whether the queue has a trial."""
    trial = models.TrialModel.__table__
    queued = (trial.c.study_id == study_id) & (trial.c.state == TrialState.WAITING)
    return session.scalar(sqlalchemy.select(trial.c.trial_id).where(queued).limit(1)) is not None


def count_system_attributes(session: Session, study_id: int, key: str) -> int:
    """How many trials of a study have a system attribute."""
    marks, trial = models.TrialSystemAttributeModel, models.TrialModel
    named = session.query(marks).join(trial)
    return int(named.filter(trial.study_id == study_id, marks.key == key).count())


class BudgetSpent(Exception):
    """The study holds all its trials."""


class Undecided(Exception):
    """What the next trial is depends on trials that are running."""


class Placed(NamedTuple):
    """A trial of a stratified design, as far as others depend on it."""

    place: dict[str, Any]
    state: TrialState
    goes_on: bool


NextPlace = Callable[[Sequence[Placed], int], dict[str, Any] | None]
"""Gives the place of another trial, see search.design.places; None: Undecided."""


def given_to_next(
    session: Session, study_id: int, next_place: NextPlace | None, left: int
) -> tuple[str, Any]:
    """The system attribute of another trial: its place, or where there are none, how many were given turns
    before it. `left`: trials that the budget has left. Raises Undecided. The study is locked."""
    if next_place is None:
        return TURN, count_system_attributes(session, study_id, TURN)
    place = next_place(_placed_trials(session, study_id), left)
    if place is None:
        raise Undecided
    return PLACE, place


def _placed_trials(session: Session, study_id: int) -> list[Placed]:
    trial, marks = models.TrialModel.__table__, models.TrialSystemAttributeModel.__table__
    place, mark = marks.alias(), marks.alias()
    query = (
        sqlalchemy.select(place.c.value_json, trial.c.state, mark.c.value_json.is_not(None))
        .join(place, (place.c.trial_id == trial.c.trial_id) & (place.c.key == PLACE))
        .outerjoin(mark, (mark.c.trial_id == trial.c.trial_id) & (mark.c.key == GOES_ON))
        .where(trial.c.study_id == study_id)
    )
    return [Placed(_parsed(text), state, bool(on)) for text, state, on in session.execute(query)]


@lru_cache(maxsize=8192)
def _parsed(text: str) -> Any:
    """A small value that is read again and again, and that nobody changes."""
    return json.loads(text)


def trial_attributes(session: Session, trial_id: int) -> Attributes:
    """The user attributes of a trial."""
    rows = models.TrialUserAttributeModel.where_trial_id(trial_id, session)
    return {row.key: json.loads(row.value_json) for row in rows}


def write_trial_attributes(session: Session, trial_id: int, values: Attributes) -> None:
    """Writes user attributes of a trial whose row is locked. Optuna takes three statements for each."""
    table = models.TrialUserAttributeModel.__table__
    present = set(session.scalars(sqlalchemy.select(table.c.key).where(table.c.trial_id == trial_id)))
    rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(v)} for key, v in values.items()]
    if new := [row for row in rows if row["key"] not in present]:
        session.execute(table.insert(), new)
    for row in rows:
        if row["key"] in present:
            here = (table.c.trial_id == trial_id) & (table.c.key == row["key"])
            session.execute(table.update().where(here).values(value_json=row["value_json"]))


def change_study_attribute(session: Session, study_id: int, name: str, change: Callable[[Any], Any]) -> Any:
    """Makes a user attribute of a study what `change` makes of the stored one, None at first, and returns it.
    Nobody else changes it meanwhile."""
    models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
    model = models.StudyUserAttributeModel
    row = session.query(model).filter_by(study_id=study_id, key=name).one_or_none()
    value = change(json.loads(row.value_json) if row else None)
    if row is None:
        session.add(model(study_id=study_id, key=name, value_json=json.dumps(value)))
    else:
        row.value_json = json.dumps(value)
    return value


def replace_system_attributes(
    session: Session,
    study_id: int,
    values: Attributes,
    gone: Iterable[str],
    unless: Callable[[Attributes], bool],
) -> None:
    """Writes system attributes of a study and removes those that are `gone`. `unless` is asked with what is
    stored of `values`, when nobody else can change it any more: where it says so, nothing is done."""
    models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
    model = models.StudySystemAttributeModel
    present = {row.key: row for row in model.where_study_id(study_id, session)}
    if unless({key: json.loads(present[key].value_json) for key in values if key in present}):
        return
    for key, value in values.items():
        if key in present:
            present[key].value_json = json.dumps(value)
        else:
            session.add(model(study_id=study_id, key=key, value_json=json.dumps(value)))
    for key in gone:
        if key in present:
            session.delete(present[key])


class _Parts:
    """Parameters, attributes, values and reports, by trial."""

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
        if len(self.ids) <= NAMED_TRIALS:
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
    """A distribution, the same object for the same text: they are values, and a study has a dozen."""
    return json_to_distribution(text)


def _local(stored: datetime | None) -> datetime | None:
    """A stored time as Optuna's trials carry it: it is stored in UTC without saying so, they have local time,
    also without saying so."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
