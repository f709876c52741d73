"""Small data sets: made by hand, as arrays and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from search.data.config import DataConfig
from search.data.datasets import load
from search.data.images import Images, Parts

UNEVEN = [0] * 50 + [1] * 7 + [2] * 3 + [3] * 40
"""Labels of classes of very different sizes."""


def marked(labels: Any, start: int = 0) -> dict[str, np.ndarray]:
    """Images of 2 x 2 whose first two pixels number them, so that each one is found again in its part."""
    labels_N = np.asarray(labels)
    pixels_NHW = np.zeros((len(labels_N), 2, 2), np.uint8)
    number_N = np.arange(start, start + len(labels_N))
    pixels_NHW[:, 0, 0], pixels_NHW[:, 0, 1] = number_N // 256, number_N % 256
    return {"x": pixels_NHW, "y": labels_N}


def numbers(part: Images) -> list[int]:
    """The numbers of marked images."""
    first, second = part.pixels_NHWC[:, 0, 0, 0].astype(int), part.pixels_NHWC[:, 0, 1, 0].astype(int)
    return list(first * 256 + second)


def save(path: Path, train: dict[str, Any], test: dict[str, Any] | None = None) -> Path:
    arrays = {f"{key}_train": value for key, value in train.items()}
    arrays |= {f"{key}_test": value for key, value in (test or {}).items()}
    np.savez(path, **arrays)
    return path


def npz(path: Path, **settings: Any) -> Parts:
    return load(DataConfig(name="npz", path=str(path), **settings))
