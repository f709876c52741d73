"""Studies by their names: begun once, continued if they are the same, else refused before any trial."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import TrialState

from search.errors import DatabaseError, SpecError
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.spec.tables import ConfirmSettings
from search.storage import studies as module
from search.storage.connections import watch
from search.storage.internals import cached, storage_of, study_id_of, trial_id_of
from search.storage.studies import (
    beside,
    check_same,
    confirmation_name,
    confirmation_of,
    find,
    is_there,
    not_ours,
    open_study,
    plan_of,
    repeats_name,
    set_attributes,
    spec_of,
    versions,
)
from search.storage.study_record import REPEATS, StudyRecord, record_of_study
from tests.support.claims import age, joined


def test_a_new_study_holds_spec_data_and_versions(url: str, tiny: StudySpec) -> None:
    study = open_study(url, "s", tiny, "abc", 5)
    stored = record_of_study(study)
    assert stored.spec == tiny.canonical()
    assert stored.spec_fingerprint == tiny.fingerprint()
    assert (stored.data_fingerprint, stored.budget, stored.kind) == ("abc", 5, "search")
    assert stored.versions == versions()
    assert stored.versions.keys() == {"python", "archsearch", "torch", "torchvision", "optuna", "numpy"}
    assert len(stored.key) == 16
    assert record_of_study(open_study(url, "t", tiny, "abc", 5)).key != stored.key
    assert study.direction.name == "MAXIMIZE"
    assert study.metric_names == ["validation accuracy"]


def test_the_same_spec_continues_and_the_budget_only_grows(url: str, tiny: StudySpec) -> None:
    keys = set()
    for trials, budget in ((5, 5), (9, 9), (7, 9)):
        stored = record_of_study(open_study(url, "s", tiny, "abc", trials))
        assert stored.budget == budget
        keys.add(stored.key)
    assert len(keys) == 1


class Killed(Exception):
    """The command was killed."""


def test_a_study_whose_command_was_killed_while_it_began_is_begun_again(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever attributes it had written: the spec tells that all before it are there."""
    stock, names = Study.set_user_attr, []

    def counted(study: Study, name: str, value: Any) -> None:
        names.append(name)
        stock(study, name, value)

    monkeypatch.setattr(Study, "set_user_attr", counted)
    open_study(f"sqlite:///{tmp_path}/whole.db", "s", tiny, "abc", 5)
    written = list(names)
    assert written[-3:] == ["spec", "confirm", "budget"]
    url = f"sqlite:///{tmp_path}/x.db"
    for count in (0, 3, written.index("spec"), written.index("budget")):
        names.clear()

        def killed(study: Study, name: str, value: Any, left: int = count) -> None:
            if len(names) == left:
                raise Killed
            counted(study, name, value)

        monkeypatch.setattr(Study, "set_user_attr", killed)
        with pytest.raises(Killed):
            open_study(url, f"s{count}", tiny, "abc", 5)
        monkeypatch.setattr(Study, "set_user_attr", counted)
        stored = record_of_study(open_study(url, f"s{count}", tiny, "abc", 5))
        assert stored.stored.keys() == set(written)
        assert (stored.spec, stored.data_fingerprint, stored.budget) == (tiny.canonical(), "abc", 5)


def test_another_spec_is_refused_with_a_diff_before_any_trial(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "abc", 5)
    other = replace(tiny, train=replace(tiny.train, epochs=4), space=replace(tiny.space, norm=("none",)))
    with pytest.raises(SpecError) as caught:
        open_study(url, "s", other, "abc", 9)
    message = str(caught.value)
    assert 'space.norm: ["none", "batch"] in the study, ["none"] now' in message
    assert "train.epochs: 3 in the study, 4 now" in message
    assert "--name s-2" in message
    study = open_study(url, "s", tiny, "abc", 5)
    assert (study.trials, record_of_study(study).budget) == ([], 5)
    assert open_study(url, "s-2", other, "abc", 5).trials == []


