"""Paths that tests need."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
