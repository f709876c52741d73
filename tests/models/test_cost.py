from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.architecture import Architecture
from models.cost import measure_cost
from models.network import Network
from models.presets import PRESETS, preset
from tests.support.arms import OURS

GOLDEN = json.loads((Path(__file__).parent / "golden_costs.json").read_text())


def test_cost_is_that_of_a_real_forward_pass(architectures: list[Architecture]) -> None:
    """PyTorch's own counter, which gives two flops for a multiply-add, on real weights and a real image."""
    for architecture in architectures:
        network = Network(architecture).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, *architecture.image_shape))
        cost = measure_cost(architecture)
        assert 2 * cost.macs == counter.get_total_flops(), architecture
        assert cost.params == sum(p.numel() for p in network.parameters()), architecture


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_recorded_cost_in_each_of_our_arms(name: str) -> None:
    """41,514 for the post's net; for the ResNets the counts of He et al. 2015 with option A."""
    for block in OURS:
        cost = measure_cost(preset(name, block))
        assert {"params": cost.params, "macs": cost.macs} == GOLDEN[name]


def test_measuring_allocates_no_weights() -> None:
    """A terabyte of weights has a price too."""
    wide = Architecture.from_json(preset("resnet110").to_json().replace('"width": 64', '"width": 4096'))
    assert measure_cost(wide).params > 5_000_000_000
