from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.network import build
from models.presets import preset
from search.spec.train_config import TrainConfig
from search.training.optimizer import Optimizer

CONFIG = TrainConfig(
    epochs=1, batch_size=8, optimizer="sgd", lr=0.05, seed=0, weight_decay=1e-2, momentum=0.8
)


def losses(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network(images).square().mean()


def torchs(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_steps_are_those_of_torch_bit_for_bit(kind: str, as_tensor: bool) -> None:
    config = replace(CONFIG, optimizer=kind)
    ours, theirs = build(preset("post", "residual"), 1), build(preset("post", "residual"), 1)
    optimizer, reference = Optimizer(ours, config), torchs(theirs, config)
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for step in range(5):
        lr = 0.05 / (step + 1)
        for group in reference.param_groups:
            group["lr"] = lr
        reference.zero_grad()
        optimizer.zero_grad()
        losses(ours, images).backward()
        losses(theirs, images).backward()
        reference.step()
        optimizer.step(torch.tensor(lr, dtype=torch.float64) if as_tensor else lr)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_state_that_comes_back_goes_on_bit_for_bit(kind: str) -> None:
    config = replace(CONFIG, optimizer=kind)
    network = build(preset("post", "plain"), 1)
    optimizer = Optimizer(network, config)
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def step() -> None:
        optimizer.zero_grad()
        losses(network, images).backward()
        optimizer.step(0.01)

    step()
    state = {
        "taken": optimizer.taken,
        "groups": [[t.clone() for t in tensors] for tensors in optimizer.state()["groups"]],
    }
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    step()
    after = [p.clone() for p in network.parameters()]
    network.load_state_dict(weights)
    optimizer = Optimizer(network, config)
    optimizer.restore(state)
    step()
    assert all(torch.equal(a, b) for a, b in zip(after, network.parameters(), strict=True))


TRAINS = """
import sys, torch
from search.worker import Job
from models.architecture import preset
from models.cost import measure_cost
from models.network import build
from search.data import TrainingData
from search.optimization import TrainConfig
from search.train import train
a = preset("post", "residual")
measure_cost(a)
images, labels = torch.zeros(16, 28, 28, 1, dtype=torch.uint8), torch.arange(16) % 10
data = TrainingData(images, labels, images, labels, torch.zeros(1), torch.ones(1), 10)
for kind in ("sgd", "adamw"):
    config = TrainConfig(epochs=1, batch_size=8, optimizer=kind, lr=0.01, seed=0)
    assert train(build(a, 0), data, config, lambda result: None).outcome == "complete"
for name in ("torch._dynamo", "sympy", "scipy", "torchvision", "plotly"):
    assert name not in sys.modules, name
"""


def test_a_worker_trains_without_torchs_compiler() -> None:
    """Its import alone takes longer than some trials; so do the others'."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINS], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
