from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture, Stage
from models.network import Network, build
from models.presets import preset


def weights_hash(network: Network) -> str:
    """Over every parameter but SkipInit scalars, names included."""
    digest = hashlib.sha256()
    for name, parameter in network.named_parameters():
        if not name.endswith(".scale"):
            digest.update(name.encode() + parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def test_sampled_architectures_build_and_map_images_to_finite_logits(
    architectures: list[Architecture],
) -> None:
    for architecture in architectures:
        network = build(architecture, seed=0)
        logits_NK = network(torch.randn(3, *architecture.image_shape))
        assert logits_NK.shape == (3, architecture.classes)
        assert logits_NK.isfinite().all(), architecture


def test_arms_start_from_bitwise_the_same_weights(architectures: list[Architecture]) -> None:
    for architecture in architectures:
        arms = [dataclasses.replace(architecture, block=block, zero_branch=False) for block in BLOCKS]
        assert len({weights_hash(build(arm, seed=7)) for arm in arms}) == 1, architecture


def test_zero_branch_changes_nothing_but_gammas_and_scalars() -> None:
    for norm in ("none", "batch"):
        for block in BLOCKS:
            base = Architecture(
                image_shape=(1, 8, 8), classes=10, block=block, stages=(Stage(width=8, blocks=2),), norm=norm
            )
            plain_start = dict(build(base, seed=1).named_parameters())
            zero_start = dict(build(dataclasses.replace(base, zero_branch=True), seed=1).named_parameters())
            changed = {
                n for n, p in zero_start.items() if not torch.equal(p, plain_start.get(n, torch.ones(2)))
            }
            assert all(n.endswith((".scale", "norm2.weight")) for n in changed)
            assert all((zero_start[n] == 0).all() for n in changed)
            assert bool(changed) == (block != "plain")


def test_zero_branches_start_as_the_identity_and_can_learn() -> None:
    """At the start all residual blocks together are the identity, and the loss reaches every branch."""
    for norm in ("none", "batch"):
        for block in ("residual", "preact"):
            network = build(
                Architecture(
                    image_shape=(1, 8, 8),
                    classes=10,
                    block=block,
                    stages=(Stage(width=8, blocks=3),),
                    norm=norm,
                    zero_branch=True,
                ),
                seed=2,
            )
            stem = network.stem(torch.randn(4, 1, 8, 8))
            stream = active = stem
            for unit in network.stages[0]:  # type: ignore[union-attr]
                stream, active = unit(stream, active)
            assert torch.equal(stream, stem)
            network(torch.randn(4, 1, 8, 8)).logsumexp(1).sum().backward()
            gates = [p for n, p in network.named_parameters() if n.endswith(".scale") or "norm2.weight" in n]
            moving = [g for g in gates if g.grad is not None and g.grad.abs().max() > 0 and (g == 0).all()]
            assert len(moving) == 3


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    a, b, c = (build(preset("post"), seed=s) for s in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    assert weights_hash(a) == weights_hash(b) != weights_hash(c)


def test_initial_variance_is_the_stated_one() -> None:
    """He: 2 / fan-in. PyTorch's default: 1 / (3 fan-in), a sixth of it, which is why plain stacks vanish."""
    for init, expected in (("he", 2.0), ("default", 1 / 3)):
        architecture = dataclasses.replace(preset("resnet20", "plain"), init=init)
        conv = build(architecture, seed=0).stages[2][2].conv1  # type: ignore[index,union-attr]
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.var().item() * 64 * 9 == pytest.approx(expected, rel=0.05)


def test_the_branch_is_really_added() -> None:
    """relu(F(x) + x): the post's code computes the branch and drops it."""
    x = torch.randn(2, 16, 12, 12)
    residual, plain = (build(preset("post", block), seed=3).stages[0][0] for block in ("residual", "plain"))  # type: ignore[index,union-attr]
    branch = residual.branch(x)
    assert branch.abs().max() > 0
    torch.testing.assert_close(residual(x, x)[0], F.relu(branch + x))
    torch.testing.assert_close(plain(x, x)[0], F.relu(branch))


def test_preact_stream_is_an_exact_sum() -> None:
    """x_L = x_0 + sum of all branches (He et al. 2016, eq. 4): nothing rectifies the stream."""
    network = build(
        dataclasses.replace(preset("resnet20", "preact"), stages=(Stage(width=8, blocks=3),)), seed=0
    )
    stream = active = network.stem(torch.randn(2, 3, 32, 32))
    total = stream
    for unit in network.stages[0]:  # type: ignore[union-attr]
        total = total + unit.branch(active)
        stream, active = unit(stream, active)
    torch.testing.assert_close(stream, total)
    assert stream.min() < 0


@pytest.mark.parametrize(
    ("size", "features"), [((28, 28), 32 * 4 * 4), ((32, 28), 32 * 5 * 4), ((40, 40), 32 * 7 * 7)]
)
def test_flatten_sizes_are_computed(size: tuple[int, int], features: int) -> None:
    network = build(dataclasses.replace(preset("post"), image_shape=(1, *size)), seed=0)
    assert network.head.in_features == features
    assert network(torch.zeros(1, 1, *size)).shape == (1, 10)


def test_state_loads_back() -> None:
    a, b = build(preset("resnet20"), seed=0), build(preset("resnet20"), seed=1)
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(a.eval()(x), b.eval()(x))


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
