from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from search.environment import (
    artifact_folder,
    checkpoint_folder,
    data_folder,
    gpu_lock_folder,
    seconds,
)
from search.errors import SpecError


@pytest.mark.parametrize(
    ("folder", "variable", "default"),
    [
        (data_folder, "ARCHSEARCH_DATA", "data"),
        (artifact_folder, "ARCHSEARCH_ARTIFACTS", "studies/artifacts"),
        (checkpoint_folder, "ARCHSEARCH_CHECKPOINTS", "checkpoints"),
        (gpu_lock_folder, "ARCHSEARCH_GPU_LOCKS", f"{tempfile.gettempdir()}/archsearch-gpus"),
    ],
)
def test_a_folder_is_that_of_its_variable_or_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, folder: Callable[[], Path], variable: str, default: str
) -> None:
    monkeypatch.setenv(variable, "/else/where")
    assert folder() == Path("/else/where")
    monkeypatch.setenv(variable, "")
    assert folder() == Path(default)
    monkeypatch.delenv(variable)
    assert folder() == Path(default)


def test_seconds_are_a_number_from_0_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECONDS", "2.5")
    assert seconds("SOME_SECONDS", "60") == 2.5
    monkeypatch.setenv("SOME_SECONDS", "0")
    assert seconds("SOME_SECONDS", "60") == 0.0
    monkeypatch.delenv("SOME_SECONDS")
    assert seconds("SOME_SECONDS", "60") == 60.0
    for text in ("-1", "inf", "nan", "soon", "1,5"):
        monkeypatch.setenv("SOME_SECONDS", text)
        with pytest.raises(
            SpecError, match=f"SOME_SECONDS must be a number of seconds from 0 up, got '{text}'"
        ):
            seconds("SOME_SECONDS", "60")
