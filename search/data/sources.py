"""Sources of images: one entry for each `data.name` of a study file. Adding a source is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search.data import downloads
from search.data.folders import read_folder
from search.data.images import Raw
from search.data.npz import read_npz

if TYPE_CHECKING:
    from search.data.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class Source:
    """What there is to know of a source."""

    read: Callable[[DataConfig, Path], Raw]
    """Reads the images that the config names, unchecked, from the data folder. Raises DataError, OSError."""
    own_files: bool = False
    """Whether `path` says where they lie: they are a person's own, and no study file knows them."""
    sized: bool = False
    """Whether `image_size` says how large they are to be."""


def _digits(config: DataConfig, root: Path) -> Raw:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels_NHW = digits.images.astype(np.uint8)  # whole numbers from 0 to 16
    return Raw("digits", (pixels_NHW, digits.target), None, tuple(str(name) for name in digits.target_names))


def _download(config: DataConfig, root: Path) -> Raw:
    return Raw(f"{config.name} in {root}", *downloads.read_download(config.name, root))


def _npz(config: DataConfig, root: Path) -> Raw:
    path = _path(config, root)
    return Raw(str(path), *read_npz(path), class_names=None)


def _folder(config: DataConfig, root: Path) -> Raw:
    path, size = _path(config, root), config.image_size or 0
    return Raw(str(path), *read_folder(path, (size, size) if isinstance(size, int) else size))


def _path(config: DataConfig, root: Path) -> Path:
    return root / Path(config.path or "").expanduser()


SOURCES: dict[str, Source] = {
    "digits": Source(read=_digits),
    **{name: Source(read=_download) for name in downloads.CLASSES},
    "npz": Source(read=_npz, own_files=True),
    "folder": Source(read=_folder, own_files=True, sized=True),
}
