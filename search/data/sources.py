"""Sources of images: one entry for each `data.name` of a study file. Adding a source is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.data import downloads
from search.data.folders import read_folder
from search.data.images import Raw
from search.data.npz import read_npz


@dataclass(frozen=True, kw_only=True)
class Location:
    """The place of a data set, as its reader needs to know it."""

    name: str
    """One of SOURCES."""
    root: Path
    """The data folder."""
    path: str = ""
    """File or folder of a person's own, absolute or in the data folder; empty for other sources."""
    size: tuple[int, int] = (0, 0)
    """Height and width in pixels that images are scaled to, where the source is `sized`."""

    @property
    def own_path(self) -> Path:
        """The file or folder of a person's own. Raises RuntimeError for ~user where there is no such user."""
        return self.root / Path(self.path).expanduser()


@dataclass(frozen=True, kw_only=True)
class Source:
    """What there is to know of a source."""

    read: Callable[[Location], Raw]
    """Reads the images there, unchecked. Raises DataError, OSError, RuntimeError."""
    own_files: bool = False
    """Whether `path` says where they lie: they are a person's own, and no study file knows them."""
    sized: bool = False
    """Whether `image_size` says how large they are to be."""


def _digits(_: Location) -> Raw:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels_NHW = digits.images.astype(np.uint8)  # whole numbers from 0 to 16
    return Raw("digits", (pixels_NHW, digits.target), None, tuple(str(name) for name in digits.target_names))


def _download(location: Location) -> Raw:
    name, root = location.name, location.root
    return Raw(f"{name} in {root}", *downloads.read_download(name, root))


def _npz(location: Location) -> Raw:
    path = location.own_path
    return Raw(str(path), *read_npz(path), class_names=None)


def _folder(location: Location) -> Raw:
    path = location.own_path
    return Raw(str(path), *read_folder(path, location.size))


SOURCES: dict[str, Source] = {
    "digits": Source(read=_digits),
    **{name: Source(read=_download) for name in downloads.CLASSES},
    "npz": Source(read=_npz, own_files=True),
    "folder": Source(read=_folder, own_files=True, sized=True),
}
