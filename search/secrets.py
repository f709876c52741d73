"""Passwords for the compose stack: `python3 -m search.secrets`. Needs nothing but Python itself."""

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

from search.guard import password_hash
from search.options import parser_of

DATABASE = ("db_owner", "db_worker", "db_viewer")
LOGINS = ("gateway_htpasswd", "dashboard_logins")
EPILOG = """\
Makes a random password for each account of the database and one login for the gateway, which is printed once.
Files that exist are kept: to change a password, remove its files and the database's volume.
Containers read the files as other users: it is the folder, for you alone, that protects them.
exit codes: 0 done, 2 usage
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("secrets", "Make the passwords that docker compose needs.", EPILOG)
    parser.add_argument("--folder", type=Path, default=Path("secrets"), help="(%(default)s)")
    parser.add_argument("--user", default="admin", help="of the gateway (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", options.user):
        print(
            f"error: a user's name has letters, digits and ._@- only, got {options.user!r}", file=sys.stderr
        )
        return 2
    folder: Path = options.folder
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o700)
        for name in DATABASE:
            if not _is_there(folder / name):
                _write(folder / name, token_urlsafe(32))
        if not all(_is_there(folder / name) for name in LOGINS):
            password = token_urlsafe(18)
            _write(folder / "gateway_htpasswd", f"{options.user}:{salted_sha1(password)}\n")
            _write(folder / "dashboard_logins", f"{options.user}:{password_hash(password.encode())}\n")
            print(f"login of the dashboard: {options.user} / {password}   (kept nowhere but in your head)")
    except OSError as error:
        print(f"error: {folder} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{folder}/ holds what docker compose needs; keep it out of backups that others read")
    return 0


def salted_sha1(password: str) -> str:
    """As nginx reads it, RFC 2307. Enough for 18 random bytes; the dashboard behind it checks scrypt."""
    salt = token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    scratch = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    scratch.chmod(0o644)  # whatever the umask: containers run as other users
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
