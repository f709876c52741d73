"""GPUs for workers: one file lock for each place on each GPU, taken before the worker imports torch.

`docker compose up --scale worker=4` shows all GPUs to all replicas, and gives none of them away. The kernel
frees a lock when its process dies in whatever way.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.environment import gpu_lock_folder
from search.errors import DeviceError


def visible_gpus() -> list[str]:
    """UUIDs of GPUs (of MIG slices where one is sliced), of those that CUDA_VISIBLE_DEVICES names if it does.

    An index becomes a UUID where the driver tells: two jobs of a batch system may both see a GPU 0, which are
    two, and one GPU has one lock by whatever name.
    """
    listed, named = _listed(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return listed
    parts = [gpu for gpu in (part.strip() for part in named.split(",")) if gpu and gpu != "-1"]
    return [listed[int(part)] if part.isdigit() and int(part) < len(listed) else part for part in parts]


def _listed() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return uuids_in(listed.stdout)


def uuids_in(listing: str) -> list[str]:
    """UUIDs in what `nvidia-smi -L` prints: GPUs, but slices in the place of the GPU that they are slices
    of."""
    found: list[str] = []
    for uuid in re.findall(r"\(UUID: ((?:GPU|MIG)-[^)\s]+)\)", listing):
        if uuid.startswith("MIG-") and found and found[-1].startswith("GPU-"):
            found.pop()
        found.append(uuid)
    return found


@dataclass(frozen=True)
class Claim:
    """One place on a GPU, held as long as `descriptor` is open in any process."""

    gpu: str
    descriptor: int

    def close(self) -> None:
        """Lets go; another process that has the descriptor goes on holding it."""
        os.close(self.descriptor)


def try_claim(gpus: Sequence[str], per_gpu: int = 1) -> Claim | None:
    """Claims a free place, on a GPU where as few as can be are taken; None where all are. Raises DeviceError
    where locks cannot be made."""
    for place in range(per_gpu):
        for gpu in gpus:
            descriptor = _open(gpu_lock_folder() / f"{_file_name(gpu)}.{place}.lock")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return Claim(gpu, descriptor)
    return None


def _file_name(gpu: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", gpu)


def _open(path: Path) -> int:
    """Opens a file that every user of the machine may lock, which needs no right to write."""
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o1777)
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise DeviceError(
            f"GPUs cannot be claimed: {path}: {error.strerror}; name another folder in ARCHSEARCH_GPU_LOCKS"
        ) from None
