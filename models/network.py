"""A network from its architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture
from models.arms.arm import ARMS
from models.block import Block, conv_layer, weights_source
from models.heads import HEADS
from models.inits import INITS
from models.norms import NORMS, Norm
from models.parts import Part


class ConvUnit(nn.Module):
    """conv, norm, relu and max pooling by 2: the stem, and the transition between stages."""

    def __init__(self, part: Part, norm: Norm) -> None:
        super().__init__()
        [conv] = part.convs
        self.conv = conv_layer(conv, norm)
        self.norm = norm.layer(conv.width)
        self.pool = part.pool

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.norm(self.conv(x_NCHW)))
        return F.max_pool2d(x_NCHW, 2) if self.pool else x_NCHW


class Network(nn.Module):
    """Maps normalized images_NCHW to logits_NK. Initial weights come from torch's global generator."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        arm, norm = ARMS[a.block], NORMS[a.norm]
        stem, *further = a.parts
        self.stem = ConvUnit(stem, norm)
        self.transitions = nn.ModuleList()
        self.stages = nn.ModuleList(nn.ModuleList() for _ in a.stages)
        for place, part in enumerate(further, start=1):
            if part.kind == "transition":
                self.transitions.append(ConvUnit(part, norm))
            else:
                self.stages[part.stage].append(Block(arm, part, norm, a.zero_branch, place))  # type: ignore[operator]
        self.head = nn.Linear(a.features, a.classes)
        self._initialize()

    @property
    def blocks(self) -> list[Block]:
        """Every block, in the order in which images pass them."""
        return [block for blocks in self.stages for block in blocks]  # type: ignore[attr-defined]

    def _initialize(self) -> None:
        """The architecture's init, over all convolutions in the order in which they were made."""
        init = INITS[self.architecture.init]
        for unit in self._units():
            if isinstance(unit, ConvUnit):
                init(unit.conv)
                continue
            for i, conv in enumerate(unit.part.convs, start=1):
                with weights_source(conv, -unit.number(i)):
                    init(unit.layer(f"conv{i}"))  # type: ignore[arg-type]

    def _units(self) -> Iterator[ConvUnit | Block]:
        """Stem, transitions, blocks: the order of their parameters."""
        yield self.stem
        for transition in self.transitions:
            assert isinstance(transition, ConvUnit)
            yield transition
        yield from self.blocks

    def shared_weights(self) -> Iterator[Tensor]:
        """Weights and biases of classifier and convolutions that twins have as well."""
        for unit in self._units():
            if isinstance(unit, ConvUnit):
                yield from unit.conv.parameters()
                continue
            for i, conv in enumerate(unit.part.convs, start=1):
                if not conv.own:
                    yield from unit.layer(f"conv{i}").parameters()
        yield from self.head.parameters()

    def features(self, images_NCHW: Tensor) -> Tensor:
        """The features_NF that the classifier reads."""
        stream = active = self.stem(images_NCHW)
        for i, blocks in enumerate(self.stages):
            if i > 0 and len(self.transitions):
                stream = active = self.transitions[i - 1](active)
            for block in blocks:  # type: ignore[attr-defined]
                stream, active = block(stream, active)
        return HEADS[self.architecture.head].pool(active)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.head(self.features(images_NCHW))  # type: ignore[no-any-return]


def weights_fingerprint(network: Network) -> str:
    """16 hex digits of the weights and biases of convolutions and classifier: those that twins have as
    well."""
    digest = hashlib.sha256()
    for parameter in network.shared_weights():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def build(architecture: Architecture, seed: int) -> Network:
    """The network with the initial weights of `seed`, on the CPU; torch's own generator is left alone.

    Architectures that differ in `block` alone get bitwise equal weights where both have them, if one arm
    `shares_weights_with` the other. What only some arms have is constant at the start, as SkipInit scalars
    (0) and gains of branches that start at zero (0 instead of 1), or drawn apart.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(architecture)
