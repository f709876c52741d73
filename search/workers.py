"""The workers of one machine: how many, on which devices; one in this process (several: crew.py)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from search.errors import DeviceError
from search.gpus import visible_gpus
from search.loop import Stop
from search.places import how_many
from search.worker import Job, work

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Slot:
    """Where one worker runs: on the CPU, or on one of the GPUs that is free."""

    device: str
    gpus: tuple[str, ...] = ()
    per_gpu: int = 1


def plan(
    workers: str, device: str, per_gpu: int | str = 1, need: Callable[[], int] = lambda: 0
) -> list[Slot]:
    """auto: as many workers as the GPUs have places, or one per CPU core; as many places as there is memory
    for, a worker having `need` of so many bytes. Raises DeviceError when CUDA is asked for and absent."""
    gpus = _gpus() if device in ("auto", "cuda") else ()
    if device == "cuda" and not gpus:
        raise DeviceError("CUDA was asked for, but torch sees no GPU; use --device cpu")
    cores = _cores()
    if isinstance(per_gpu, str):
        per_gpu = how_many(gpus, need(), cores) if gpus else 1
    places = len(gpus) * per_gpu if gpus else cores
    slot = Slot("cuda", gpus, per_gpu) if gpus else Slot("cpu")
    return [slot] * (places if workers == "auto" else int(workers))


def _gpus() -> tuple[str, ...]:
    import torch

    if not torch.cuda.is_available():  # without a driver, or a build of torch for CPUs
        return ()
    return tuple(visible_gpus()) or tuple(map(str, range(torch.cuda.device_count())))


def _cores() -> int:
    """That this process may use, where the system tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # as a container's --cpus sets it
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


@contextmanager
def stop_on_signals(stop: Stop, at_once: Callable[[], None]) -> Iterator[None]:
    """The first signal sets `stop`; a second Ctrl-C calls `at_once`."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            at_once()
        stop.signal = stop.signal or number
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_now() -> None:
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h\n")  # the live screen hides the cursor
    os._exit(130)


def work_here(job: Job, stop: Stop, poll: Callable[[], None]) -> int:
    """One worker in this process, `poll` called from a thread meanwhile."""
    end = threading.Event()

    def watch() -> None:
        while not end.wait(POLL_SECONDS):
            poll()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with stop_on_signals(stop, at_once=exit_now):
            work(job, stop)
    finally:
        end.set()
        watcher.join()
    poll()
    return 0
