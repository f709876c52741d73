"""Torch's private names, all that the product uses of them: what another release may take away is looked for
here.

tests/training/test_kernels.py fails when one of them goes, and pyproject.toml bounds the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor


def sgd_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    lr: float | Tensor,
    momentum: float,
    weight_decay: float,
    first: bool,
) -> None:
    """A step of SGD, in place: the kernel of torch.optim.SGD(fused=True). `first`: momenta hold nothing
    yet."""
    torch._fused_sgd_(
        parameters, gradients, momenta, weight_decay=weight_decay, momentum=momentum, lr=lr, dampening=0.0,
        nesterov=False, maximize=False, is_first_step=first,
    )  # fmt: skip


def adamw_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    steps: list[Tensor],
    lr: float | Tensor,
    weight_decay: float,
) -> None:
    """A step of AdamW with PyTorch's betas and eps, in place: the kernel of torch.optim.AdamW(fused=True)."""
    torch._foreach_add_(steps, 1)
    torch._fused_adamw_(
        parameters, gradients, first_moments, second_moments, [], steps, lr=lr, beta1=0.9, beta2=0.999,
        weight_decay=weight_decay, eps=1e-8, amsgrad=False, maximize=False,
    )  # fmt: skip


def norms(tensors: Sequence[Tensor]) -> list[float]:
    """The Euclidean norm of each tensor, all asked of the device at once."""
    return torch.stack(torch._foreach_norm(list(tensors))).tolist()


def differences(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Sequence[Tensor]:
    """Each tensor minus its counterpart."""
    return torch._foreach_sub(list(tensors), list(others))


def leave_capture(device: torch.device, pool: tuple[int, int]) -> None:
    """Takes the allocator out of a capture that CUDA broke off; nothing where it was ended in order."""
    index = torch.cuda.current_device() if device.index is None else device.index
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(index, pool)
        torch._C._cuda_releasePool(index, pool)
