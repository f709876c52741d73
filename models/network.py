"""A network from its architecture."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture
from models.blocks import conv_layer, make_block, norm_layer


class ConvUnit(nn.Module):
    """conv, norm, relu and max pooling by 2: the stem, and the transition between stages."""

    def __init__(
        self, width_in: int, width: int, architecture: Architecture, members: int, pool: bool
    ) -> None:
        super().__init__()
        kernel, norm = architecture.kernel, architecture.norm
        padding = kernel // 2 if architecture.padding == "same" else 0
        self.conv = conv_layer(width_in, width, kernel, members, norm == "none", padding=padding)
        self.norm = norm_layer(norm, members * width)
        self.pool = pool

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.norm(self.conv(x_NCHW)))
        return F.max_pool2d(x_NCHW, 2) if self.pool else x_NCHW


class MemberLinear(nn.Module):
    """A linear layer per member, features_NMF to logits_MNK."""

    def __init__(self, members: int, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, classes, features))
        self.bias = nn.Parameter(torch.zeros(members * classes))  # of one dimension: not decayed

    def forward(self, features_NMF: Tensor) -> Tensor:
        bias_M1K = self.bias.view(len(self.weight), 1, -1)
        return torch.baddbmm(bias_M1K, features_NMF.transpose(0, 1), self.weight.transpose(1, 2))


class Network(nn.Module):
    """Maps normalized images_NCHW to logits_NK, K = classes. Weights come from torch's global generator.

    Of M > 1 members, which have their parameters and statistics side by side: images_NCHW, those of the
    members side by side in C, to logits_MNK. See models.members.
    """

    def __init__(self, architecture: Architecture, members: int = 1) -> None:
        super().__init__()
        self.members = members
        a = architecture
        width = a.stages[0].width
        self.stem = ConvUnit(a.image_shape[0], width, a, members, pool=a.stem_pool)
        self.transitions = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, stage in enumerate(a.stages):
            strided = i > 0 and a.transition == "stride"
            if i > 0 and a.transition == "pool":
                self.transitions.append(ConvUnit(width, stage.width, a, members, pool=True))
                width = stage.width
            blocks = nn.ModuleList()
            for j in range(stage.blocks):
                stride = 2 if strided and j == 0 else 1
                blocks.append(make_block(a.block, width, stage.width, stride, a.norm, a.zero_branch, members))
                width = stage.width
            self.stages.append(blocks)
        height, breadth = a.map_sizes[-1] if a.head == "flatten" else (1, 1)
        self.average = a.head == "average"
        features = width * height * breadth
        self.head = (
            nn.Linear(features, a.classes) if members == 1 else MemberLinear(members, features, a.classes)
        )
        if a.init == "he":
            self._init_he()

    def _init_he(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def features(self, images_NCHW: Tensor) -> Tensor:
        """What the classifier reads, features_NF, or features_NMF of several members."""
        stream = active = self.stem(images_NCHW)
        for i, blocks in enumerate(self.stages):
            if i > 0 and len(self.transitions):
                stream = active = self.transitions[i - 1](active)
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                stream, active = block(stream, active)
        features_NF = torch.mean(active, (2, 3)) if self.average else torch.flatten(active, 1)
        if self.members == 1:
            return features_NF
        return features_NF.view(len(features_NF), self.members, -1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.head(self.features(images_NCHW))  # type: ignore[no-any-return]


def weights_fingerprint(network: Network) -> str:
    """16 hex digits of the weights and biases of convs and classifier: those that every arm has."""
    digest = hashlib.sha256()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for parameter in module.parameters():
                digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def build(architecture: Architecture, seed: int) -> Network:
    """The network with the initial weights of `seed`, on the CPU; torch's own generator is left alone.

    Architectures that differ in `block` alone get bitwise equal weights. What only some arms have is constant
    at the start: SkipInit scalars (0), and gammas of zero-initialised branches (0 instead of 1).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(architecture)
