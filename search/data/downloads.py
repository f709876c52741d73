"""The data sets that torchvision downloads: whole or not at all, and once however many processes ask."""

from __future__ import annotations

import contextlib
import http.client
import pickle
import shutil
import socket
import tarfile
import textwrap
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from search.data.images import Pair
from search.errors import DataError

CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
STALLED_S = 60.0
"""Seconds of silence after which a connection is given up."""
_NETWORK = (OSError, http.client.HTTPException)
_CUT = (EOFError, zlib.error, tarfile.TarError, pickle.UnpicklingError)
_TORCHVISION = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError)
_FAILURES = (*_NETWORK, *_CUT, *_TORCHVISION)


def read_download(name: str, root: Path) -> tuple[Pair, Pair, tuple[str, ...]]:
    """Training part, test part and class names; downloads what is not there, or not whole. Raises
    DataError."""
    from torchvision import datasets

    dataset = getattr(datasets, CLASSES[name])
    with contextlib.suppress(*_FAILURES):
        return _parts(dataset, root, download=False)  # needs no lock, and no right to write
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), _no_endless_wait():
            return _download(dataset, name, root)
    except OSError as error:
        raise _failed(name, root, error) from None


def _download(dataset: Any, name: str, root: Path) -> tuple[Pair, Pair, tuple[str, ...]]:
    try:
        return _parts(dataset, root, download=True)
    except _FAILURES:
        _remove_broken(dataset, root)
    try:
        return _parts(dataset, root, download=True)
    except _FAILURES as error:
        _remove_broken(dataset, root)
        raise _failed(name, root, error) from None


def _failed(name: str, root: Path, error: Exception) -> DataError:
    reason = textwrap.shorten(str(error) or type(error).__name__, 160)
    return DataError(
        f"{name} could not be downloaded to {root}: {reason}\n"
        "Put its files there by hand, or set ARCHSEARCH_DATA to the folder that holds them."
    )


def _parts(dataset: Any, root: Path, download: bool) -> tuple[Pair, Pair, tuple[str, ...]]:
    with warnings.catch_warnings():
        # NumPy 2.4.0 to 2.4.4 warn of pickles as old as CIFAR's.
        warnings.filterwarnings("ignore", r"dtype\(\): align should be passed")
        # Python 3.12 and 3.13 announce the default by which 3.14 unpacks archives.
        warnings.filterwarnings("ignore", "Python 3.14 will, by default, filter", DeprecationWarning)
        train, test = (dataset(root, train=part, download=download) for part in (True, False))
    return _pair(train), _pair(test), tuple(train.classes)


def _pair(part: Any) -> Pair:
    return np.ascontiguousarray(part.data), np.asarray(part.targets)


@contextlib.contextmanager
def _no_endless_wait() -> Iterator[None]:
    """torchvision sets no time-out: a connection that has gone silent would keep the lock for good."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _remove_broken(dataset: Any, root: Path) -> None:
    """Removes the data set's files that are not whole, so that the next attempt fetches them anew."""
    from torchvision.datasets.utils import check_integrity

    if hasattr(dataset, "base_folder"):  # CIFAR: one archive, unpacked into one folder
        archives = [(root / dataset.filename, dataset.tgz_md5)]
        shutil.rmtree(root / dataset.base_folder, ignore_errors=True)
    else:
        raw = root / dataset.__name__ / "raw"
        archives = [(raw / filename, md5) for filename, md5 in dataset.resources]
        for archive, _ in archives:
            if not _whole_idx(archive.with_suffix("")):
                archive.with_suffix("").unlink(missing_ok=True)
    for archive, md5 in archives:
        if not check_integrity(archive, md5):
            archive.unlink(missing_ok=True)


def _whole_idx(path: Path) -> bool:
    """Whether the file is as long as its header says; torchvision only looks whether it exists."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        sides = file.read(4)[3:]
        shape = file.read(4 * sides[0]) if sides else b""
    if not sides or len(shape) != 4 * sides[0]:
        return False
    return path.stat().st_size == 4 + len(shape) + int(np.frombuffer(shape, ">u4").prod(dtype=np.int64))
