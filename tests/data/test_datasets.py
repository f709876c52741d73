"""A data set from its name to its parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search.data.config import DataConfig
from search.data.datasets import load, read
from search.errors import DataError
from tests.support.images import marked, save
from tests.support.paths import REPOSITORY


def test_digits() -> None:
    parts = load(DataConfig(name="digits"))
    assert (parts.image_shape, parts.classes, parts.class_names[9]) == ((1, 8, 8), 10, "9")
    assert (str(parts.train.pixels_NHWC.dtype), str(parts.train.labels_N.dtype)) == ("uint8", "int64")
    assert parts.train.pixels_NHWC.max() == 16
    assert [len(part.labels_N) for part in (parts.train, parts.val, parts.test)] == [1151, 287, 359]


def test_stored_studies_know_their_images_again() -> None:
    """Whole numbers alone: they hold on every processor. Another one here would refuse every stored study."""
    assert load(DataConfig(name="digits")).fingerprint() == "f8df7c52a2b70a9f"
    config = DataConfig(name="digits", seed=3, limit=300, val_fraction=0.25, test_fraction=0.1)
    assert load(config).fingerprint() == "3628b93fdd83d625"


def test_the_usual_data_folder_is_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.npz", marked([0, 1] * 3))
    config = DataConfig(name="npz", path="a.npz")
    with pytest.raises(DataError, match="found none there"):
        read(config, tmp_path / "elsewhere")
    monkeypatch.setenv("ARCHSEARCH_DATA", str(tmp_path))
    assert len(read(config).train.labels_N) == 6
    assert len(read(config, tmp_path).train.labels_N) == 6


def test_what_the_system_refuses_is_told_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"~nobody-of-this-name/a.npz in .* cannot be read: "):
        read(DataConfig(name="npz", path="~nobody-of-this-name/a.npz"), tmp_path)
    save(tmp_path / "a.npz", marked([0, 1] * 3))

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"a.npz in .* cannot be read: .*Permission denied"):
        read(DataConfig(name="npz", path="a.npz"), tmp_path)


@pytest.mark.slow
def test_import_needs_no_torch_and_nothing_warns() -> None:
    code = (
        "import sys; from search.data.config import DataConfig; from search.data.datasets import load\n"
        "assert 'torch' not in sys.modules\n"
        "load(DataConfig(name='digits', limit=100))\n"
        "assert 'torch' not in sys.modules\n"
        "import torchvision.datasets"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
