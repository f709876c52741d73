"""Several workers on one GPU at the same time: processes take turns there, unless NVIDIA's MPS is between.

A daemon of this command's own serves its workers. It ends when all of them and the command have ended, in
whatever way: each holds the end of a pipe that the daemon's keeper, a shell, reads. A daemon that runs
already is used, and left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from search.workers import Slot

PROGRAM = "nvidia-cuda-mps-control"
KEEPER = f'cat >/dev/null; echo quit | {PROGRAM}; rm -rf -- "$0"'
SECONDS = 30.0
"""For an answer of the daemon, and for its end."""
PROBE = """
import ctypes
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
for code in (
    cuda.cuInit(0),
    cuda.cuDeviceGet(ctypes.byref(device), 0),
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
):
    if code:
        raise SystemExit(f"CUDA error {code}")
"""
"""A context as a worker makes one: a daemon that starts and serves nobody would cost all of them."""


@dataclass(frozen=True)
class Sharing:
    """What workers need to meet on a GPU: settings of their environment, descriptors to hold."""

    env: dict[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


@contextmanager
def sharing(slots: Sequence[Slot], say: Callable[[str], None]) -> Iterator[Sharing]:
    """For the workers of one command; `say` tells what comes of it where there are several on a GPU."""
    gpus, per_gpu = slots[0].gpus, slots[0].per_gpu
    several = min(len(slots), len(gpus) * per_gpu) > len(gpus)
    if not several or os.environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        yield Sharing()
        return
    try:
        _check(gpus)
        if _is_served():
            yield Sharing()
            return
        daemon = _Daemon(gpus)
    except _Useless as reason:
        say(f"workers on one GPU take turns: {reason}")
        yield Sharing()
        return
    try:
        say("workers on one GPU run at the same time: an MPS daemon serves them until they end")
        yield Sharing(daemon.env, (daemon.held,))
    finally:
        daemon.release()


class _Useless(Exception):
    """MPS cannot help; why."""


def _check(gpus: Sequence[str]) -> None:
    if shutil.which(PROGRAM) is None:
        raise _Useless(f"there is no {PROGRAM}")
    if _in_container():
        raise _Useless("in a container, MPS is the host's affair: see CUDA_MPS_PIPE_DIRECTORY")
    if not all(gpu.startswith("GPU-") for gpu in gpus):
        raise _Useless("slices of GPUs, and GPUs without a UUID, get no MPS daemon")


def _in_container() -> bool:
    """Whose processes no daemon outside sees, nor one inside those of other containers."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _is_served() -> bool:
    """By a daemon in the usual place."""
    try:
        _run([PROGRAM], dict(os.environ), "get_server_list\n")
    except _Useless:
        return False
    return True


class _Daemon:
    def __init__(self, gpus: Sequence[str]) -> None:
        """Raises _Useless when it does not start, or nobody can work with it."""
        folder = tempfile.mkdtemp(prefix="archsearch-mps-")  # short: sockets' paths have 107 characters
        self.env = {f"CUDA_MPS_{part}_DIRECTORY": f"{folder}/{part.lower()}" for part in ("PIPE", "LOG")}
        for path in self.env.values():
            Path(path).mkdir()
        everything = {**os.environ, **self.env, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        read, self.held = os.pipe()
        self.keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, folder],
            env=everything,
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read)
        try:
            _run([PROGRAM, "-d"], everything)
            _run([sys.executable, "-c", PROBE], everything | {"CUDA_VISIBLE_DEVICES": gpus[0]})
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """It ends now, or with the last worker."""
        os.close(self.held)
        with suppress(subprocess.TimeoutExpired):
            self.keeper.wait(SECONDS)


def _run(words: list[str], env: dict[str, str], text: str = "") -> None:
    """Raises _Useless with the last line that the program said."""
    with tempfile.TemporaryFile("w+") as said:  # no pipe: a daemon would keep it open
        try:
            ended = subprocess.run(
                words, env=env, input=text, text=True, stdout=said, stderr=said, timeout=SECONDS,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _Useless(f"{PROGRAM} fails: {error}") from None
        if ended.returncode:
            said.seek(0)
            last = said.read().strip().rpartition("\n")[2]
            raise _Useless(f"{PROGRAM} fails: {last or f'exit code {ended.returncode}'}")
