"""Settings that come from the environment, for deployments; the README lists them all."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

from search.errors import SpecError


def data_folder() -> Path:
    """The folder in which data sets are looked for, and to which they are downloaded."""
    return _folder("ARCHSEARCH_DATA", "data")


def artifact_folder() -> Path:
    """The folder in which the best trials leave architecture and weights."""
    return _folder("ARCHSEARCH_ARTIFACTS", "studies/artifacts")


def checkpoint_folder() -> Path:
    """The folder in which interrupted trials are kept."""
    return _folder("ARCHSEARCH_CHECKPOINTS", "checkpoints")


def gpu_lock_folder() -> Path:
    """The folder in which GPUs of this host are locked; containers share it by a volume."""
    return _folder("ARCHSEARCH_GPU_LOCKS", Path(tempfile.gettempdir()) / "archsearch-gpus")


def _folder(name: str, default: str | Path) -> Path:
    return Path(os.environ.get(name) or default)


def seconds(name: str, default: str) -> float:
    """The number of seconds in a variable, from 0 up. Raises SpecError naming it."""
    text = os.environ.get(name) or default
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise SpecError(f"{name} must be a number of seconds from 0 up, got {text!r}")
    return found
