"""Which database is meant, and which may not be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from search import errors
from search.errors import SpecError
from search.storage.urls import DEFAULT_URL, NETWORKED, file_system_of, is_sqlite, shown_url, storage_url


def test_options_come_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for unset in (None, ""):
        monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
        if unset is not None:
            monkeypatch.setenv("OPTUNA_STORAGE", unset)
        assert storage_url(None) == storage_url("") == DEFAULT_URL == "sqlite:///studies/search.db"
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///env.db")
    assert storage_url(None) == "sqlite:///env.db"
    assert storage_url("sqlite:///option.db") == "sqlite:///option.db"


@pytest.mark.parametrize(
    "text",
    ["studies/search.db", "nosuchdb://x/y", "sqlite://", "sqlite:///:memory:", "postgresql+nosuch://x/y"],
)
def test_what_is_no_database_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError, match="--storage must") as refused:
        storage_url(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["nosuchdb://me:secret@host/db", "postgresql+psycopg://me:se@cret@host/db", "me:secret@host/db"]
)
def test_what_is_refused_is_shown_without_its_password(text: str) -> None:
    """An @ in a password would cut it in two."""
    with pytest.raises(SpecError, match="--storage must") as refused:
        storage_url(text)
    assert "cret" not in str(refused.value)
    assert "host/db" in str(refused.value)


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    for name in ("a@b@c.db", "ü.db"):
        assert storage_url(f"sqlite:///{tmp_path}/{name}") == f"sqlite:///{tmp_path}/{name}"


def test_a_password_on_the_command_line_is_warned_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning comes once; a password in the environment is nobody else's to read."""
    monkeypatch.setattr(errors, "_told", set())
    url = "postgresql+psycopg://me:hush@host/search"
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    assert (
        storage_url(None) == storage_url("postgresql+psycopg://me@host/search")[:21] + "me:hush@host/search"
    )
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert storage_url(url) == url
    shown = capsys.readouterr().err
    assert shown.count("others on this machine can read a password in --storage") == 1
    assert "hush" not in shown


def test_passwords_are_never_shown() -> None:
    shown = shown_url("postgresql+psycopg://me:secret@host:5433/search")
    assert shown == "postgresql+psycopg://me:***@host:5433/search"


def test_a_file_is_told_from_a_server() -> None:
    assert is_sqlite("sqlite:///x.db")
    assert is_sqlite("sqlite+pysqlite:///x.db")
    assert not is_sqlite("postgresql+psycopg://me@host/sqlite")


MOUNTS = """\
/dev/root / ext4 rw 0 0
proc /proc proc rw 0 0
a line
server:/home /mnt/home nfs4 rw,vers=4.2 0 0
//nas/share /mnt/with\\040space cifs rw 0 0
tmpfs /mnt/home/local tmpfs rw 0 0
/dev/sdb /mnt/twice ext4 rw 0 0
server:/b /mnt/twice ceph rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/somewhere/x.db", "ext4"),
        ("/mnt/home/me/studies/search.db", "nfs4"),
        ("/mnt/homes/x.db", "ext4"),
        ("/mnt/with space/x.db", "cifs"),
        ("/mnt/home/local/x.db", "tmpfs"),
        ("/mnt/home/local/../x.db", "nfs4"),
        ("/mnt/twice/x.db", "ceph"),  # a later mount covers an earlier one
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system_of(Path(path), tmp_path / "mounts") == kind
    assert file_system_of(Path(path), tmp_path / "none") is None


def test_sqlite_on_a_network_drive_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []
    for kind in sorted(NETWORKED):
        monkeypatch.setattr(
            "search.storage.urls.file_system_of", lambda path, kind=kind: asked.append(path) or kind
        )
        with pytest.raises(SpecError) as refused:
            storage_url(f"sqlite:///{tmp_path}/x.db")
        assert f"lies on a network file system ({kind}), where SQLite loses data" in str(refused.value)
        storage_url("postgresql+psycopg://me@host/x")
    assert set(asked) == {tmp_path / "x.db"}
    assert {"nfs", "nfs4", "cifs", "fuse.sshfs", "9p"} <= NETWORKED
    monkeypatch.setattr("search.storage.urls.file_system_of", lambda path: None)
    storage_url(f"sqlite:///{tmp_path}/x.db")
