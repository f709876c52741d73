"""A person's own images in an .npz file of arrays."""

from __future__ import annotations

import struct
import textwrap
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from search.data.images import Pair
from search.errors import DataError

_CUT = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError)
# no archive at all, Python objects, a password, a size beyond the memory
_UNREADABLE = (*_CUT, ValueError, RuntimeError, MemoryError)


def read_npz(path: Path) -> tuple[Pair, Pair | None]:
    """Arrays of the training part and of the test part, if there is one. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: data.path must name an .npz file, found none there")
    with path.open("rb") as file:  # np.load leaves a file open that it opened itself and found broken
        try:
            arrays = np.load(file, allow_pickle=False)
        except _UNREADABLE as error:
            raise DataError(f"{path} must be a whole .npz file, found: {first_words(error)}") from None
        if not isinstance(arrays, NpzFile):
            raise DataError(
                f"{path} must be an .npz file, found a single array: save it anew with numpy.savez"
            )
        train = _array(arrays, path, "x_train"), _array(arrays, path, "y_train")
        if "x_test" not in arrays.files and "y_test" not in arrays.files:
            return train, None
        return train, (_array(arrays, path, "x_test"), _array(arrays, path, "y_test"))


def _array(arrays: NpzFile, path: Path, key: str) -> np.ndarray:
    if key not in arrays.files:
        raise DataError(f"{path} must hold {key}, found {', '.join(arrays.files) or 'no arrays'}")
    try:
        return np.asarray(arrays[key])
    except _UNREADABLE as error:
        raise DataError(
            f"{path}: {key} must be a whole array of plain numbers, found: {first_words(error)}"
        ) from None


def first_words(error: Exception) -> str:
    """What an error says, in 120 characters at most."""
    return textwrap.shorten(str(error) or type(error).__name__, 120)
