"""Data sets: read from their source, checked, and split once and for good."""

from __future__ import annotations

from pathlib import Path

from search.data.checks import check_classes, check_images
from search.data.config import DataConfig
from search.data.images import DataSet, Parts
from search.data.sources import SOURCES
from search.environment import data_folder
from search.errors import DataError


def read(config: DataConfig, root: Path | None = None) -> DataSet:
    """The data set that the config names, read and checked. `root` is the data folder, the usual one if None.
    Raises DataError."""
    root = root or data_folder()
    try:
        raw = SOURCES[config.name].read(config, root)
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user in ~user
        raise DataError(f"{config.path or config.name} in {root} cannot be read: {error}") from None
    train = check_images(raw.source, "train", *raw.train)
    test = check_images(raw.source, "test", *raw.test) if raw.test else None
    return DataSet(train, test, check_classes(raw, train, test))


def load(config: DataConfig, root: Path | None = None) -> Parts:
    """The data set that the config names, split. Raises DataError."""
    return read(config, root).split(config)
