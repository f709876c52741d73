"""Read by rows, a study is what Optuna itself reads; written by rows, nothing else changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from search.storage import rows
from search.storage.internals import storage_of, study_id_of, transaction, trial_id_of
from search.storage.row_storage import RowStorage
from tests.support.claims import a_study, holding_study, in_thread, joined, two_workers, waits
from tests.support.made_trials import study_of


@pytest.fixture
def filled(study_url: str) -> str:
    """Another study's trials lie between those of this one."""
    other = a_study(study_url, "t")
    study, claims = joined(study_url, budget=100)
    study.add_trials(study_of(4))
    other.add_trials(study_of(2, seed=1))
    study.add_trials(study_of(4, seed=2))
    study.enqueue_trial({"block": "plain"}, user_attrs={"note": "ü"})
    study.ask()
    trial = study.ask()
    trial.suggest_float("lr", 1e-3, 1, log=True)
    trial.suggest_int("blocks", 1, 9)
    trial.suggest_categorical("norm", ["none", "batch"])
    trial.suggest_categorical("a name before the others", ["none", "batch"])
    for step, value in enumerate((0.1, math.inf, -math.inf, 0.7), start=1):
        trial.report(value, step)
    claims.finish(trial_id_of(trial), TrialState.COMPLETE, -math.inf, {"deep": {"list": [1, None]}})
    study.enqueue_trial({"block": "preact"})
    return study_url


