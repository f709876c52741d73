"""Slots for the workers of one machine: how many, and on which devices."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from search.devices.gpu_locks import visible_gpus
from search.errors import DeviceError


@dataclass(frozen=True)
class Slot:
    """The place of one worker: the CPU, or whichever of the GPUs is free."""

    device: str
    gpus: tuple[str, ...] = ()
    per_gpu: int = 1


def slots_for(workers: str, device: str, per_gpu: int = 1) -> list[Slot]:
    """A slot for each worker. `workers`: a number, or auto: `per_gpu` for each GPU, or one per CPU core.
    Raises DeviceError where CUDA is asked for and absent."""
    gpus = _gpus() if device in ("auto", "cuda") else ()
    if device == "cuda" and not gpus:
        raise DeviceError("CUDA was asked for, but torch sees no GPU; use --device cpu")
    places = len(gpus) * per_gpu if gpus else _cores()
    slot = Slot("cuda", gpus, per_gpu) if gpus else Slot("cpu")
    return [slot] * (places if workers == "auto" else int(workers))


def _gpus() -> tuple[str, ...]:
    import torch

    if not torch.cuda.is_available():  # without a driver, or a build of torch for CPUs
        return ()
    return tuple(visible_gpus()) or tuple(map(str, range(torch.cuda.device_count())))


def _cores() -> int:
    """CPU cores that this process may use, where the system tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # as a container's --cpus sets it
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
