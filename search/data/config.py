"""The [data] table of a study file, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.rules import Number, OneOf, Whole, optional
from search.data.sources import SOURCES, Location
from search.errors import SpecError
from search.keys import checked, key, keys_of

LARGEST_FOLDER_SIDE = 512
"""Largest side in pixels that images of a folder are scaled to."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must name the file or folder")
    return value


def _image_size(value: Any) -> int | tuple[int, int]:
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    try:
        height, width = (Whole(1, LARGEST_FOLDER_SIDE)(side) for side in sides)
    except ValueError:
        raise ValueError(f"must be 1 to {LARGEST_FOLDER_SIDE} pixels, or [height, width]") from None
    return (height, width) if isinstance(value, list | tuple) else height


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images of a study and their splits. Raises SpecError where a value breaks a rule."""

    name: str = key(OneOf(*SOURCES), "The data set.")
    path: str | None = key(
        optional(_text), "File or folder of your images: absolute, or in the data folder.", None
    )
    image_size: int | tuple[int, int] | None = key(
        optional(_image_size),
        "Pixels that images of a folder are scaled to: [height, width] or a side.",
        None,
    )
    limit: int | None = key(
        optional(Whole(2)), "At most this many images in training and validation together.", None
    )
    val_fraction: float = key(
        Number(0, 0.9, above=True), "Share of the training part that is set apart for validation.", 0.2
    )
    test_fraction: float = key(
        Number(0, 0.9, above=True),
        "Share that is set apart for testing, where the data set brings no test part of its own.",
        0.2,
    )
    seed: int = key(Whole(0), "Seed of the splits.", 0)

    def __post_init__(self) -> None:
        try:
            values = checked("data", keys_of(self), vars(self))
        except ValueError as error:
            raise SpecError(str(error)) from None
        for name, value in values.items():
            object.__setattr__(self, name, value)
        source = SOURCES[self.name]
        for name, wanted, rule in (
            ("path", source.own_files, "must name the file or folder"),
            ("image_size", source.sized, f"must be 1 to {LARGEST_FOLDER_SIDE} pixels, or [height, width],"),
        ):
            if (getattr(self, name) is not None) != wanted:
                rule = rule if wanted else "must be left out"
                found = repr(getattr(self, name))
                raise SpecError(f"data.{name} {rule} for data.name = {self.name!r}, got {found}")

    def location(self, root: Path) -> Location:
        """The place of the data set; `root`: the data folder."""
        size = self.image_size or 0
        sides = (size, size) if isinstance(size, int) else size
        return Location(name=self.name, root=root, path=self.path or "", size=sides)
