"""The processes of one machine: how many, on which devices, and what becomes of them."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO

from search.errors import DeviceError
from search.loop import Stop
from search.worker import Job, work

MAX_RESTARTS = 10
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Slot:
    """Where one worker runs."""

    device: str
    gpu: int | None = None


def plan(workers: str, device: str) -> list[Slot]:
    """auto: a worker per GPU, or per CPU core. Raises DeviceError when CUDA is asked for and absent."""
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    if device == "cuda" and not gpus:
        raise DeviceError("CUDA was asked for, but torch sees no GPU; use --device cpu")
    if gpus:
        count = gpus if workers == "auto" else int(workers)
        return [Slot("cuda", i % gpus) for i in range(count)]
    return [Slot("cpu")] * (_cores() if workers == "auto" else int(workers))


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


def _exit_now() -> None:
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
        with stop_on_signals(stop, at_once=_exit_now):
            work(job, stop)
    finally:
        end.set()
        watcher.join()
    poll()
    return 0


class Crew:
    """Worker processes. They live in sessions of their own: Ctrl-C reaches them through this process."""

    def __init__(self, job: Job, slots: list[Slot], say: Callable[[str], None]) -> None:
        self.job, self.say = job, say
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.listeners: list[threading.Thread] = []
        self.members = [(slot, self._start(slot, i)) for i, slot in enumerate(slots)]
        self.restarts = 0
        self.given_up: set[int] = set()

    def _start(self, slot: Slot, index: int) -> subprocess.Popen[bytes]:
        env = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        if slot.gpu is not None:
            visible = [gpu for gpu in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
            env["CUDA_VISIBLE_DEVICES"] = visible[slot.gpu] if visible else str(slot.gpu)
        if slot.device == "cpu":
            env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "search.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        listener = threading.Thread(target=self._listen, args=(process.stdout, index), daemon=True)
        listener.start()
        self.listeners.append(listener)
        try:
            pickle.dump(replace(self.job, device=slot.device), process.stdin)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; poll() sees its exit code
        return process

    def _listen(self, output: IO[bytes], index: int) -> None:
        for line in output:
            self.lines.put(f"worker {index + 1}: {line.decode(errors='replace').rstrip()}")

    def run(self, stop: Stop, poll: Callable[[], None], reap: Callable[[], Collection[int]]) -> int:
        """Until all have ended; returns the first exit code that is not 0. A killed worker is replaced."""
        code, told = 0, False
        with stop_on_signals(stop, at_once=lambda: self._kill(reap)):
            while True:
                if stop.is_set() and not told:
                    told = True
                    self._terminate()
                for i, (slot, process) in enumerate(self.members):
                    ended = process.poll()
                    if ended and ended > 0:
                        code = code or ended
                        stop.set()
                    elif ended and not stop.is_set() and i not in self.given_up:
                        self._replace(i, slot, -ended, reap)
                self._pass_on()
                poll()
                if all(process.poll() is not None for _, process in self.members):
                    break
                time.sleep(POLL_SECONDS / 5) if stop.is_set() else stop.wait(POLL_SECONDS)
        for listener in self.listeners:
            listener.join(timeout=2)
        self._pass_on()
        return code

    def _replace(self, index: int, slot: Slot, number: int, reap: Callable[[], Collection[int]]) -> None:
        queued = " Its trial is queued again." if reap() else ""
        ended = f"worker {index + 1} was ended by {signal.Signals(number).name}.{queued}"
        if self.restarts == MAX_RESTARTS:
            self.given_up.add(index)
            self.say(f"{ended} It is not replaced any more: is the memory enough for so many workers?")
            return
        self.restarts += 1
        self.say(f"{ended} A new one starts.")
        self.members[index] = (slot, self._start(slot, index))

    def _pass_on(self) -> None:
        while not self.lines.empty():
            self.say(self.lines.get())

    def _terminate(self) -> None:
        for _, process in self.members:
            if process.poll() is None:
                process.terminate()

    def _kill(self, reap: Callable[[], Collection[int]]) -> None:
        for _, process in self.members:
            process.kill()
            process.wait()
        reap()
        _exit_now()
