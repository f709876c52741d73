"""Several networks of one architecture computed as one: their convolutions become one with groups.

A small network leaves most of a machine idle, and most of its time is not arithmetic: M of them as one take
less than M times as long (HFTA, Wang et al., MLSys 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.architecture import Architecture
from models.network import Network


def join(architecture: Architecture, networks: Sequence[Network]) -> Network:
    """One network, in channels_last, that computes what `networks` of this architecture do, on their device.

    They become parts of it: the parameters and statistics of each are views of its own, and to train it is to
    train them. None of them may be moved afterwards.
    """
    with torch.random.fork_rng(devices=[]):  # its own initial weights are overwritten
        joined = Network(architecture, len(networks))
    like = next(networks[0].parameters())
    joined.to(like.device, like.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    modules = [list(network.modules()) for network in networks]
    for i, whole in enumerate(joined.modules()):
        for name, parameter in whole.named_parameters(recurse=False):
            for k, members in enumerate(modules):
                own = members[i].get_parameter(name)
                own.data = view(parameter.data, k, own).copy_(own.data)
        for name, buffer in whole.named_buffers(recurse=False):
            for k, members in enumerate(modules):
                part = members[i].get_buffer(name)
                setattr(members[i], name, view(buffer, k, part).copy_(part))
    return joined


def share_gradients(joined: Network, networks: Sequence[Network]) -> None:
    """Gives each of `networks` its part of the gradients that `joined` has now, as views."""
    for whole, *parts in zip(joined.parameters(), *(n.parameters() for n in networks), strict=True):
        assert whole.grad is not None, "shared after a backward pass"
        for k, part in enumerate(parts):
            part.grad = view(whole.grad, k, part)


def view(whole: Tensor, member: int, part: Tensor) -> Tensor:
    """Where the member's `part` lies in what all members have side by side. What has no dimension, as the
    count of batches, they have in common."""
    return whole.view(-1, *part.shape)[member] if whole.ndim else whole
