"""Logins: files of users and password hashes, and who is let in. Standard library only.

A login file holds a line `user:hash` for each user; see HASH.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import re
import secrets
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from search.errors import SpecError

HASH = re.compile(r"\$scrypt\$ln=(1[0-7]),r=8,p=([1-9])\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})")
"""PHC string format: scrypt with N = 2**ln, base64 of a salt of 16 and a hash of 32 bytes, no padding."""


def password_hash(password: bytes, ln: int = 14, p: int = 5) -> str:
    """A hash of the password with a fresh salt."""
    salt = secrets.token_bytes(16)
    salt_text, hash_text = (_unpadded(part) for part in (salt, _scrypt(password, salt, ln, p)))
    return f"$scrypt$ln={ln},r=8,p={p}${salt_text}${hash_text}"


def is_password(password: bytes, stored: str) -> bool:
    """Whether a hash, as HASH has it, is of this password."""
    match = HASH.fullmatch(stored)
    assert match is not None
    ln, p, salt, expected = match.groups()
    found = _scrypt(password, base64.b64decode(salt + "=="), int(ln), int(p))
    return hmac.compare_digest(found, base64.b64decode(expected + "="))


def _scrypt(password: bytes, salt: bytes, ln: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=2**ln, r=8, p=p, maxmem=2 ** (ln + 11), dklen=32)


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def read_logins(path: Path) -> dict[str, str]:
    """The users of a login file, with their password hashes. Raises SpecError."""
    try:
        lines = path.read_text().splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--auth-file {path} cannot be read: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        user, _, stored = line.partition(":")
        if not line or line.startswith("#"):
            continue
        if not user or user in found or not HASH.fullmatch(stored):
            raise SpecError(
                f"{path}, line {number}: must be user:$scrypt$..., each user once; "
                "`python -m search.dashboard --make-login USER` prints such a line"
            )
        found[user] = stored
    if not found:
        raise SpecError(
            f"{path} holds no login: add what `python -m search.dashboard --make-login USER` prints"
        )
    if mode & 0o044 and not path.is_relative_to("/run/secrets"):  # where a container is alone
        print(f"warning: others can read {path}: chmod 600 {path}", file=sys.stderr)
    return found


class Logins:
    """HTTP basic authentication. A login proven once is remembered: scrypt is slow, and pages ask often."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {user.encode(): stored for user, stored in hashes.items()}
        self._decoy = password_hash(secrets.token_bytes())  # an unknown user takes as long as a known one
        self._key, self._proven = secrets.token_bytes(), set[bytes]()
        self._one_at_a_time = threading.Lock()  # guessing takes one core and 16 MB, not all of them

    def admit(self, authorization: str) -> bool:
        """Whether an Authorization header brings a login."""
        scheme, _, token = authorization.partition(" ")
        try:
            credentials = base64.b64decode(token, validate=True)
        except ValueError:
            return False
        user, colon, password = credentials.partition(b":")
        if scheme.lower() != "basic" or not colon:
            return False
        proof = hmac.digest(self._key, credentials, "sha256")
        if proof in self._proven:
            return True
        with self._one_at_a_time:
            right = is_password(password, self._hashes.get(user, self._decoy)) and user in self._hashes
        if right:
            self._proven.add(proof)
        return right


def make_login(user: str) -> str:
    """A line for --auth-file; the password comes from the terminal, or is the first line of a pipe."""
    if not user or user != user.strip() or user.startswith("#") or ":" in user or not user.isprintable():
        raise SpecError(f"a user's name has no colon, no # and no space around it, got {user!r}")
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"password of {user}: ")
            if getpass.getpass("again: ") != password:
                raise SpecError("these were two different passwords")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise SpecError("a password must not be empty")
        return f"{user}:{password_hash(password.encode())}"
    except (EOFError, UnicodeError):
        raise SpecError("a password must be a line of UTF-8 text") from None
