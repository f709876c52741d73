"""Images brought here without training."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.data.datasets import load
from search.fetch import main
from search.spec.study_file import find_study, load_spec
from tests.support.studies import TINY


def test_images_are_fetched_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert main(["digits", str(tmp_path / "tiny.toml")]) == 0
    digits, tiny = capsys.readouterr().out.splitlines()
    whole = load(load_spec(find_study("digits")).data).fingerprint()
    assert digits == f"digits: 1,079 training, 359 validation, 359 test images of 10 classes, {whole}"
    assert tiny.startswith(
        f"{tmp_path}/tiny.toml: 160 training, 40 validation, 359 test images of 10 classes"
    )
    assert whole not in tiny


def test_what_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuch"]) == 2
    assert "no study file studies/nosuch.toml" in capsys.readouterr().err
    path = tmp_path / "npz.toml"
    path.write_text(TINY.replace('name = "digits"', f'name = "npz"\npath = "{tmp_path}/none.npz"'))
    assert main([str(path)]) == 66
    assert "none.npz" in capsys.readouterr().err


def test_a_study_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "the following arguments are required: STUDY" in capsys.readouterr().err
