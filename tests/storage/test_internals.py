"""What is private in Optuna and used here: that it is there, is called as it is called here, and does what it
is used for.

The product is imported late, so that a release that takes a name away is told by that name.
"""

from __future__ import annotations

import importlib
import inspect
from operator import attrgetter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import StorageInternalError
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages import RDBStorage
from optuna.trial import TrialState

SIGNATURES = {
    "optuna.storages._cached_storage:_CachedStorage": ["backend"],
    "optuna.storages._rdb.storage:_create_scoped_session": ["scoped_session", "ignore_integrity_error"],
    "optuna.storages:RDBStorage._create_new_trial": ["self", "study_id", "template_trial"],
    "optuna.storages:RDBStorage._get_prepared_new_trial": ["self", "study_id", "template_trial", "session"],
    "optuna.storages:RDBStorage._get_trials": [
        "self", "study_id", "states", "included_trial_ids", "trial_id_greater_than",
    ],
    "optuna.storages:RDBStorage._set_trial_param": [
        "self", "trial_id", "param_name", "param_value_internal", "distribution", "previous_distribution",
    ],
    "optuna.storages:RDBStorage._set_trial_param_without_commit": [
        "self", "session", "trial_id", "param_name", "param_value_internal", "distribution",
        "previous_distribution",
    ],
    "optuna.storages:RDBStorage._set_trial_attr_without_commit": [
        "self", "session", "model_cls", "trial_id", "key", "value",
    ],
    "optuna.storages:RDBStorage._set_trial_value_without_commit": [
        "self", "session", "trial", "objective", "value",
    ],
    "optuna.storages:RDBStorage.check_trial_is_updatable": ["self", "trial_id", "trial_state"],
    "optuna.storages:RDBStorage.get_trial": ["self", "trial_id"],
    "optuna.storages:RDBStorage.set_trial_state_values": ["self", "trial_id", "state", "values"],
    "optuna.storages:RDBStorage.set_trial_user_attr": ["self", "trial_id", "key", "value"],
    "optuna.storages:RDBStorage.set_trial_system_attr": ["self", "trial_id", "key", "value"],
    "optuna.storages:RDBStorage.set_trial_intermediate_value": [
        "self", "trial_id", "step", "intermediate_value",
    ],
    "optuna.study:Study.__init__": ["self", "study_name", "storage", "sampler", "pruner"],
    "optuna.study:Study._pop_waiting_trial_id": ["self"],
    "optuna.storages._rdb.models:StudyModel.find_or_raise_by_id": ["study_id", "session", "for_update"],
    "optuna.storages._rdb.models:TrialModel.find_or_raise_by_id": ["trial_id", "session", "for_update"],
    "optuna.storages._rdb.models:TrialUserAttributeModel.where_trial_id": ["trial_id", "session"],
    "optuna.storages._rdb.models:StudySystemAttributeModel.where_study_id": ["study_id", "session"],
    "optuna.storages._rdb.models:TrialValueModel.stored_repr_to_value": ["value", "float_type"],
    "optuna.storages._rdb.models:TrialIntermediateValueModel.intermediate_value_to_stored_repr": ["value"],
    "optuna.storages._rdb.models:TrialIntermediateValueModel.stored_repr_to_intermediate_value": [
        "value", "float_type",
    ],
}  # fmt: skip
"""What search/storage calls or overrides, with the names of its parameters."""

COLUMNS = {
    "StudyModel": {"study_id", "study_name"},
    "StudyUserAttributeModel": {"study_user_attribute_id", "study_id", "key", "value_json"},
    "StudySystemAttributeModel": {"study_system_attribute_id", "study_id", "key", "value_json"},
    "TrialModel": {"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"},
    "TrialUserAttributeModel": {"trial_user_attribute_id", "trial_id", "key", "value_json"},
    "TrialSystemAttributeModel": {"trial_system_attribute_id", "trial_id", "key", "value_json"},
    "TrialParamModel": {"param_id", "trial_id", "param_name", "param_value", "distribution_json"},
    "TrialValueModel": {"trial_value_id", "trial_id", "objective", "value", "value_type"},
    "TrialIntermediateValueModel": {
        "trial_intermediate_value_id", "trial_id", "step", "intermediate_value", "intermediate_value_type",
    },
    "TrialHeartbeatModel": {"trial_heartbeat_id", "trial_id", "heartbeat"},
}  # fmt: skip
"""Tables that search/storage reads and writes row by row. A column more would stay empty in new rows."""


