from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch
from torch import nn

from models.architecture import Architecture, Stage
from models.network import ConvUnit, Network, build, weights_fingerprint
from models.norms import NORMS
from models.parts import Conv, Part
from models.presets import preset
from tests.support.arms import OURS


def weights_hash(network: Network) -> str:
    """A hash of every parameter but SkipInit scalars, names included."""
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


def test_our_arms_start_from_bitwise_the_same_weights(architectures: list[Architecture]) -> None:
    for architecture in architectures:
        arms = [dataclasses.replace(architecture, block=block, zero_branch=False) for block in OURS]
        assert len({weights_hash(build(arm, seed=7)) for arm in arms}) == 1, architecture


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("post", [-0.198295, 0.056874, 0.014713, 0.026843]),
        ("resnet20", [0.109406, -0.064220, 0.146881, 0.122184]),
    ],
)
def test_initial_weights_are_the_recorded_ones(name: str, first: list[float]) -> None:
    """A search that is continued by a later version trains the networks that it would have trained. Up to
    the rounding of the processor's logarithms."""
    weights = build(preset(name), seed=3).state_dict()
    layers = ("stem.conv", "stages.0.0.conv2", "stages.1.0.conv1", "head")
    found = [weights[f"{layer}.weight"].flatten()[0].item() for layer in layers]
    assert found == pytest.approx(first, abs=2e-6)


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    a, b, c = (build(preset("post"), seed=s) for s in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    assert weights_hash(a) == weights_hash(b) != weights_hash(c)


def test_the_weights_fingerprint_is_of_every_shared_weight_and_of_nothing_else() -> None:
    """Stem, transitions, blocks and classifier count; norms and scalars may differ between twins."""
    architecture = dataclasses.replace(preset("resnet20"), transition="pool", zero_branch=True)
    network = build(architecture, seed=0)
    before = weights_fingerprint(network)
    assert len(before) == 16
    shared = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(list(network.shared_weights())) == len(shared) + 1, "the classifier has a bias"
    for module in shared:
        kept = module.weight.detach().clone()
        with torch.no_grad():
            module.weight += 1
            assert weights_fingerprint(network) != before
            module.weight.copy_(kept)
        assert weights_fingerprint(network) == before
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, 3)
    assert weights_fingerprint(network) == before


def test_stem_and_transition_are_conv_norm_relu_and_pooling() -> None:
    conv = Conv(width_in=2, width=3, kernel=5, padded=False)
    part = Part(kind="stem", stage=0, size=(9, 11), convs=(conv,))
    torch.manual_seed(0)
    unit = ConvUnit(part, NORMS["batch"])
    x_NCHW = torch.randn(2, 2, 9, 11)
    expected = unit.norm(unit.conv(x_NCHW)).relu()
    torch.testing.assert_close(unit(x_NCHW), expected)
    assert expected.shape == (2, 3, 5, 7)
    pooled = ConvUnit(dataclasses.replace(part, pool=True), NORMS["batch"])
    pooled.load_state_dict(unit.state_dict())
    torch.testing.assert_close(pooled(x_NCHW), nn.functional.max_pool2d(expected, 2))


def test_units_pass_stem_stages_and_the_transitions_between_them_in_order() -> None:
    stages = (Stage(width=4, blocks=2), Stage(width=6, blocks=1), Stage(width=3, blocks=1))
    network = build(
        Architecture(
            image_shape=(1, 16, 16), classes=3, block="preact", stages=stages, norm="batch", transition="pool"
        ),
        seed=1,
    ).eval()
    x_NCHW = torch.randn(2, 1, 16, 16)
    stream = active = network.stem(x_NCHW)
    for i, blocks in enumerate(network.stages):
        if i:
            stream = active = network.transitions[i - 1](active)
        for block in blocks:  # type: ignore[attr-defined]
            stream, active = block(stream, active)
    torch.testing.assert_close(network.features(x_NCHW), active.mean((2, 3)))
    torch.testing.assert_close(network(x_NCHW), network.head(active.mean((2, 3))))
    assert [block.part.stage for block in network.blocks] == [0, 0, 1, 2]


def test_state_loads_back() -> None:
    a, b = build(preset("resnet20"), seed=0), build(preset("resnet20"), seed=1)
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(a.eval()(x), b.eval()(x))
