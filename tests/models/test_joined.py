"""Members of a network, against the networks that they are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.architecture import Architecture
from models.joined import join, share_gradients
from models.network import Network, build, weights_fingerprint
from tests.support.studies import sample_architectures

M = 3


def built(architecture: Architecture) -> list[Network]:
    """In double precision: what differs then is not rounding."""
    return [build(architecture, seed).double() for seed in range(M)]


@pytest.mark.parametrize("architecture", sample_architectures(60, seed=1), ids=str)
def test_each_member_computes_what_its_network_does(architecture: Architecture) -> None:
    """Logits, gradients and batch statistics."""
    networks, members = built(architecture), built(architecture)
    joined = join(architecture, members)
    images_MBCHW = torch.randn(M, 5, *architecture.image_shape, dtype=torch.float64)
    labels_MB = torch.randint(0, architecture.classes, (M, 5))
    logits_MBK = joined(torch.cat(list(images_MBCHW), 1))
    losses_N = F.cross_entropy(logits_MBK.flatten(0, 1), labels_MB.flatten(), reduction="none")
    losses_N.view(M, -1).mean(1).sum().backward()
    share_gradients(joined, members)
    for i, (network, member) in enumerate(zip(networks, members, strict=True)):
        logits_BK = network(images_MBCHW[i])
        torch.testing.assert_close(logits_MBK[i], logits_BK, rtol=1e-6, atol=1e-8)
        F.cross_entropy(logits_BK, labels_MB[i]).backward()
        largest = max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)
        for alone, part in zip(network.parameters(), member.parameters(), strict=True):
            torch.testing.assert_close(part.grad, alone.grad, rtol=1e-6, atol=1e-8 * largest)
        for alone_buffer, buffer in zip(network.buffers(), member.buffers(), strict=True):
            torch.testing.assert_close(buffer, alone_buffer)


@pytest.mark.parametrize("architecture", sample_architectures(20, seed=2), ids=str)
def test_members_are_parts_of_the_whole(architecture: Architecture) -> None:
    members = [build(architecture, seed) for seed in range(M)]
    before = [weights_fingerprint(member) for member in members]
    joined = join(architecture, members)
    assert [weights_fingerprint(member) for member in members] == before, "joining changes no weight"
    assert sum(p.numel() for p in joined.parameters()) == M * sum(p.numel() for p in members[0].parameters())
    with torch.no_grad():
        for parameter in joined.parameters():
            parameter.fill_(2.0)
    for member in members:
        assert all(bool((parameter == 2.0).all()) for parameter in member.parameters())


def test_a_member_that_is_ruined_leaves_the_others_alone() -> None:
    [architecture] = [a for a in sample_architectures(60, seed=1) if a.norm == "batch"][:1]
    members = built(architecture)
    joined = join(architecture, members)
    images_MBCHW = torch.randn(M, 5, *architecture.image_shape, dtype=torch.float64)
    before_MBK = joined(torch.cat(list(images_MBCHW), 1)).detach()
    with torch.no_grad():
        members[1].head.weight.fill_(float("nan"))
        next(members[1].parameters()).fill_(float("inf"))
    after_MBK = joined(torch.cat(list(images_MBCHW), 1))
    assert not after_MBK[1].isfinite().any()
    after_MBK.sum().backward()
    share_gradients(joined, members)
    for i in (0, 2):
        torch.testing.assert_close(after_MBK[i].detach(), before_MBK[i])
        assert all(bool(p.grad.isfinite().all()) for p in members[i].parameters() if p.grad is not None)