def found(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        return attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise AssertionError(f"Optuna {optuna.__version__} has no {name}: search/storage needs it") from error


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_is_called_or_overridden_is_there(name: str) -> None:
    parameters = list(inspect.signature(found(name)).parameters)
    assert parameters == SIGNATURES[name], f"Optuna {optuna.__version__} calls {name} in another way"


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_have_the_columns_that_are_read_and_written(name: str) -> None:
    table = found(f"optuna.storages._rdb.models:{name}").__table__
    assert set(table.c.keys()) == COLUMNS[name], f"Optuna {optuna.__version__} has another table {table}"


def test_a_storage_takes_these_options() -> None:
    parameters = inspect.signature(RDBStorage).parameters
    assert list(parameters)[:2] == ["url", "engine_kwargs"]
    assert {"skip_table_creation", "skip_compatibility_check"} <= parameters.keys()


def test_a_storage_has_an_engine_and_sessions(study_file: str) -> None:
    from search.storage.internals import models, transaction

    storage = RDBStorage(study_file)
    assert storage.engine.dialect.name == "sqlite"
    with transaction(storage) as session:
        assert session.query(models.StudyModel).one().study_name == "s"
    storage.engine.dispose()


def test_a_transaction_is_all_or_nothing(study_url: str) -> None:
    from search.storage.internals import models, study_id_of, transaction
    from tests.support.claims import joined

    study, claims = joined(study_url)
    study_id = study_id_of(study)

    def write(key: str) -> None:
        session.add(models.StudyUserAttributeModel(study_id=study_id, key=key, value_json="1"))
        session.flush()

    with transaction(claims) as session:
        write("kept")
    with pytest.raises(ZeroDivisionError), transaction(claims) as session:  # noqa: PT012 - one transaction
        write("dropped")
        raise ZeroDivisionError
    with transaction(claims, or_there=True) as session:
        write("kept")  # is there, which is as good
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), transaction(claims) as session:
        write("kept")
    with pytest.raises(StorageInternalError), transaction(claims) as session:
        session.connection().exec_driver_sql("SELECT nothing FROM nowhere")
    assert study.user_attrs == {"kept": 1}


def test_the_cache_reads_through_one_method_of_what_is_behind_it(study_url: str) -> None:
    from search.storage.internals import behind_cache, cached, storage_of
    from tests.support.claims import joined

    study, claims = joined(study_url)
    assert behind_cache(storage_of(study)) is claims
    assert behind_cache(claims) is claims, "what has no cache is itself"
    assert behind_cache(cached(claims.direct)) is claims.direct
    stock, reads = claims.direct._get_trials, []

    def read(*args: Any, **values: Any) -> Any:
        reads.append((args, values))
        return stock(*args, **values)

    claims._get_trials = read
    study.ask()
    study.tell(study.ask(), 0.5)
    assert len(study.get_trials()) == 2
    assert len(reads) == 1
    study.get_trials()
    [_, (_, again)] = reads
    assert again["trial_id_greater_than"] > 0, "what is finished is read once"
    assert len(again["included_trial_ids"]) == 1, "what is not is read again"


