"""What a command has written into its SQLite file so far."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial


def stored_trials(database: Path, name: str) -> list[FrozenTrial]:
    """The stored trials; none where the study is yet to be made."""
    if not _has_tables(database):
        return []
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}", skip_table_creation=True)
    try:
        return optuna.load_study(study_name=name, storage=storage).get_trials()
    except KeyError:
        return []
    finally:
        storage.engine.dispose()


def _has_tables(database: Path) -> bool:
    """Whether the tables exist, looked up without Optuna, which would make them beside the command that is
    making them."""
    if not database.exists():
        return False
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        try:
            return bool(connection.execute("SELECT version_num FROM alembic_version").fetchall())
        except sqlite3.OperationalError:
            return False
