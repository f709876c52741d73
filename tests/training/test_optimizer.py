from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.network import build
from models.presets import preset
from search.spec.train_config import TrainConfig
from search.training.optimizer import Optimizer, autocast_of, uses_bfloat16
from tests.support.paths import REPOSITORY
from tests.support.training import small

CONFIG = TrainConfig(
    epochs=1, batch_size=8, optimizer="sgd", lr=0.05, seed=0, weight_decay=1e-2, momentum=0.8
)


def losses(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network(images).square().mean()  # type: ignore[no-any-return]


def torchs(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.0}, {"optimizer": "adamw"}])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_steps_are_those_of_torch_bit_for_bit(changes: dict[str, object], as_tensor: bool) -> None:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
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
def test_norms_biases_and_scalars_do_not_decay(kind: str) -> None:
    """The network has all three. A step with gradients of zero is decay alone: lr times decay of what is
    there. With other gradients all of them move."""
    network = build(small("preact", norm="batch", zero_branch=True), 0)
    assert {p.ndim for p in network.parameters()} == {0, 1, 2, 4}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(2.0)
            parameter.grad = torch.zeros_like(parameter)
    optimizer = Optimizer(network, replace(CONFIG, optimizer=kind))
    optimizer.step(0.5)
    for parameter in network.parameters():
        expected = 2 - 0.5 * 1e-2 * 2 if parameter.ndim > 1 else 2.0
        torch.testing.assert_close(parameter.detach(), torch.full(parameter.shape, expected))
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.5)
    assert all(parameter.max() < 1.9 for parameter in network.parameters())


def test_gradients_are_let_go_and_a_parameter_without_one_is_a_bug() -> None:
    network = nn.Linear(3, 2)
    optimizer = Optimizer(network, CONFIG)
    losses(network, torch.ones(1, 3)).backward()
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(AssertionError, match="every parameter takes part in the loss"):
        optimizer.step(0.1)


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
    assert optimizer.taken == 1
    step()
    assert all(torch.equal(a, b) for a, b in zip(after, network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("precision", "device", "has_it", "uses"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),
        ("float32", "cuda", True, False),
        ("bfloat16", "cpu", False, True),
    ],
)
def test_maps_are_in_bfloat16_where_it_is_asked_for_and_by_itself_on_a_gpu_that_has_it(
    precision: str, device: str, has_it: bool, uses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_it)
    assert uses_bfloat16(precision, torch.device(device)) == uses


def test_a_forward_pass_is_in_that_precision() -> None:
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast_of(replace(CONFIG, precision=precision), torch.device("cpu")):
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


TRAINS = """
import sys, torch
from models.network import build
from models.presets import preset
from search.data.batches import TrainingData
from search.spec.train_config import TrainConfig
from search.training.run import train
images, labels = torch.zeros(16, 28, 28, 1, dtype=torch.uint8), torch.arange(16) % 10
data = TrainingData(images, labels, images, labels, torch.zeros(1), torch.ones(1), 10)
def trains():
    for kind in ("sgd", "adamw"):
        config = TrainConfig(epochs=1, batch_size=8, optimizer=kind, lr=0.01, seed=0)
        network = build(preset("post", "residual"), 0)
        assert train(network, data, config, lambda result: None).outcome == "complete"
trains()
assert "optuna" not in sys.modules, "a training needs no study"
import search.workers.worker
trains()
for name in ("torch._dynamo", "sympy", "scipy", "torchvision", "plotly"):
    assert name not in sys.modules, name
"""


@pytest.mark.slow
def test_a_worker_trains_without_torchs_compiler_and_a_training_needs_no_study() -> None:
    """The compiler's import alone takes longer than some trials; so do the others'."""
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
