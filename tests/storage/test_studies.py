from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from search.errors import DatabaseError, SpecError
from search.spec.study import StudySpec
from search.storage.connections import join_study
from search.storage.leases import worker_name
from search.storage.studies import open_study
from search.storage.urls import file_system_of, shown_url, storage_url

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_new_study_holds_spec_data_and_versions(url: str, tiny: StudySpec) -> None:
    study = open_study(url, "s", tiny, "abc", 5)
    attrs = study.user_attrs
    assert attrs["spec"] == tiny.canonical()
    assert attrs["spec_fingerprint"] == tiny.fingerprint()
    assert (attrs["data_fingerprint"], attrs["budget"]) == ("abc", 5)
    assert attrs["versions"].keys() == {"python", "archsearch", "torch", "torchvision", "optuna", "numpy"}
    assert study.direction.name == "MAXIMIZE"


def test_the_same_spec_continues_and_the_budget_only_grows(url: str, tiny: StudySpec) -> None:
    for trials, budget in ((5, 5), (9, 9), (7, 9)):
        assert open_study(url, "s", tiny, "abc", trials).user_attrs["budget"] == budget


def test_another_spec_is_refused_with_a_diff_before_any_trial(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "abc", 5)
    other = replace(tiny, train=replace(tiny.train, epochs=4), space=replace(tiny.space, norm=("none",)))
    with pytest.raises(SpecError) as caught:
        open_study(url, "s", other, "abc", 5)
    message = str(caught.value)
    assert 'space.norm: ["none", "batch"] in the study, ["none"] now' in message
    assert "train.epochs: 3 in the study, 4 now" in message
    assert "--name s-2" in message
    assert open_study(url, "s", tiny, "abc", 5).trials == []
    assert open_study(url, "s-2", other, "abc", 5).trials == []


def test_other_data_is_refused(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "abc", 5)
    with pytest.raises(SpecError, match="made with other images"):
        open_study(url, "s", tiny, "xyz", 5)


def test_a_study_of_someone_else_is_left_alone(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "abc", 5)
    theirs = optuna.create_study(storage=url, study_name="theirs")
    theirs.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(SpecError, match="'theirs' was not made by archsearch: choose another with --name"):
        open_study(url, "theirs", tiny, "abc", 5)
    theirs._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def test_an_empty_study_that_minimizes_is_someone_elses(url: str, tiny: StudySpec) -> None:
    open_study(url, "s", tiny, "abc", 5)
    theirs = optuna.create_study(storage=url, study_name="theirs", direction="minimize")
    with pytest.raises(SpecError, match="was not made by archsearch"):
        open_study(url, "theirs", tiny, "abc", 5)
    theirs._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def test_options_come_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    assert storage_url(None) == "sqlite:///studies/search.db"
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///env.db")
    assert storage_url(None) == "sqlite:///env.db"
    assert storage_url("sqlite:///option.db") == "sqlite:///option.db"


@pytest.mark.parametrize("text", ["studies/search.db", "nosuchdb://x/y", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_database_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError, match="--storage must"):
        storage_url(text)


def test_passwords_are_never_shown(tiny: StudySpec) -> None:
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/none"
    assert "secret" not in shown_url(url)
    with pytest.raises(DatabaseError) as caught:
        open_study(url, "s", tiny, "abc", 5)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(SpecError) as refused:
        storage_url("nosuchdb://me:secret@host/db")
    assert "secret" not in str(refused.value)


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


def test_the_dashboards_own_storage_reads_what_we_wrote(url: str, tiny: StudySpec) -> None:
    """`optuna-dashboard URL` opens the database with stock Optuna."""
    open_study(url, "s", tiny, "abc", 5)
    study, claims = join_study(url, "s", worker_name(), 5)
    trial = study.ask()
    claims.finish(trial._trial_id, optuna.trial.TrialState.COMPLETE, 0.5, {"arm": "plain"})
    storage = optuna.storages.RDBStorage(url)
    stock = optuna.load_study(study_name="s", storage=storage)
    assert stock.best_value == 0.5
    assert stock.best_trial.user_attrs["arm"] == "plain"
    storage.engine.dispose()


def test_sqlite_serves_one_machine(tmp_path: Path, tiny: StudySpec) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    open_study(url, "s", tiny, "data", 2)
    study, claims = join_study(url, "s", "farm7/4026531836:1:aa", 2)
    trial = study.ask()
    with pytest.raises(SpecError, match="a worker on farm7 runs a trial of 's': SQLite serves one machine"):
        open_study(url, "s", tiny, "data", 2)
    claims.release(trial._trial_id)
    open_study(url, "s", tiny, "data", 2)  # a file that was copied here is fine


MOUNTS = """\
/dev/root / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home /mnt/home nfs4 rw,vers=4.2 0 0
//nas/share /mnt/with\\040space cifs rw 0 0
tmpfs /mnt/home/local tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/somewhere/x.db", "ext4"),
        ("/mnt/home/me/studies/search.db", "nfs4"),
        ("/mnt/homes/x.db", "ext4"),
        ("/mnt/with space/x.db", "cifs"),
        ("/mnt/home/local/x.db", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system_of(Path(path), tmp_path / "mounts") == kind
    assert file_system_of(Path(path), tmp_path / "none") is None


def test_sqlite_on_a_network_drive_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("search.database.file_system_of", lambda path: "nfs4")
    with pytest.raises(SpecError, match=r"lies on a network file system \(nfs4\), where SQLite loses data"):
        storage_url(f"sqlite:///{tmp_path}/x.db")
    storage_url("postgresql+psycopg://me@host/x")
