"""Passwords for the compose stack: `python3 -m search.secrets`. Needs nothing but Python itself.

This folder has no __init__.py on purpose: a module of the name `secrets` would stand before the standard
library's for whatever is run from the folder above.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_bytes, token_urlsafe

from search.cli.options import parser_of
from search.web.passwords import password_hash

DATABASE = ("db_owner", "db_worker", "db_viewer")
LOGINS = ("gateway_htpasswd", "dashboard_logins")
EXAMPLES = """\
Makes a random password for each account of the database and one login for the gateway, which is printed once.
Files that exist are kept: to change a password, remove its files and the database's volume.
Containers read the files as other users: it is the folder, for you alone, that protects them.
exit codes: 0 done, 2 usage
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("secrets", "Make the passwords that docker compose needs.", EXAMPLES)
    parser.add_argument("--folder", type=Path, default=Path("secrets"), help="(%(default)s)")
    parser.add_argument("--user", default="admin", help="login of the gateway (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", options.user):
        print(
            f"error: a user's name has letters, digits and ._@- only, got {options.user!r}", file=sys.stderr
        )
        return 2
    try:
        password = make_secrets(options.folder, options.user)
    except OSError as error:
        print(f"error: {options.folder} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    if password is not None:
        print(f"login of the dashboard: {options.user} / {password}   (kept nowhere but in your head)")
    print(f"{options.folder}/ holds what docker compose needs; keep it out of backups that others read")
    return 0


def make_secrets(folder: Path, user: str) -> str | None:
    """Writes the files that are not there yet. Returns the password of a new login, None where there was
    one."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o700)
    for name in DATABASE:
        if not _is_there(folder / name):
            _write(folder / name, token_urlsafe(32))
    if all(_is_there(folder / name) for name in LOGINS):
        return None
    password = token_urlsafe(18)
    _write(folder / "gateway_htpasswd", f"{user}:{salted_sha1(password)}\n")
    _write(folder / "dashboard_logins", f"{user}:{password_hash(password.encode())}\n")
    return password


def salted_sha1(password: str) -> str:
    """A password's hash as nginx reads it, RFC 2307. Enough for 18 random bytes; the dashboard behind it
    checks scrypt."""
    salt = token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _write(path: Path, text: str) -> None:
    """Writes all of a file or nothing."""
    scratch = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    scratch.chmod(0o644)  # whatever the umask: containers run as other users
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
