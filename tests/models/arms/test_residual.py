from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import Network, build
from models.presets import preset


def test_the_branch_is_really_added() -> None:
    """relu(F(x) + x): the post's code computes the branch and drops it."""
    x = torch.randn(2, 16, 12, 12)
    block = build(preset("post"), seed=3).blocks[0]
    branch = block.branch(x)
    assert branch.abs().max() > 0
    torch.testing.assert_close(block(x, x)[0], F.relu(branch + x))


def test_the_norm_stands_before_the_addition_and_the_relu_behind_it() -> None:
    block = build(preset("resnet20"), seed=3).blocks[0]
    torch.nn.init.constant_(block.last_norm.bias, 0.5)  # type: ignore[arg-type]
    stream, active = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)
    after, read = block(stream, active)
    assert after is read
    torch.testing.assert_close(after, F.relu(stream + block.last_norm(block.branch(active))))


class ReferenceResNet(nn.Module):
    """He et al. 2015, section 4.2, written from the paper with its layers in order of use."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        width_in = 3
        for width, count, stride in ((16, 1 + 2 * n, 1), (32, 2 * n, 2), (64, 2 * n, 2)):
            for i in range(count):
                conv = nn.Conv2d(width_in, width, 3, stride if i == 0 else 1, 1, bias=False)
                self.layers += [conv, nn.BatchNorm2d(width)]
                width_in = width
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        layers = iter(self.layers)
        x = next(layers)(x)
        x = next(layers)(x).relu()
        for conv in layers:
            y = next(layers)(conv(x)).relu()
            second, norm = next(layers), next(layers)
            y = norm(second(y))
            if y.shape != x.shape:
                x = x[:, :, ::2, ::2]
                side = torch.zeros_like(x[:, : x.shape[1] // 2])
                x = torch.cat([side, x, side], dim=1)
            x = (y + x).relu()
        return self.linear(F.avg_pool2d(x, x.shape[-1]).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "n"), [("resnet20", 3), ("resnet56", 9)])
def test_published_weights_load_parameter_by_parameter(name: str, n: int) -> None:
    """Same order, shapes and numerics as the paper's network: weights move over by position."""
    torch.manual_seed(0)
    reference = ReferenceResNet(n)
    x = torch.randn(4, 3, 32, 32)
    reference(x)  # moves the running statistics off their start
    ours = Network(preset(name))
    theirs = list(reference.state_dict().values())
    names = list(ours.state_dict())
    assert len(names) == len(theirs)
    ours.load_state_dict(dict(zip(names, theirs, strict=True)))
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))
