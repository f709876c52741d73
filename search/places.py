"""`--per-gpu auto`: how many workers one GPU has room for, by its memory and the cores that feed it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from search.datasets import Parts
from search.errors import DeviceError
from search.gpus import is_held
from search.memory import CONTEXT, MIB, data_bytes, most_of
from search.spec import StudySpec

MOST = 8
"""Collocated trainings gave an A100 up to 4 times the throughput of one (arXiv 2209.06018). So one computes
for an H100: a step of a ResNet-20 of width 16 at batch 128 takes 1.15 ms to launch kernel by kernel,
and 0.30 ms of memory traffic. Captured steps need fewer, smaller maps leave more idle: hence twice that."""
READ = "import torch; print(*torch.cuda.mem_get_info())"
"""In a process of its own: to ask makes a CUDA context, which a command that only waits for its workers would
keep to its end. As a worker does it, so that slices of GPUs are asked like whole ones."""
READ_SECONDS = 120.0


def needed(spec: StudySpec, parts: Parts, confirms: bool = False) -> int:
    """Bytes that one worker of the study takes at most, its CUDA context apart."""
    train, val = parts.train.pixels_NHWC, parts.val.pixels_NHWC
    data = data_bytes(train.nbytes + val.nbytes, len(train) + len(val), len(train))
    if confirms:  # the split of the search, the last seed's and this one's, and the test images
        data = 3 * data + data_bytes(parts.test.pixels_NHWC.nbytes, len(parts.test.pixels_NHWC), 0)
    return most_of(spec, parts.image_shape, parts.classes, len(train)) + data


def how_many(gpus: Sequence[str], need: int, cores: int) -> int:
    """Workers on each of `gpus`, for the fullest of them. Raises DeviceError where one cannot be asked."""
    room = min(_room(gpu, free, total) for gpu, (free, total) in zip(gpus, _memory(gpus), strict=True))
    by_memory, by_cores = room // (need + CONTEXT), cores // len(gpus)
    found = max(1, min(by_memory, by_cores, MOST))
    print(
        f"{found} worker{'s' * (found != 1)} on each GPU: a trial takes up to {need // MIB:,} MiB of "
        f"{room // MIB:,} MiB, and there are {cores} CPU cores for {len(gpus)}",
        file=sys.stderr,
    )
    return found


def _room(gpu: str, free: int, total: int) -> int:
    """What is free; all of it where workers are at home already: what they use is to be shared as well, and
    commands that start one after another come to one number."""
    return total if is_held(gpu) else free


def _memory(gpus: Sequence[str]) -> list[tuple[int, int]]:
    """Bytes free and in all, of each."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", READ],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": gpu},
            cwd=Path(__file__).parents[1],  # what `-c` imports comes from there, not from a person's folder
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for gpu in gpus
    ]
    try:
        return [_answer(gpu, child) for gpu, child in zip(gpus, children, strict=True)]
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _answer(gpu: str, child: subprocess.Popen[str]) -> tuple[int, int]:
    try:
        out, err = child.communicate(timeout=READ_SECONDS)
        free, total = map(int, out.split())
    except (subprocess.TimeoutExpired, ValueError) as error:
        said = str(error) if isinstance(error, subprocess.TimeoutExpired) else err.strip().rpartition("\n")[2]
        raise DeviceError(
            f"the memory of the GPU {gpu} cannot be read: {said}; give --per-gpu a number"
        ) from None
    return free, total
