from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.inits import INITS
from models.network import build
from models.presets import preset

VARIANCE = {"he": 2.0, "default": 1 / 3}
"""Variance times fan-in. PyTorch's default is a sixth of He's, which is why plain stacks vanish."""


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize(("stage", "block", "fan_in"), [(2, 2, 64 * 9), (2, 0, 32 * 9)])
def test_initial_variance_is_the_stated_one(init: str, stage: int, block: int, fan_in: int) -> None:
    """One convolution has as many channels in as out, the other half as many."""
    architecture = replace(preset("resnet20", "plain"), init=init)
    conv = build(architecture, seed=0).stages[stage][block].conv1  # type: ignore[index]
    assert conv.weight.var().item() * fan_in == pytest.approx(VARIANCE[init], rel=0.05)


def test_he_is_normal_without_bias_and_the_default_leaves_the_layer_as_it_was() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, 3)
    before = {name: parameter.detach().clone() for name, parameter in conv.named_parameters()}
    INITS["default"](conv)
    assert all(torch.equal(parameter, before[name]) for name, parameter in conv.named_parameters())
    INITS["he"](conv)
    assert conv.bias is not None
    assert not conv.bias.any()
    weights = conv.weight.detach().double()
    assert (weights**4).mean() / (weights**2).mean() ** 2 == pytest.approx(3, rel=0.1), "of a normal law"
    INITS["he"](nn.Conv2d(3, 3, 3, bias=False))


def test_every_convolution_is_initialized() -> None:
    """He's init leaves no bias: stem, transition and both convolutions of a block."""
    network = build(replace(preset("post"), init="he"), seed=0)
    biases = [module.bias for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(biases) == 6
    assert not any(bias is None or bias.any() for bias in biases)
