from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.architecture import Architecture, Stage
from models.arms.arm import ARMS
from models.block import Block
from models.network import Network, build
from models.norms import NORMS
from models.parts import Conv, Part
from tests.support.arms import OURS
from tests.support.made_up import Gated, installed


def network(**changes: object) -> Network:
    base = Architecture(image_shape=(1, 8, 8), classes=10, block="plain", stages=(Stage(width=8, blocks=3),))
    return build(replace(base, **changes), seed=2)  # type: ignore[arg-type]


def block_of(width_in: int, width: int, stride: int) -> Block:
    convs = ARMS["residual"].convs(width_in, width, stride)
    part = Part(kind="block", stage=0, size=(5, 7), convs=convs)
    return Block(ARMS["residual"], part, NORMS["none"], zero_branch=False)


def test_the_shortcut_is_the_identity_where_nothing_changes() -> None:
    x_NCHW = torch.randn(2, 4, 5, 7)
    assert torch.equal(block_of(4, 4, 1).shortcut(x_NCHW), x_NCHW)


@pytest.mark.parametrize(("width", "before"), [(8, 2), (7, 1), (5, 0)])
def test_the_shortcut_takes_every_second_pixel_and_pads_with_zeros_evenly(width: int, before: int) -> None:
    """Option A of He et al. 2015; of an odd number of new channels, the one more comes last."""
    x_NCHW = torch.randn(2, 4, 5, 7)
    found = block_of(4, width, 2).shortcut(x_NCHW)
    assert found.shape == (2, width, 3, 4)
    assert torch.equal(found[:, before : before + 4], x_NCHW[:, :, ::2, ::2])
    assert not found[:, :before].any()
    assert not found[:, before + 4 :].any()


def test_layers_stand_in_the_order_of_the_arms_convolutions() -> None:
    with installed(Gated):
        [block, *_] = network(block="gated", norm="batch").blocks
        assert list(dict(block.named_children())) == ["conv1", "norm1", "conv2", "norm2", "conv3", "norm3"]
        assert (block.path, block.convs) == ((1, 2), [block.layer("conv1"), block.layer("conv2")])
        assert block.last_norm is block.layer("norm2")
        assert block.layer("conv1").bias is None, "a norm that shifts makes it redundant"
        assert block.layer("conv3").bias is not None, "no norm follows"
        assert isinstance(block.layer("norm3"), torch.nn.Identity)


def test_no_two_convolutions_of_a_network_have_one_number() -> None:
    """Convolutions that one arm has alone are drawn by their numbers."""
    blocks = network(stages=(Stage(width=4, blocks=3), Stage(width=4, blocks=2))).blocks
    numbers = [block.number(i) for block in blocks for i in range(1, 10)]
    assert len(set(numbers)) == len(numbers)
    assert 0 not in numbers


def test_zero_branch_changes_nothing_but_gains_and_scalars() -> None:
    for norm in NORMS:
        for arm in OURS:
            usual = dict(network(block=arm, norm=norm).named_parameters())
            zero = dict(network(block=arm, norm=norm, zero_branch=True).named_parameters())
            changed = {n for n, p in zero.items() if not torch.equal(p, usual.get(n, torch.ones(2)))}
            assert all(n.endswith((".scale", "norm2.weight")) for n in changed)
            assert all((zero[n] == 0).all() for n in changed)
            assert len(changed) == (0 if arm == "plain" else 3)
            assert zero.keys() - usual.keys() == {n for n in changed if n.endswith(".scale")}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("arm", ["residual", "preact"])
def test_zero_branches_start_as_the_identity_and_can_learn(arm: str, norm: str) -> None:
    """All residual blocks together are the identity at first, and the loss reaches every branch."""
    net = network(block=arm, norm=norm, zero_branch=True)
    stem = net.stem(torch.randn(4, 1, 8, 8))
    stream = active = stem
    for block in net.blocks:
        stream, active = block(stream, active)
    assert torch.equal(stream, stem)
    net(torch.randn(4, 1, 8, 8)).logsumexp(1).sum().backward()
    gates = [p for n, p in net.named_parameters() if n.endswith(".scale") or "norm2.weight" in n]
    moving = [g for g in gates if g.grad is not None and g.grad.abs().max() > 0 and (g == 0).all()]
    assert len(moving) == 3


@pytest.mark.parametrize("arm", ["residual", "preact"])
def test_the_scalar_multiplies_the_branch_alone(arm: str) -> None:
    """SkipInit: x + scale * F(x)."""
    [block, *_] = network(block=arm, zero_branch=True).blocks
    x_NCHW = torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        assert block.scale is not None
        block.scale.fill_(0.25)
        [stream, _] = block(x_NCHW, x_NCHW)
        expected = x_NCHW + 0.25 * block.branch(x_NCHW)
    torch.testing.assert_close(stream, expected.relu() if arm == "residual" else expected)


def test_the_branch_is_conv_norm_relu_conv_without_the_last_norm() -> None:
    [block, *_] = network(block="residual", norm="batch").blocks
    x_NCHW = torch.randn(2, 8, 5, 5)
    hidden = block.layer("norm1")(block.layer("conv1")(x_NCHW)).relu()
    torch.testing.assert_close(block.branch(x_NCHW), block.layer("conv2")(hidden))


def test_a_convolution_keeps_its_maps_size_where_it_is_padded() -> None:
    part = Part(kind="block", stage=0, size=(5, 7), convs=(Conv(width_in=1, width=2, kernel=5),))
    block = Block(ARMS["plain"], part, NORMS["none"], zero_branch=False)
    assert block.convs[0].padding == (2, 2)
