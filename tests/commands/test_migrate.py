"""Tables made once, before any worker comes."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from search.migrate import main
from search.spec.study import StudySpec
from search.storage.studies import open_study


def test_tables_are_made_once_and_nothing_else(
    tmp_path: Path, tiny: StudySpec, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    for _ in range(2):
        assert main(["--storage", url]) == 0
        assert capsys.readouterr().out == f"{url} is ready\n"
    assert optuna.get_all_study_names(url) == []
    open_study(url, "s", tiny, "data", 1)
    assert main(["--storage", url]) == 0
    assert optuna.get_all_study_names(url) == ["s"]


def test_a_database_out_of_reach_is_told_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/x"]) == 75
    out, err = capsys.readouterr()
    assert "cannot be used" in err
    assert "secret" not in out + err
