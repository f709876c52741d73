from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from search.errors import SpecError
from search.web import passwords
from search.web.passwords import HASH, Logins, is_password, make_login, password_hash, read_logins

ADA = password_hash(b"pa:ss w\xc3\xb6rd", ln=10, p=1)
"""A cheap hash, for tests; its password has a colon, a space and an umlaut."""
BOB = password_hash(b"bob's", ln=10, p=1)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_hash_is_of_its_password_alone_and_salted() -> None:
    first, second = password_hash(b"secret"), password_hash(b"secret")
    assert first != second
    assert HASH.fullmatch(first)
    assert is_password(b"secret", first)
    assert not is_password(b"Secret", first)
    assert not is_password(b"", first)


def test_a_hash_is_costly_unless_told_otherwise() -> None:
    assert password_hash(b"secret").startswith("$scrypt$ln=14,r=8,p=5$")
    assert ADA.startswith("$scrypt$ln=10,r=8,p=1$")


def test_hashes_of_other_programs_are_understood() -> None:
    """The example in passlib's documentation."""
    theirs = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
    assert is_password(b"password", theirs)


def test_who_is_admitted() -> None:
    logins = Logins({"ada": ADA, "bob": BOB})
    for _ in range(2):
        assert logins.admit(basic("ada", "pa:ss wörd"))
        assert logins.admit(basic("bob", "bob's"))
        assert not logins.admit(basic("ada", "pa"))
        assert not logins.admit(basic("ada", "bob's"))
        assert not logins.admit(basic("eve", "pa:ss wörd"))
        assert not logins.admit(basic("", ""))
    assert logins.admit(basic("ada", "pa:ss wörd").replace("Basic", "bASIC"))


def test_nobody_is_admitted_by_the_password_of_the_decoy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "is_password", lambda password, stored: True)
    assert not Logins({"ada": ADA}).admit(basic("eve", "any"))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWRh",
        "Basic ä",
        "Bearer YWRhOnBh",
        "Basic //9hOmI=",
        "Basic Og==",
    ],
)
def test_what_is_no_login_is_turned_away(header: str) -> None:
    assert not Logins({"ada": ADA}).admit(header)


def test_a_login_by_another_scheme_is_turned_away() -> None:
    assert not Logins({"ada": ADA}).admit(basic("ada", "pa:ss wörd").replace("Basic", "Bearer"))


def test_a_proven_login_is_not_hashed_again_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins({"ada": ADA})
    assert logins.admit(basic("ada", "pa:ss wörd"))
    hashed: list[bytes] = []

    def scrypt(password: bytes, *_: object) -> bytes:
        hashed.append(password)
        return b""

    monkeypatch.setattr(passwords, "_scrypt", scrypt)
    assert logins.admit(basic("ada", "pa:ss wörd"))
    assert not hashed
    assert not logins.admit(basic("ada", "wrong"))
    assert not logins.admit(basic("ada", "wrong"))
    assert hashed == [b"wrong"] * 2, "what was wrong once is not remembered"
    assert "wörd" not in str(vars(logins))
    assert "w\\xc3\\xb6rd" not in str(vars(logins))


def test_an_unknown_user_is_hashed_as_a_known_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of an answer would tell who has a login."""
    logins = Logins({"ada": password_hash(b"secret")})
    costs: list[tuple[int, int]] = []
    real = passwords._scrypt

    def scrypt(password: bytes, salt: bytes, ln: int, p: int) -> bytes:
        costs.append((ln, p))
        return real(password, salt, 10, 1)

    monkeypatch.setattr(passwords, "_scrypt", scrypt)
    for user in ("nobody", "ada"):
        assert not logins.admit(basic(user, "wrong"))
    assert costs == [(14, 5), (14, 5)]


def test_guesses_are_hashed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing takes one core and 16 MB, however many guess."""
    logins, lock = Logins({"ada": ADA}), threading.Lock()
    inside, most, together = 0, 0, threading.Barrier(8)

    def scrypt(*_: object) -> bytes:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)  # long enough for another to come in
        with lock:
            inside -= 1
        return b"wrong"

    def guess(i: int) -> bool:
        together.wait(60)
        return logins.admit(basic("ada" if i % 2 else "eve", f"guess {i}"))

    monkeypatch.setattr(passwords, "_scrypt", scrypt)
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(guess, range(8)))
    assert most == 1


