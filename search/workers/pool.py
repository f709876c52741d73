"""Worker processes of one command: started where there is room, replaced when they are killed."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import IO

from search.devices.gpu_locks import Claim, try_claim
from search.devices.slots import Slot
from search.errors import DatabaseError, DeviceError
from search.workers.job import POLL_SECONDS, Job
from search.workers.stop import Stop, exit_now, stop_on_signals

MAX_RESTARTS, RESTARTS_SECONDS = 10, 600.0
"""Number of killed workers that are replaced within so many seconds."""
MOST_LINES = 200
"""Last lines of a worker that are remembered."""
ERROR = "error: "
"""Beginning of the line in which a worker says why it ends."""
OWN_TROUBLE = (DeviceError.exit_code, DatabaseError.exit_code)
"""Exit codes of workers that end alone: the others' GPUs are well, and their connections may be."""


class WorkerPool:
    """Worker processes. They live in sessions of their own: Ctrl-C reaches them through this process."""

    def __init__(self, job: Job, slots: list[Slot], say: Callable[[str], None]) -> None:
        """`say`: tells a person a line."""
        self.job, self.slots, self.say = job, slots, say
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.listeners: list[threading.Thread] = []
        self.members: dict[int, subprocess.Popen[bytes]] = {}
        self.waiting = list(range(len(slots)))
        """Indices of members that have not been started, or are to be started again."""
        self.heard: dict[int, deque[str]] = {}
        """The last lines of the members."""
        self.failed: int | None = None
        """The first member that ended with an exit code."""
        self.restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        self.told = False

    def _start_waiting(self) -> None:
        """Starts the members for which there is room: a GPU may be another command's."""
        for index in list(self.waiting):
            slot, claim = self.slots[index], None
            if slot.gpus and (claim := try_claim(slot.gpus, slot.per_gpu)) is None:
                if not self.told:
                    self.told = True
                    self.say(f"all places on {len(slot.gpus)} GPUs are taken: waiting for one")
                return
            self.waiting.remove(index)
            self.members[index] = self._start(slot, index, claim)
            if claim is not None:
                claim.close()  # the worker has it now

    def _start(self, slot: Slot, index: int, claim: Claim | None) -> subprocess.Popen[bytes]:
        env = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        held: tuple[int, ...] = ()
        if claim is not None:
            held = (claim.descriptor,)
            env["CUDA_VISIBLE_DEVICES"] = claim.gpu
        if slot.device == "cpu":
            env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "search.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            pass_fds=held,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        listener = threading.Thread(target=self._listen, args=(process.stdout, index), daemon=True)
        listener.start()
        self.listeners.append(listener)
        try:
            pickle.dump(replace(self.job, device=slot.device, per_gpu=slot.per_gpu), process.stdin)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; poll() sees its exit code
        return process

    def _listen(self, output: IO[bytes], index: int) -> None:
        heard = self.heard[index] = deque(maxlen=MOST_LINES)
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                heard.append(text)
                self.lines.put(f"worker {index + 1}: {text}")

    @property
    def last_words(self) -> str:
        """What the first worker that failed said last: its error, or the line that its traceback ends
        with."""
        lines = [] if self.failed is None else [line for line in self.heard.get(self.failed, ()) if line]
        for i, line in enumerate(lines):
            if line.startswith(ERROR):
                return "\n".join([line.removeprefix(ERROR), *lines[i + 1 :]])
        return lines[-1] if lines else ""

    def run(
        self,
        stop: Stop,
        poll: Callable[[], None],
        reap: Callable[[], Collection[int]],
        is_done: Callable[[], bool],
    ) -> int:
        """Runs until all have ended; returns the first exit code that is not 0. A killed worker is
        replaced, one whose GPU or database failed is not. Members that wait for a GPU are not started
        any more when the study `is_done`."""
        code, told = 0, False
        with stop_on_signals(stop, at_once=lambda: self._kill(reap)):
            while True:
                if stop.is_set() and not told:
                    told = True
                    self.waiting.clear()
                    self._terminate()
                self._start_waiting()
                for index, process in list(self.members.items()):
                    ended = process.poll()
                    if ended is None:
                        continue
                    del self.members[index]
                    if process.stdin is not None:
                        with suppress(BrokenPipeError):
                            process.stdin.close()
                    if ended > 0:
                        if not code:
                            code, self.failed = ended, index
                        if ended not in OWN_TROUBLE:
                            stop.set()
                    elif ended < 0 and not stop.is_set():
                        self._replace(index, -ended, reap)
                self._pass_on()
                poll()
                if not self.members and (not self.waiting or is_done()):
                    break
                time.sleep(POLL_SECONDS / 5) if stop.is_set() else stop.wait(POLL_SECONDS)
        for listener in self.listeners:
            listener.join(timeout=2)
        self._pass_on()
        return code

    def _replace(self, index: int, number: int, reap: Callable[[], Collection[int]]) -> None:
        queued = " Its trial is queued again." if reap() else ""
        ended = f"worker {index + 1} was ended by {signal.Signals(number).name}.{queued}"
        many = len(self.restarts) == MAX_RESTARTS
        if many and time.monotonic() - self.restarts[0] < RESTARTS_SECONDS:
            self.say(f"{ended} It is not replaced any more: is the memory enough for so many workers?")
            return
        self.restarts.append(time.monotonic())
        self.say(f"{ended} A new one starts.")
        self.waiting.append(index)

    def _pass_on(self) -> None:
        while not self.lines.empty():
            self.say(self.lines.get())

    def _terminate(self) -> None:
        for process in self.members.values():
            if process.poll() is None:
                process.terminate()

    def _kill(self, reap: Callable[[], Collection[int]]) -> None:
        for process in self.members.values():
            process.kill()
            process.wait()
        reap()
        exit_now()