def test_a_trial_is_prepared_with_the_studys_row_locked(
    study_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget, turns and claims rest on it."""
    from search.storage.internals import study_id_of
    from tests.support.claims import holding_study, in_thread, two_workers, waits

    study, first, second = two_workers(study_url)
    stock, others = first.direct._get_prepared_new_trial, []

    def lock() -> None:
        with holding_study(second, study_id_of(study)):
            pass

    def prepared(*args: Any, **values: Any) -> Any:
        other = in_thread(lock)
        others.append(other)
        assert waits(other[0]), "the row is not locked"
        return stock(*args, **values)

    monkeypatch.setattr(first.direct, "_get_prepared_new_trial", prepared)
    study.ask()
    study.enqueue_trial({"x": 0.5})
    for thread, said in others:
        thread.join()
        assert said == [None]
    assert len(others) == 2


def test_asking_looks_into_the_queue_first(study_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.storage.internals import PickyStudy, storage_of, trial_id_of
    from tests.support.claims import joined

    study, claims = joined(study_url)
    assert isinstance(study, PickyStudy)
    study.enqueue_trial({"x": 0.25})
    reads: list[object] = []
    storage = storage_of(study)
    stock = storage.get_all_trials
    monkeypatch.setattr(
        storage, "get_all_trials", lambda *args, **values: reads.append(1) or stock(*args, **values)
    )
    first, second = study.ask(), study.ask()
    assert (first.number, second.number, len(reads)) == (0, 1, 1)
    assert claims.running == {trial_id_of(first), trial_id_of(second)}


def test_keys_of_studies_and_trials_are_those_of_their_tables(study_url: str) -> None:
    from search.storage.internals import models, study_id_of, transaction, trial_id_of
    from tests.support.claims import a_study, joined

    other = a_study(study_url, "t")
    study, claims = joined(study_url)
    trial = study.ask()
    with transaction(claims) as session:
        rows = session.query(models.StudyModel).order_by(models.StudyModel.study_name)
        assert [row.study_id for row in rows] == [study_id_of(study), study_id_of(other)]
        assert session.query(models.TrialModel).one().trial_id == trial_id_of(trial)
    assert trial_id_of(study.trials[0]) == trial_id_of(trial)


def test_a_trial_as_it_was_begun_has_what_an_earlier_attempt_left(study_url: str) -> None:
    from search.storage.internals import as_begun, trial_id_of
    from search.storage.trial_record import TURN
    from tests.support.claims import joined

    study, claims = joined(study_url)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    claims.annotate(trial_id_of(trial), {"seed": 7})
    claims.release(trial_id_of(trial))
    begun = as_begun(study.ask())
    assert (begun.number, begun.state) == (0, TrialState.RUNNING)
    assert begun.system_attrs[TURN] == 0
    assert begun.user_attrs["seed"] == 7
    assert begun.params == trial.params


def test_a_study_that_looks_again_sees_what_was_done_since(study_url: str) -> None:
    from search.storage.internals import look_again
    from tests.support.claims import joined

    study, _ = joined(study_url)

    def seen() -> int:
        return len(study._get_trials(use_cache=True))

    study.ask()
    assert seen() == 1
    joined(study_url, "elsewhere:2:bb")[0].ask()
    assert seen() == 1, "in a thread, a study remembers; else nothing had to be forgotten"
    look_again(study)
    assert seen() == 2


def test_what_is_queued_carries_its_parameters_under_this_name(study_url: str) -> None:
    from search.storage.internals import QUEUED_PARAMS
    from tests.support.claims import joined

    study, _ = joined(study_url)
    study.enqueue_trial({"x": 0.25})
    assert study.trials[0].system_attrs == {QUEUED_PARAMS: {"x": 0.25}}
    study.add_trial(
        optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={QUEUED_PARAMS: {"x": 0.5}})
    )
    assert [study.ask().suggest_float("x", 0, 1) for _ in range(2)] == [0.25, 0.5]
    assert QUEUED_PARAMS == "fixed_params", "in studies that were made before as well"


def test_what_belongs_to_one_attempt_begins_with_these_names(study_file: str, tmp_path: Path) -> None:
    from search.storage.internals import OF_AN_ATTEMPT
    from search.storage.trial_record import TURN
    from tests.support.claims import joined

    study, _ = joined(study_file)
    study.pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    trial = study.ask()
    trial.report(0.5, 1)
    trial.should_prune()
    notes = {name for name in study.trials[0].system_attrs if name != TURN}
    assert notes
    assert all(name.startswith(OF_AN_ATTEMPT[0]) for name in notes)
    path = tmp_path / "weights.pt"
    path.write_text("weights")
    upload_artifact(
        artifact_store=FileSystemArtifactStore(str(tmp_path)), file_path=str(path), study_or_trial=trial
    )
    uploads = set(study.trials[0].system_attrs) - notes - {TURN}
    assert len(uploads) == 1
    assert all(name.startswith(OF_AN_ATTEMPT[1]) for name in uploads)


def test_tpe_takes_as_many_good_ones_as_it_is_told() -> None:
    from search.storage.internals import with_good_ones

    asked: list[int] = []

    def count(trials: int) -> int:
        asked.append(trials)
        return 1

    sampler = with_good_ones(optuna.samplers.TPESampler(seed=0, n_startup_trials=2), count)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
    assert asked == [2, 3, 4]