def test_other_images_are_refused(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "abc", 5)
    with pytest.raises(SpecError, match=r"made with other images \(abc in the study, xyz now\).* --name s-2"):
        open_study(url, "s", tiny, "xyz", 5)


def test_a_spec_that_differs_is_told_before_images_that_differ(tiny: StudySpec) -> None:
    stored = StudyRecord({"spec": tiny.canonical(), "data_fingerprint": "abc"})
    check_same("s", stored, tiny, "abc")
    with pytest.raises(SpecError, match="was made with another spec"):
        check_same("s", stored, replace(tiny, train=replace(tiny.train, epochs=4)), "xyz")


def test_a_study_of_another_kind_is_refused_with_its_command(tmp_path: Path, tiny: StudySpec) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    kinds = {"search": "run", "confirmation": "confirm", REPEATS: "repeat"}
    for kind in kinds:
        open_study(url, kind, tiny, "abc", 5, kind)
    for name, command in kinds.items():
        for kind in kinds.keys() - {name}:
            with pytest.raises(
                SpecError, match=rf"'{name}' is a {name}: `python -m search\.{command}` goes on"
            ):
                open_study(url, name, tiny, "abc", 5, kind)
        assert record_of_study(open_study(url, name, tiny, "abc", 5, name)).kind == name


def test_a_study_from_before_there_were_kinds_is_a_search(tmp_path: Path, tiny: StudySpec) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    study = optuna.create_study(storage=url, study_name="s", direction="maximize")
    for name, value in {"spec": tiny.canonical(), "data_fingerprint": "abc"}.items():
        study.set_user_attr(name, value)
    storage_of(study)._backend.engine.dispose()  # type: ignore[attr-defined]
    assert record_of_study(open_study(url, "s", tiny, "abc", 5)).budget == 5


