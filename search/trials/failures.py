"""Errors of a trial, told apart: of its own making, of the device, of memory that is too small."""

from __future__ import annotations

import gc

import optuna
import torch

from search.errors import DeviceError, SearchError
from search.storage.leases import ClaimLost

PASSING = (SearchError, ClaimLost, optuna.exceptions.StorageInternalError)
"""Errors that are not of a trial's own making."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, of the CPU or of a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")  # of CPU, CUDA, cuBLAS, cuDNN
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def is_device_failure(error: Exception) -> bool:
    """Whether the GPU failed, and not merely its memory was too small: no trial runs in this process any
    more."""
    failed = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
    return failed and not is_out_of_memory(error)


def raise_device_failure(error: Exception) -> None:
    """Raises DeviceError where it was the GPU that failed."""
    if is_device_failure(error):
        raise DeviceError(f"the GPU failed: {str(error).splitlines()[0]}") from error


def free(device: torch.device) -> None:
    """Gives back memory of a GPU that is no longer used, for others."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
