"""Errors told apart: memory that is too small, a device that failed, the trial's own."""

from __future__ import annotations

import pytest
import torch

from search.errors import DatabaseError, DataError, DeviceError, SpecError, StudyFailed
from search.storage.leases import ClaimLost
from search.trials.failures import (
    PASSING,
    free,
    is_device_failure,
    is_out_of_memory,
    raise_device_failure,
)

MEMORY, DEVICE, OWN = "out of memory", "device failure", "of its own"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MEMORY),
        (torch.OutOfMemoryError(""), MEMORY),
        (MemoryError(), MEMORY),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
            MEMORY,
        ),
        (RuntimeError("CUDA error: out of memory"), MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), MEMORY),
        (torch.AcceleratorError("CUDA error: out of memory"), MEMORY),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DEVICE),
        (torch.AcceleratorError("unspecified launch failure"), DEVICE),
        (RuntimeError("CUDA error: unspecified launch failure"), DEVICE),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), DEVICE),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (32x8 and 16x10)"), OWN),
        (ValueError("out of memory"), OWN),
        (KeyError("no such key"), OWN),
        (OSError("[Errno 28] No space left on device"), OWN),
    ],
    ids=lambda value: f"{type(value).__name__} {value}"[:60] if isinstance(value, Exception) else value,
)
def test_an_error_is_of_one_kind(error: Exception, kind: str) -> None:
    assert (is_out_of_memory(error), is_device_failure(error)) == (kind == MEMORY, kind == DEVICE)
    if kind == DEVICE:
        with pytest.raises(DeviceError, match=r"^the GPU failed: ") as raised:
            raise_device_failure(error)
        assert raised.value.__cause__ is error
    else:
        raise_device_failure(error)


def test_a_device_failure_is_told_in_a_line() -> None:
    error = RuntimeError("CUDA error: unknown error\nCompile with `TORCH_USE_CUDA_DSA` ...")
    with pytest.raises(DeviceError, match=r"^the GPU failed: CUDA error: unknown error$"):
        raise_device_failure(error)


@pytest.mark.parametrize(
    "error", [SpecError(""), DataError(""), DeviceError(""), DatabaseError(""), StudyFailed(""), ClaimLost()]
)
def test_what_a_person_is_told_and_a_lost_claim_are_no_trials_own(error: Exception) -> None:
    assert isinstance(error, PASSING)


def test_on_a_cpu_there_is_nothing_to_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> None:
        raise AssertionError("CUDA may not be there at all")

    monkeypatch.setattr(torch.cuda, "empty_cache", asked)
    free(torch.device("cpu"))
    with pytest.raises(AssertionError):
        free(torch.device("cuda"))
