"""Every source by its name: what reads it, and where it looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.data import downloads, sources
from search.data.config import DataConfig
from search.data.images import Raw
from search.data.sources import SOURCES
from tests.support.images import marked, save


def read(root: Path, **settings: object) -> Raw:
    config = DataConfig(**settings)  # type: ignore[arg-type]
    return SOURCES[config.name].read(config.location(root))


def test_a_persons_own_files_have_a_path_and_folders_a_size() -> None:
    found = {name: (source.own_files, source.sized) for name, source in SOURCES.items()}
    ours = dict.fromkeys(("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"), (False, False))
    assert found.items() >= {**ours, "npz": (True, False), "folder": (True, True)}.items()


def test_digits_are_whole_numbers_from_0_to_16(tmp_path: Path) -> None:
    source, (pixels, labels), test, names = read(tmp_path, name="digits")
    assert (source, test, list(names or [])) == ("digits", None, [str(i) for i in range(10)])
    assert (pixels.shape, pixels.dtype, int(pixels.min()), int(pixels.max())) == (
        (1797, 8, 8),
        np.uint8,
        0,
        16,
    )
    assert list(labels[:12]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@pytest.mark.parametrize("name", downloads.CLASSES)
def test_a_download_is_asked_for_by_its_name_and_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = (np.zeros(1), np.zeros(2)), (np.zeros(3), np.zeros(4))

    def found(asked: str, root: Path) -> tuple[object, object, tuple[str, ...]]:
        assert (asked, root) == (name, tmp_path)
        return train, test, ("a", "b")

    monkeypatch.setattr(sources.downloads, "read_download", found)
    raw = read(tmp_path, name=name)
    assert raw.source == f"{name} in {tmp_path}"
    assert raw.train is train
    assert raw.test is test
    assert raw.class_names == ("a", "b")


@pytest.mark.parametrize("path", ["{root}/a.npz", "a.npz", "~/a.npz"])
def test_a_path_is_absolute_or_in_the_data_folder_or_at_home(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "a.npz", marked([0, 1] * 3), marked([1, 0]))
    root = tmp_path if path == "a.npz" else tmp_path / "elsewhere"
    raw = read(root, name="npz", path=path.format(root=tmp_path))
    assert (raw.source, raw.class_names) == (str(tmp_path / "a.npz"), None)
    assert raw.test is not None
    assert (list(raw.train[1]), list(raw.test[1])) == ([0, 1] * 3, [1, 0])


@pytest.mark.parametrize(("size", "shape"), [(3, (3, 3)), ((2, 5), (2, 5))])
def test_images_of_a_folder_are_scaled_to_the_size(
    size: int | tuple[int, int], shape: tuple[int, int], tmp_path: Path
) -> None:
    """The size is a side, or height and width."""
    for name in "ab":
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "mine" / name / "0.png")
    raw = read(tmp_path, name="folder", path="mine", image_size=size)
    assert (raw.source, raw.train[0].shape[1:]) == (str(tmp_path / "mine"), shape)
    assert (raw.test, list(raw.class_names or [])) == (None, ["a", "b"])