@pytest.mark.parametrize(("direction", "trials"), [("minimize", 0), ("maximize", 1)])
def test_a_study_of_someone_else_is_left_alone(
    tmp_path: Path, tiny: StudySpec, direction: Literal["minimize", "maximize"], trials: int
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    theirs = optuna.create_study(storage=url, study_name="theirs", direction=direction)
    theirs.add_trials([optuna.trial.create_trial(value=1.0)] * trials)
    with pytest.raises(SpecError, match="'theirs' was not made by archsearch: choose another with --name"):
        open_study(url, "theirs", tiny, "abc", 5)
    assert theirs.user_attrs == {}
    storage_of(theirs)._backend.engine.dispose()  # type: ignore[attr-defined]


def test_a_plan_is_made_of_the_one_that_is_stored(tmp_path: Path, tiny: StudySpec) -> None:
    url, seen = f"sqlite:///{tmp_path}/x.db", []

    def opened(value: dict[str, Any]) -> Study:
        def plan(stored: Any) -> dict[str, Any]:
            seen.append(stored)
            return value

        return open_study(url, "c", tiny, "abc", 5, "confirmation", plan)

    for value in ({"margin": 1.5}, {"margin": 2.5}):
        assert record_of_study(opened(value)).plan == value
    assert seen == [None, {"margin": 1.5}]
    study = opened({"margin": 2.5})
    assert plan_of(storage_of(study), "c") == {"margin": 2.5}
    with pytest.raises(SpecError, match="a rule of the plan"):
        open_study(url, "c", tiny, "abc", 50, "confirmation", refuse)
    assert record_of_study(study).budget == 5


def refuse(stored: Any) -> dict[str, Any]:
    raise SpecError("a rule of the plan")


def test_attributes_are_stored_in_their_order_and_none_is_left_out(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(f"sqlite:///{tmp_path}/x.db", "s", tiny, "abc", 5)
    stored: list[tuple[str, Any]] = []
    monkeypatch.setattr(study, "set_user_attr", lambda *pair: stored.append(pair))
    set_attributes(study, plan={"margin": 1.5}, key=None, budget=0)
    assert stored == [("confirmation", {"margin": 1.5}), ("budget", 0)]
    with pytest.raises(TypeError):
        set_attributes(study, confirmation={})


# other machines


@pytest.mark.parametrize(("seconds", "refused"), [(0, True), (50, True), (70, False)])
def test_sqlite_serves_one_machine_while_another_is_alive(
    tmp_path: Path, tiny: StudySpec, seconds: float, refused: bool
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    study = open_study(url, "s", tiny, "data", 2)
    _, claims = joined(url, "farm7/4026531836:1:aa")
    trial_id = trial_id_of(joined(url, "farm7/4026531836:1:aa")[0].ask())
    age(claims, seconds)
    if refused:
        with pytest.raises(
            SpecError, match="a worker on farm7 runs a trial of 's': SQLite serves one machine"
        ):
            open_study(url, "s", tiny, "data", 9)
        assert record_of_study(study).budget == 2
        claims.release(trial_id)
    open_study(url, "s", tiny, "data", 9)  # a file that was copied here is fine


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
@pytest.mark.slow
@pytest.mark.database
def test_a_server_serves_many_machines(kind: str, request: pytest.FixtureRequest, tiny: StudySpec) -> None:
    url = request.getfixturevalue(kind).new_database()
    open_study(url, "s", tiny, "data", 2)
    joined(url, "farm7/4026531836:1:aa")[0].ask()
    open_study(url, "s", tiny, "data", 9)


# databases that cannot be used


def test_a_file_that_is_no_database_is_told_in_a_line(tmp_path: Path, tiny: StudySpec) -> None:
    (tmp_path / "x.db").write_text("this is not a database, but a text of some length\n" * 100)
    with pytest.raises(DatabaseError, match="file is not a database"):
        open_study(f"sqlite:///{tmp_path}/x.db", "s", tiny, "abc", 5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_told_in_a_line(tmp_path: Path, tiny: StudySpec) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(DatabaseError, match="cannot be used"):
        open_study(f"sqlite:///{tmp_path}/x.db", "s", tiny, "abc", 5)


def test_a_folder_that_cannot_be_made_is_told_in_a_line(tmp_path: Path, tiny: StudySpec) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="cannot be used: "):
        open_study(f"sqlite:///{tmp_path}/file/x.db", "s", tiny, "abc", 5)


def test_a_server_out_of_reach_is_told_without_its_password(
    tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:1") as caught:
        open_study("postgresql+psycopg://me:secret@127.0.0.1:1/none", "s", tiny, "abc", 5)
    assert "secret" not in str(caught.value)


def test_stock_optuna_reads_what_we_wrote(url: str, tiny: StudySpec) -> None:
    """As `optuna-dashboard URL` does."""
    open_study(url, "s", tiny, "abc", 5)
    study, claims = joined(url)
    claims.finish(trial_id_of(study.ask()), TrialState.COMPLETE, 0.5, {"arm": "plain"})
    storage = RDBStorage(url)
    stock = optuna.load_study(study_name="s", storage=storage)
    assert stock.best_value == 0.5
    assert stock.best_trial.user_attrs["arm"] == "plain"
    storage.engine.dispose()


# finding them again


@pytest.fixture
def search(tmp_path: Path, tiny: StudySpec) -> Study:
    return open_study(f"sqlite:///{tmp_path}/x.db", "s", tiny, "abc", 5)


def opened_beside(search: Study, name: str, **values: Any) -> Study:
    study = optuna.create_study(storage=storage_of(search), study_name=name, direction="maximize")
    set_attributes(study, **values)
    return study


def test_a_study_is_found_or_those_that_are_there_are_named(search: Study, tmp_path: Path) -> None:
    assert find(storage_of(search), "s").study_name == "s"
    opened_beside(search, "another")
    with pytest.raises(
        SpecError, match="no study 't' in the database, which has: another, s; choose with --name"
    ):
        find(storage_of(search), "t")
    empty = cached(RDBStorage(f"sqlite:///{tmp_path}/empty.db"))
    with pytest.raises(SpecError, match="which has: none;"):
        find(empty, "t")
    empty._backend.engine.dispose()  # type: ignore[attr-defined]


def test_a_study_is_there_until_it_is_deleted(search: Study) -> None:
    other = opened_beside(search, "another")
    assert is_there(search)
    optuna.delete_study(study_name="s", storage=storage_of(search))
    assert not is_there(search)
    assert is_there(other)


def test_a_study_beside_another_uses_its_connection(search: Study) -> None:
    opened_beside(search, "t")
    found = beside(search, "t")
    assert (found.study_name, storage_of(found)) == ("t", storage_of(search))
    assert study_id_of(found) != study_id_of(search)
    with pytest.raises(KeyError):
        beside(search, "u")


def test_a_confirmation_is_a_study_of_that_name_with_a_plan(search: Study, tmp_path: Path) -> None:
    storage = storage_of(search)
    assert (confirmation_name("s"), repeats_name("s")) == ("s-confirm", "s-repeat")
    assert plan_of(storage, "s-confirm") is None
    assert plan_of(storage, "s") is None
    assert confirmation_of(search) is None
    study = opened_beside(search, "s-confirm")
    assert confirmation_of(search) is None, "a name alone makes no confirmation"
    set_attributes(study, plan={"margin": 1.5})
    found = confirmation_of(search)
    assert found is not None
    assert study_id_of(found) == study_id_of(study)
    looker = optuna.load_study(study_name="s", storage=watch(f"sqlite:///{tmp_path}/x.db", writes=False))
    assert confirmation_of(looker) is not None


# the spec of a study


def test_a_spec_comes_from_its_file_or_else_from_the_study(
    search: Study, tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = record_of_study(search)
    assert spec_of(None, "s", stored) == replace(tiny, name="s")
    assert spec_of(str(tmp_path / "tiny.toml"), "s", stored) == tiny
    seeded = replace(tiny, search=replace(tiny.search, seed=23))
    stored = StudyRecord({"spec": seeded.canonical()})
    assert spec_of(str(tmp_path / "tiny.toml"), None, stored) == seeded, "the seed is the study's"
    monkeypatch.setattr(module, "DEFAULT_STUDY", str(tmp_path / "tiny.toml"))
    assert spec_of(None, None, stored) == seeded


def test_a_search_keeps_how_its_file_would_have_it_confirmed(url: str, tiny: StudySpec) -> None:
    """A confirmation that is told the name alone asks what the file asks."""
    for seeds in (3, 4):
        spec = replace(tiny, confirm=replace(tiny.confirm, seeds=seeds, depths=(3, 7), margin=2.5))
        study = open_study(url, "s", spec, "abc", 5)
        assert spec_of(None, "s", record_of_study(study)).confirm == spec.confirm
    open_study(url, "s-confirm", tiny, "abc", 5, "confirmation", lambda _: {})
    assert record_of_study(find(storage_of(study), "s-confirm")).confirm is None
    before = StudyRecord({"spec": tiny.canonical()})
    assert spec_of(None, "s", before).confirm == ConfirmSettings()


def test_a_study_without_a_spec_is_not_ours() -> None:
    for study, name, told in (
        ("file.toml", "n", "n"),
        ("file.toml", None, "file.toml"),
        (None, None, "digits"),
    ):
        with pytest.raises(SpecError) as refused:
            spec_of(study, name, StudyRecord({}))
        assert str(refused.value) == str(not_ours(told))
    assert "was not made by archsearch" in str(not_ours("x"))


def test_images_of_ones_own_are_not_found_without_the_file() -> None:
    """The database does not say where they lie."""
    spec = load_spec(find_study("digits")).canonical()
    spec["data"]["name"] = "folder"
    with pytest.raises(
        SpecError, match="--study FILE is needed as well: it says where the images of 's' lie"
    ):
        spec_of(None, "s", StudyRecord({"spec": spec}))


def test_a_library_that_is_not_installed_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions()["optuna"] == optuna.__version__
    monkeypatch.setattr(module, "version", missing)
    assert set(versions().values()) == {versions()["python"], "not installed"}


def missing(name: str) -> str:
    raise PackageNotFoundError(name)
