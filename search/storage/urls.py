"""Databases by their URLs: where they are, and which may not be used. No other module takes a URL apart."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from search.errors import SpecError, tell_once

DEFAULT_URL = "sqlite:///studies/search.db"
NETWORKED = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
}  # fmt: skip
"""File systems whose locks SQLite cannot rely on (sqlite.org/faq.html, question 5)."""


def storage_url(option: str | None) -> str:
    """The URL of --storage, else OPTUNA_STORAGE, else SQLite in studies/. Raises SpecError for what cannot be
    used."""
    text = option or os.environ.get("OPTUNA_STORAGE") or DEFAULT_URL
    try:
        url = make_url(text)
        url.get_dialect()
        if text.count("@") > 1 and not is_sqlite(url):
            raise ValueError("which of them ends the password?")
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        shown = text if "@" not in text else text.rpartition("@")[2]
        raise SpecError(
            f"--storage must be a database URL such as {DEFAULT_URL} or "
            f"postgresql+psycopg://user@host/database (a password's @, : and / as %40, %3A, %2F), "
            f"got {shown!r}"
        ) from None
    if is_sqlite(url):
        if url.database in (None, "", ":memory:"):
            raise SpecError(f"--storage must name a file: a search outlives its process, got {text!r}")
        _check_local(Path(url.database or ""))
    elif option and url.password:
        tell_once(
            "warning: others on this machine can read a password in --storage: put it into a file and name "
            "that in OPTUNA_STORAGE_PASSWORD_FILE"
        )
    return text


def is_sqlite(url: URL | str) -> bool:
    """Whether the database is a file."""
    return make_url(url).get_backend_name() == "sqlite"


def shown_url(url: str) -> str:
    """The URL without its password, for a person."""
    return make_url(url).render_as_string(hide_password=True)


def _check_local(path: Path) -> None:
    kind = file_system_of(path)
    if kind in NETWORKED:
        raise SpecError(
            f"{path} lies on a network file system ({kind}), where SQLite loses data when several processes "
            "write: put it on a local disk, or use postgresql+psycopg://user@host/database"
        )


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The file system of the folder that holds the path or will, as the kernel calls it; None where it does
    not tell."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return None
    place = path.absolute().resolve()
    found = (0, None)
    for words in lines:
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ")
        inside = place.is_relative_to(point)
        if inside and len(point) >= found[0]:  # a later mount covers an earlier one
            found = (len(point), words[2])  # type: ignore[assignment]
    return found[1]
