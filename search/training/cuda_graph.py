"""The steps of a run on a GPU, each as one launch: captured in a CUDA graph after a few, and replayed.

A small network is a hundred kernels of microseconds; to launch them one by one from Python takes longer than
to run them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Protocol

import torch

from search.errors import tell_once
from search.training import kernels

WARM_UP = 3
"""Steps that are taken as they are before one is captured: cuDNN times its kernels, cuBLAS gets its
workspace, SGD has had its first step, which differs from the others."""


class Recorder(Protocol):
    """A CUDA graph, or what stands for one in a test."""

    def warm_up(self, step: Callable[[], None]) -> None:
        """Takes the step, where it will be captured."""

    def record(self, step: Callable[[], None]) -> None:
        """Runs the step's Python, but nothing on the device. A RuntimeError leaves the device as it was."""

    def replay(self) -> None:
        """Replays on the device what was recorded, without Python."""

    def free(self) -> None:
        """Gives back what was recorded, and its memory."""


class Stepper:
    """Takes the steps of one run.

    A step is a function without arguments that works on tensors which stay where they are: what differs from
    step to step it finds in them, and what it leaves is in them. What it does in Python may happen or not.
    After the capture every step is a replay: a parameter's gradient stays in the graph's memory, and is that
    of the last step. A step taken otherwise would put it elsewhere, where later replays are not seen.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        """All steps are taken as they are where there is no recorder."""
        self.recorder = recorder
        self.warm_ups = 0
        self.recorded = False

    def take(self, step: Callable[[], None]) -> None:
        """Takes the step, the same one every time. It is not kept: a cycle would hold a run's memory after
        its end."""
        if self.recorder and not self.recorded and self.warm_ups == WARM_UP:
            self._record(self.recorder, step)
        if self.recorder is None:
            step()
        elif self.recorded:
            self.recorder.replay()
        else:
            self.recorder.warm_up(step)
            self.warm_ups += 1

    def _record(self, recorder: Recorder, step: Callable[[], None]) -> None:
        try:
            recorder.record(step)
            self.recorded = True
        except RuntimeError as error:
            tell_once(f"steps are not captured, training goes on without: {_first_line(error)}")
            self.free()

    def free(self) -> None:
        """Gives up what was recorded, and its memory."""
        if self.recorder:
            self.recorder.free()
        self.recorder, self.recorded = None, False


class CudaRecorder:
    """A CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = _side_stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.graph = torch.cuda.CUDAGraph()

    def warm_up(self, step: Callable[[], None]) -> None:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            step()
        current.wait_stream(self.stream)

    def record(self, step: Callable[[], None]) -> None:
        # thread_local: other threads may do meanwhile what a capture forbids. graph() does not leave its
        # stream when the end of a broken capture raises: the outer stream() does
        graph = torch.cuda.graph(self.graph, self.pool, self.stream, capture_error_mode="thread_local")
        collects = gc.isenabled()
        gc.disable()  # what it finds may be a tensor or a graph, not to be freed amid a capture
        try:
            with torch.cuda.stream(self.stream), graph:
                step()
        except BaseException:
            self._leave_capture()
            raise
        finally:
            if collects:
                gc.enable()

    def _leave_capture(self) -> None:
        """A capture that CUDA broke off leaves the allocator in it, which would then run out of memory rather
        than give back what it caches. Allocators ask its graph, which therefore has to stay."""
        _broken.append(self.graph)
        kernels.leave_capture(self.device, self.pool)

    def replay(self) -> None:
        self.graph.replay()

    def free(self) -> None:
        with suppress(RuntimeError):  # of a capture that failed; or of a GPU that did, which is known by now
            self.graph.reset()


_broken: list[torch.cuda.CUDAGraph] = []
"""Graphs of this process whose capture failed."""


def recorder_for(device: torch.device) -> Recorder | None:
    """A CUDA graph on a GPU; None elsewhere: there steps are not captured."""
    return CudaRecorder(device) if device.type == "cuda" else None


@contextmanager
def fixed_shapes(device: torch.device) -> Iterator[None]:
    """A context for work that sees every shape many times: the first time, cuDNN tries its kernels and keeps
    the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all runs of the process: cuBLAS keeps a workspace for every stream that it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _first_line(error: BaseException) -> str:
    """The first line of the error that came first: the end of a broken capture raises another."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error) or type(error).__name__).splitlines()[0]
