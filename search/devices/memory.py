"""A worker's share of its GPU's memory: a bound of its own, so that a trial too large for it harms no
neighbour, and no start for a trial that surely does not fit. Whatever else runs out of memory is recorded as
such."""

from __future__ import annotations

import torch

from models.architecture import Architecture
from models.cost import measure_cost
from models.norms import NORMS
from search.errors import DeviceError
from search.spec.train_config import TrainConfig
from search.training.optimizer import uses_bfloat16

MIB = 1 << 20
CONTEXT = 500 * MIB
"""Bytes of every process on a GPU outside torch's allocator: the CUDA context and the kernels that it
loads."""


def least_bytes(architecture: Architecture, batch_size: int, optimizer: str, bfloat16: bool) -> int:
    """Bytes that a trial surely takes at the end of a forward pass: weights, gradients of the step before,
    the optimizer's memory, and of what autograd keeps the input of every convolution and of every norm that
    reads it again.

    `batch_size`: no more than there are images. `bfloat16`: maps are kept in it, weights are not.
    """
    weights = 4 * measure_cost(architecture).params
    kept, norm = 0, NORMS[architecture.norm]
    for part in architecture.parts:
        for conv, (height_in, width_in), (height, width) in part.traced():
            kept += conv.width_in * height_in * width_in
            kept += conv.width * height * width * (norm.keeps_input and conv.normed)
    moments = 2 if optimizer == "adamw" else 1
    return weights * (2 + moments) + batch_size * kept * (2 if bfloat16 else 4)


def surely_exceeds(
    architecture: Architecture, config: TrainConfig, images: int, device: torch.device
) -> bool:
    """Whether a trial cannot fit into what is left of this worker's share: never so on a CPU. A trial that
    might is tried, since running out of memory is its own affair."""
    if device.type != "cuda":
        return False
    bfloat16 = uses_bfloat16(config.precision, device)
    least = least_bytes(architecture, min(config.batch_size, images), config.optimizer, bfloat16)
    return least > _left(device)


def take_share(device: torch.device, per_gpu: int) -> None:
    """Bounds this process to an equal part of a GPU with several workers, less what a process takes beside
    torch's allocator. Raises DeviceError where nothing is left."""
    if device.type != "cuda" or per_gpu == 1:
        return
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(fraction(total, per_gpu), _index(device))


def fraction(total: int, per_gpu: int) -> float:
    """The share of each of `per_gpu` workers in `total` bytes. Raises DeviceError where it is none."""
    share = total // per_gpu - CONTEXT
    if share <= 0:
        raise DeviceError(
            f"a GPU of {total // MIB:,} MiB has no room for {per_gpu} workers, each of which takes "
            f"{CONTEXT // MIB} MiB before it trains: give a smaller --per-gpu"
        )
    return share / total


def _left(device: torch.device) -> int:
    _, total = torch.cuda.mem_get_info(device)
    bound = int(total * torch.cuda.get_per_process_memory_fraction(_index(device)))
    return bound - torch.cuda.memory_allocated(device)


def _index(device: torch.device) -> int:
    """The number of the GPU: the two functions for fractions, alone among torch's, want it named."""
    return torch.cuda.current_device() if device.index is None else device.index
