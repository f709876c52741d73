"""Passwords for the compose stack."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from search.secrets.__main__ import DATABASE, LOGINS, main, salted_sha1
from search.web.passwords import is_password, read_logins
from tests.support.paths import REPOSITORY

NAMES = {*DATABASE, *LOGINS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "secrets"


def made(folder: Path, capsys: pytest.CaptureFixture[str], user: str = "ada") -> str | None:
    """The password that was printed, if there was one."""
    assert main(["--folder", str(folder), "--user", user]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"{folder}/ holds what docker compose needs" in out
    return out.split(f"login of the dashboard: {user} / ")[1].split()[0] if "login of" in out else None


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def lets_in(folder: Path, user: str, password: str) -> bool:
    """Whether gateway and dashboard both let the user in."""
    name, _, ssha = (folder / "gateway_htpasswd").read_text().strip().partition(":")
    raw = base64.b64decode(ssha.removeprefix("{SSHA}"))
    gateway = name == user and hashlib.sha1(password.encode() + raw[20:]).digest() == raw[:20]
    line = (folder / "dashboard_logins").read_text().strip()
    return gateway and line.startswith(f"{user}:") and is_password(password.encode(), line.partition(":")[2])


def test_secrets_are_made_once_and_all_differ(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password = made(folder, capsys)
    assert password is not None
    assert lets_in(folder, "ada", password)
    assert not lets_in(folder, "ada", f"{password}x")
    assert read_logins(folder / "dashboard_logins").keys() == {"ada"}, "a file as --auth-file reads it"
    assert "others can read" in capsys.readouterr().err, "which the folder prevents"
    before = contents(folder)
    assert before.keys() == NAMES
    assert len(set(before.values())) == 5
    assert password not in "".join(before.values())
    assert all(len(before[name]) == 43 for name in DATABASE), "32 random bytes"
    assert made(folder, capsys, "bob") is None
    assert contents(folder) == before


def test_the_folder_is_for_its_owner_and_containers_read_the_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(folder, capsys)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_missing_or_empty_password_is_made_anew_and_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(folder, capsys)
    before = contents(folder)
    (folder / "db_owner").unlink()
    (folder / "db_viewer").write_text("")
    assert made(folder, capsys) is None
    after = contents(folder)
    assert {name for name in NAMES if after[name] != before[name]} == {"db_owner", "db_viewer"}
    assert all(len(after[name]) == 43 for name in DATABASE)


@pytest.mark.parametrize("name", LOGINS)
def test_the_two_files_of_a_login_are_made_together(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made(folder, capsys)
    (folder / name).unlink()
    password = made(folder, capsys, "bob")
    assert password is not None
    assert lets_in(folder, "bob", password)


def test_a_hash_has_a_salt_of_its_own() -> None:
    assert salted_sha1("x") != salted_sha1("x")


@pytest.mark.parametrize("user", ["", "a:b", "a b", "-a", "ü", "a\n", "a" * 65])
def test_what_is_no_users_name_is_told(folder: Path, capsys: pytest.CaptureFixture[str], user: str) -> None:
    assert main([f"--folder={folder}", f"--user={user}"]) == 2
    assert "a user's name has letters, digits and ._@- only" in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--folder", str(tmp_path / "file" / "secrets")]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err


ISOLATED = f"import runpy, sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.argv[0] = 'secrets'; "
ISOLATED += "runpy.run_module('search.secrets', run_name='__main__')"


@pytest.mark.parametrize("words", [["-S", "-E", "-s", "-m", "search.secrets"], ["-I", "-S", "-c", ISOLATED]])
def test_secrets_need_nothing_but_python(folder: Path, words: list[str]) -> None:
    """The machine may have docker and no virtual environment."""
    command = [sys.executable, *words, "--folder", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    assert contents(folder).keys() == NAMES
