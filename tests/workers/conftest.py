"""A database with a study in it."""

from __future__ import annotations

from tests.support.databases import study_file, with_tables

__all__ = ["study_file", "with_tables"]
