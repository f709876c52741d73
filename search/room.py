"""A worker's share of its GPU's memory: a bound of its own, so that a trial too large for it harms no
neighbour, and no start for a trial that cannot fit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.architecture import Architecture
from search.errors import DeviceError
from search.memory import CONTEXT, MIB, estimate
from search.optimization import TrainConfig, uses_bfloat16

LOOK_SECONDS, WAIT_SECONDS = 1.0, 600.0
"""Between looks at a GPU that is full; after which a trial is tried all the same."""


@dataclass(frozen=True)
class Room:
    """Bytes for the next trial."""

    share: int
    """That this worker may still take."""
    free: int
    """That the GPU has for it now."""


def take_share(device: torch.device, per_gpu: int) -> None:
    """Of a GPU with several workers, an equal part less what a process takes beside torch's allocator. Raises
    DeviceError where nothing is left."""
    if device.type != "cuda" or per_gpu == 1:
        return
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(fraction(total, per_gpu), _index(device))


def fraction(total: int, per_gpu: int) -> float:
    share = total // per_gpu - CONTEXT
    if share <= 0:
        raise DeviceError(
            f"a GPU of {total // MIB:,} MiB has no room for {per_gpu} workers, each of which takes "
            f"{CONTEXT // MIB} MiB before it trains: use --per-gpu auto"
        )
    return share / total


def admission(
    architecture: Architecture,
    config: TrainConfig,
    images: int,
    device: torch.device,
    interrupted: Callable[[], bool],
) -> str:
    """Before a trial is built: "" where it may start, "oom" where it surely exceeds this worker's share.

    Only what is sure is refused: a trial that an upper bound doubts is tried, since running out of memory is
    now its own affair. Memory that others hold is waited for, as their trials end; "interrupted" meanwhile.
    """
    if device.type != "cuda":
        return ""
    memory = estimate(
        architecture,
        min(config.batch_size, images),
        config.optimizer,
        uses_bfloat16(config.precision, device),
        config.crop,
    )
    return admit(memory.least, lambda: _room(device), interrupted)


def admit(least: int, look: Callable[[], Room], interrupted: Callable[[], bool]) -> str:
    told, began = False, time.monotonic()
    while (room := look()).share >= least:
        if room.free >= least or time.monotonic() - began > WAIT_SECONDS:
            return ""
        if not told:
            told = True
            print(
                f"a trial needs {least // MIB:,} MiB of the GPU, others leave {room.free // MIB:,}: waiting",
                file=sys.stderr,
                flush=True,
            )
        if interrupted():
            return "interrupted"
        time.sleep(LOOK_SECONDS)
    return "oom"


def _room(device: torch.device) -> Room:
    free, total = torch.cuda.mem_get_info(device)
    bound = int(total * torch.cuda.get_per_process_memory_fraction(_index(device)))
    used, cached = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return Room(bound - used, free + cached - used)


def _index(device: torch.device) -> int:
    """The two functions for fractions, alone among torch's, want it named."""
    return torch.cuda.current_device() if device.index is None else device.index