def test_a_login_file_has_comments_and_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logins"
    path.write_text(f"# ours\n\nada:{ADA}\n bob:{BOB} \n")
    path.chmod(0o600)
    assert read_logins(path) == {"ada": ADA, "bob": BOB}
    assert capsys.readouterr().err == ""
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        assert len(read_logins(path)) == 2
        assert capsys.readouterr().err == f"warning: others can read {path}: chmod 600 {path}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "holds no login: add what `python -m search.dashboard --make-login USER` prints"),
        (b"# nobody\n\n", "holds no login"),
        (b"ada:secret\n", "line 1: must be user:"),
        (f"ada:{ADA}\nada:{ADA}\n".encode(), "line 2: must be user:.* each user once"),
        (f":{ADA}\n".encode(), "line 1"),
        (f"ada {ADA}\n".encode(), "line 1"),
        (f"\nada:{ADA[:-1]}\n".encode(), "line 2"),
        (f"ada:{ADA.replace('ln=10', 'ln=31')}\n".encode(), "line 1"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
    ids=["empty", "comment", "no hash", "twice", "no user", "no colon", "short", "costly", "no text"],
)
def test_a_bad_login_file_is_told_without_what_it_holds(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "logins"
    path.write_bytes(text)
    with pytest.raises(SpecError, match=message) as caught:
        read_logins(path)
    assert "secret" not in str(caught.value)
    assert ADA[:-1] not in str(caught.value)


def test_a_login_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SpecError, match=f"--auth-file {path} cannot be read"):
            read_logins(path)


def typed(monkeypatch: pytest.MonkeyPatch, *words: Any) -> None:
    """A person at a terminal who types these."""
    left = list(words)

    def getpass(_: str) -> str:
        word = left.pop(0)
        if isinstance(word, str):
            return word
        raise word

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", getpass)


def piped(monkeypatch: pytest.MonkeyPatch, readline: Callable[[], str]) -> None:
    class Pipe:
        def isatty(self) -> bool:
            return False

        def readline(self) -> str:
            return readline()

    monkeypatch.setattr("sys.stdin", Pipe())


def test_a_login_of_a_terminal_is_of_what_was_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "wörd", "wörd")
    user, _, stored = make_login("ada").partition(":")
    assert user == "ada"
    assert is_password("wörd".encode(), stored)
    typed(monkeypatch, "one", "two")
    with pytest.raises(SpecError, match="two different passwords"):
        make_login("ada")


@pytest.mark.parametrize("line", [" a b \n", " a b \r\n", " a b "])
def test_a_login_of_a_pipe_is_of_its_first_line(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    piped(monkeypatch, lambda: line)
    assert is_password(b" a b ", make_login("ada").partition(":")[2])


def test_no_password_is_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad() -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")

    for readline, message in ((lambda: "\n", "must not be empty"), (bad, "must be a line of UTF-8 text")):
        piped(monkeypatch, readline)
        with pytest.raises(SpecError, match=message):
            make_login("ada")
    typed(monkeypatch, EOFError())
    with pytest.raises(SpecError, match="UTF-8 text"):
        make_login("ada")


@pytest.mark.parametrize("user", ["", " ada", "ada ", "a:b", "#ada", "a\nb"])
def test_what_is_no_users_name_is_refused(user: str) -> None:
    with pytest.raises(SpecError, match="a user's name has no colon"):
        make_login(user)
