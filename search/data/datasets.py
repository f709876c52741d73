"""Data sets: read from their source, checked, and split once and for good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search.data.checks import check_classes, check_images
from search.data.config import DataConfig
from search.data.images import Images, Parts
from search.data.sources import SOURCES
from search.data.splits import limited, split
from search.environment import data_folder
from search.errors import DataError


@dataclass(frozen=True)
class DataSet:
    """A data set, checked and not yet split."""

    train: Images
    test: Images | None
    """None where it brings no test part of its own."""
    class_names: tuple[str, ...]

    def split(self, config: DataConfig) -> Parts:
        """Splits by the config's limit, fractions and seed. Raises DataError when the limit leaves a class
        too few images."""
        train, test = self.train, self.test
        if test is None:
            rest, tested = split(train.labels_N, config.test_fraction, config.seed, keep=2)
            train, test = train.at(rest), train.at(tested)
        if config.limit is not None and config.limit < len(train.labels_N):
            train = train.at(limited(train.labels_N, config.limit, config.seed, self.class_names))
        trained, validated = split(train.labels_N, config.val_fraction, config.seed)
        return Parts(train.at(trained), train.at(validated), test, self.class_names)


def read(config: DataConfig, root: Path | None = None) -> DataSet:
    """The data set that the config names, read and checked. `root` is the data folder, the usual one if None.
    Raises DataError."""
    root = root or data_folder()
    try:
        raw = SOURCES[config.name].read(config.location(root))
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user in ~user
        raise DataError(f"{config.path or config.name} in {root} cannot be read: {error}") from None
    train = check_images(raw.source, "train", *raw.train)
    test = check_images(raw.source, "test", *raw.test) if raw.test else None
    return DataSet(train, test, check_classes(raw, train, test))


def load(config: DataConfig, root: Path | None = None) -> Parts:
    """The data set that the config names, split. Raises DataError."""
    return read(config, root).split(config)
