"""Databases with a study in them."""

from __future__ import annotations

from tests.support.databases import study_file, study_url, with_tables

__all__ = ["study_file", "study_url", "with_tables"]