@pytest.mark.parametrize("most", [500, 2])
def test_all_trials_and_those_after_one(filled: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`most`: of trials that are asked for one by one."""
    monkeypatch.setattr(rows, "NAMED_TRIALS", most)
    ours, theirs = RowStorage(filled, {}), RDBStorage(filled)
    study_id = theirs.get_study_id_from_name("s")
    ids = [trial_id_of(trial) for trial in theirs.get_all_trials(study_id)]
    assert len(ids) == 11
    others = [trial_id_of(trial) for trial in theirs.get_all_trials(theirs.get_study_id_from_name("t"))]
    states: Any
    for states in (None, (TrialState.COMPLETE,), {TrialState.WAITING, TrialState.PRUNED}):
        for after, named in (
            (-1, set()), (-1, set(ids[:2])), (ids[3], set()), (ids[7], {ids[1], ids[4], ids[6]}),
            (ids[7], {ids[1], ids[9]}), (ids[-1], set()), (ids[-1], {ids[3], ids[10]}),
            (ids[6], set(others)), (ids[-2], set(ids)),
        ):  # fmt: skip
            wanted = (study_id, states, set(named), after)
            assert ours._get_trials(*wanted) == theirs._get_trials(*wanted), (states, after, named)
    trial = ours.get_all_trials(study_id)[9]
    assert list(trial.params) == ["lr", "blocks", "norm", "a name before the others"], "as they were drawn"
    ours.engine.dispose()
    theirs.engine.dispose()


def test_trials_of_every_kind_are_read_as_they_were_added(study_url: str) -> None:
    study, _ = joined(study_url)
    distributions = {
        "x": FloatDistribution(0, 1),
        "n": IntDistribution(1, 9),
        "kind": CategoricalDistribution(["a", None]),
    }
    study.add_trials(
        create_trial(
            state=state, value=0.25 if state == TrialState.COMPLETE else None,
            params={"x": 0.5, "n": 3, "kind": None}, distributions=distributions,
            user_attrs={"a": [1]}, system_attrs={"b": {"c": None}},
            intermediate_values={1: 0.5, 3: math.nan, 2: -math.inf},
        )
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING)
    )  # fmt: skip
    for trial in study.trials:
        assert trial.params == {"x": 0.5, "n": 3, "kind": None}
        assert isinstance(trial.params["n"], int)
        assert trial.distributions == distributions
        assert (trial.user_attrs, trial.system_attrs) == ({"a": [1]}, {"b": {"c": None}})
        steps = trial.intermediate_values
        assert (steps[1], math.isnan(steps[3]), steps[2]) == (0.5, True, -math.inf)
    assert [trial.value for trial in study.trials] == [0.25, None, None, None]


def test_a_study_that_does_not_exist_is_missed(study_url: str) -> None:
    storage = RowStorage(study_url, {})
    with pytest.raises(KeyError):
        storage._get_trials(10**6, None, set(), -1)
    storage.engine.dispose()


def test_the_queue_is_the_studys_own(study_url: str) -> None:
    other = a_study(study_url, "t")
    study, claims = joined(study_url)
    other.enqueue_trial({"x": 0.5})
    study.ask()
    claims.finish(trial_id_of(study.ask()), TrialState.COMPLETE, 0.5, {})
    with transaction(claims) as session:
        assert not rows.is_waiting(session, study_id_of(study))
        assert rows.is_waiting(session, study_id_of(other))
    study.enqueue_trial({"x": 0.5})
    assert claims.is_waiting(study_id_of(study))


def test_attributes_of_a_trial_are_written_over_and_beside_what_is_there(study_url: str) -> None:
    study, claims = joined(study_url)
    ids = [trial_id_of(study.ask()) for _ in range(2)]
    for values in ({"a": 1, "b": {"c": None}}, {"a": 2, "d": False}, {}):
        with transaction(claims) as session:
            rows.write_trial_attributes(session, ids[0], values)
    with transaction(claims) as session:
        stored = rows.trial_attributes(session, ids[0])
        assert stored == rows.trial_attributes(session, ids[1]) | {"a": 2, "b": {"c": None}, "d": False}


def test_an_attribute_of_a_study_becomes_what_it_is_changed_to(study_url: str) -> None:
    other = a_study(study_url, "t")
    study, claims = joined(study_url)
    other.set_user_attr("sizes", {"a": 0})
    study.set_user_attr("kept", 1)
    seen: list[Any] = []

    def change(value: Callable[[Any], Any]) -> Any:
        with transaction(claims) as session:
            return rows.change_study_attribute(
                session, study_id_of(study), "sizes", lambda old: seen.append(old) or value(old)
            )

    assert change(lambda old: {"a": 5}) == {"a": 5}
    assert change(lambda old: old | {"b": 2}) == {"a": 5, "b": 2}
    assert seen == [None, {"a": 5}]
    assert study.user_attrs == {"kept": 1, "sizes": {"a": 5, "b": 2}}
    assert other.user_attrs == {"sizes": {"a": 0}}


def test_who_changes_a_study_meanwhile_is_waited_for(study_url: str) -> None:
    study, first, second = two_workers(study_url)
    study_id = study_id_of(study)
    study.set_user_attr("test_reads", 5)
    with holding_study(first, study_id) as session:
        counting, counted = in_thread(lambda: second.count_up(study_id, "test_reads"))
        assert waits(counting)
        rows.change_study_attribute(session, study_id, "test_reads", lambda number: number + 10)
    counting.join()
    assert counted == [None]
    assert study.user_attrs["test_reads"] == 16


def test_system_attributes_are_replaced_at_once(study_url: str) -> None:
    other = a_study(study_url, "t")
    study, claims = joined(study_url)
    for name in ("kept", "replaced", "gone"):
        for one in (study, other):
            storage_of(one).set_study_system_attr(study_id_of(one), name, name)
    seen: list[Any] = []

    def replace(answer: bool) -> None:
        values = {"replaced": {"x": 1}, "new": None}
        claims.replace_system_attributes(
            study_id_of(study), values, ["gone", "never there"], lambda stored: seen.append(stored) or answer
        )

    before = claims.get_study_system_attrs(study_id_of(other))
    replace(True)
    assert claims.get_study_system_attrs(study_id_of(study)) == before, "what is stored said that it is newer"
    replace(False)
    assert claims.get_study_system_attrs(study_id_of(study)) == {
        "kept": "kept", "replaced": {"x": 1}, "new": None,
    }  # fmt: skip
    assert claims.get_study_system_attrs(study_id_of(other)) == before
    assert seen == [{"replaced": "replaced"}] * 2, "of what is to be written alone"


def test_who_replaces_system_attributes_meanwhile_is_waited_for(study_url: str) -> None:
    """What is stored is looked at when nobody can change it any more."""
    study, first, second = two_workers(study_url)
    study_id = study_id_of(study)
    first.set_study_system_attr(study_id, "count", 1)

    def replace() -> None:
        second.replace_system_attributes(study_id, {"count": 2}, [], lambda stored: stored["count"] >= 2)

    with holding_study(first, study_id) as session:
        thread, said = in_thread(replace)
        assert waits(thread)
        rows.replace_system_attributes(session, study_id, {"count": 3}, [], lambda stored: False)
    thread.join()
    assert said == [None]
    assert first.get_study_system_attrs(study_id)["count"] == 3
