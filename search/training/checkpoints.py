"""Checkpoints of interrupted trials on disk: written whole or not at all, checked before they are believed.

    <root>/<study>-<key>/<trial>/<worker>/e000007-b000000.pt     tensors and plain values
                                          e000007-b000000.json   its manifest, written last

Every worker writes into a folder of its own: one that was taken for dead and returns overwrites nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search import environment
from search.environment import checkpoint_folder
from search.errors import tell_once
from search.training.results import State

FORMAT = 2
"""Number of the format; checkpoints of another one are passed over."""
KEPT = 2
"""Checkpoints of an attempt that stay: the newest, and one to fall back on."""
LEFT_FREE = 256 << 20
"""Bytes of a disk that checkpoints leave free."""
MANIFEST_BYTES, LARGEST = 64 << 10, 8 << 30
"""Most bytes of a manifest and of a state: a larger one is damaged."""


def checkpoint_seconds() -> float:
    """Least training seconds between two checkpoints; 0: one after every epoch. Raises SpecError."""
    return environment.seconds("ARCHSEARCH_CHECKPOINT_SECONDS", "2")


@dataclass(frozen=True)
class StudyCheckpoints:
    """The checkpoints of one study, on this machine or on a disk that its machines share."""

    folder: Path
    seconds: float
    """Least training seconds between two checkpoints of a trial."""

    @staticmethod
    def of(study: str, key: str) -> StudyCheckpoints:
        """The checkpoints of the study of this name; `key` tells apart studies of one name in different
        databases. A name is no path here."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", study)[:60]
        digest = hashlib.sha256(f"{study} {key}".encode()).hexdigest()[:12]
        return StudyCheckpoints(checkpoint_folder() / f"{name}-{digest}", checkpoint_seconds())

    def trial(self, number: int, worker: str, identity: dict[str, Any]) -> Checkpoints:
        """The checkpoints of one trial; `worker` names the folder that they are written into."""
        own = re.sub(r"[^A-Za-z0-9_-]", "_", worker)[-80:]
        return Checkpoints(self.folder / f"{number:06}", own, identity, self.seconds)

    def sweep(self, finished: Iterable[int]) -> None:
        """Removes the checkpoints of trials that have finished elsewhere."""
        for number in finished:
            shutil.rmtree(self.folder / f"{number:06}", ignore_errors=True)


class Checkpoints:
    """The checkpoints of one trial. `own`: the folder to write into; `identity`: what must be equal for a
    state to be one of this run."""

    def __init__(self, folder: Path, own: str, identity: dict[str, Any], seconds: float) -> None:
        self.folder, self.own = folder, folder / own
        self.identity, self.seconds = identity, seconds
        self.last = time.monotonic()

    def keep(self, state: Callable[[], State], must: bool = False) -> None:
        """Writes a checkpoint if one is due, or must be. A disk that is full costs the checkpoint: the one
        before stays, and so does the trial."""
        if not must and time.monotonic() - self.last < self.seconds:
            return
        try:
            self._write(state())
        except (OSError, RuntimeError) as error:
            tell_once(
                f"checkpoints cannot be written, an interrupted trial would start anew: {error}",
                "checkpoint: write",
            )
        self.last = time.monotonic()

    def _write(self, state: State) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getbuffer()
        self.own.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.own).free - len(data) < LEFT_FREE:
            raise OSError(f"less than {LEFT_FREE >> 20} MiB would be free in {self.own}")
        path = self.own / f"e{len(state['history']):06}-b{len(state['losses']):06}.pt"
        manifest = {
            "version": FORMAT,
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "identity": self.identity,
        }
        _write_whole(path, data)
        _write_whole(path.with_suffix(".json"), json.dumps(manifest).encode())
        for old in sorted(self.own.glob("*.json"))[:-KEPT]:
            old.unlink(missing_ok=True)
            old.with_suffix(".pt").unlink(missing_ok=True)

    def newest(self) -> State | None:
        """The state of the furthest checkpoint that is whole and of this run; damaged ones are set aside."""
        found = sorted(self.folder.glob("*/e*-b*.json"), key=lambda path: path.name, reverse=True)
        for manifest in found:
            try:
                state = self._read(manifest)
            except OSError as error:  # another account's, or a disk's; whoever can may use it yet
                tell_once(f"a checkpoint cannot be read, the one before counts: {error}", "checkpoint: read")
                continue
            except Exception as error:
                tell_once(f"a damaged checkpoint is set aside: {manifest}: {error}", "checkpoint: damaged")
                with suppress(OSError):
                    for path in (manifest, manifest.with_suffix(".pt")):
                        path.with_name(f"{path.name}.damaged").unlink(missing_ok=True)
                        if path.exists():
                            path.rename(f"{path}.damaged")
                continue
            if state is not None:
                return state
        return None

    def _read(self, path: Path) -> State | None:
        """The state in a checkpoint; None for one of another run. Raises whatever shows that it is
        damaged."""
        manifest = json.loads(_read_plain(path, MANIFEST_BYTES))
        if manifest["version"] != FORMAT or manifest["identity"] != self.identity:
            return None
        data = _read_plain(path.with_suffix(".pt"), min(LARGEST, manifest["bytes"]))
        if len(data) != manifest["bytes"] or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise ValueError("its contents are not those that were written")
        state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return state

    def remove(self) -> None:
        """Removes all of them, when the trial has finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_whole(path: Path, data: bytes | memoryview) -> None:
    """Writes a file so that a reader sees all of it or nothing, also after a power cut."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_plain(path: Path, most: int) -> bytes:
    """The contents of a file that is no link. Raises ValueError where it holds more than `most` bytes."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it holds more than {most:,} bytes")
    return data
