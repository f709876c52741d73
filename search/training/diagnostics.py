"""Measures of why a network learns or does not: gradients by layer, features by image. Torch only.

Everything is read from what training computes anyway: gradients where a step left them, activations while a
batch passes. It changes no number of the training, and is never part of a trial's value.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.block import Block
from models.network import Network
from search.training import kernels

VANISHED, EXPLODED = -3.0, 2.0
"""Decades by which the gradient of the first conv is below or above that of the last."""
COLLAPSED = 0.95
"""Mean cosine between the features of different images."""
IMPAIRED = 0.5
"""Share of the way from chance to 1 that the training accuracy of a fine network has gone."""
TINIEST = 1e-30
"""A stand-in for a gradient that underflowed, so that it has a logarithm too."""
WATCHED_IMAGES = 64
"""Images of a batch that are looked at."""


@dataclass(frozen=True)
class Measures:
    """What one step and one batch show of a network."""

    grad_ratio: float
    """log10 of the gradient norm of the first over that of the last block conv of the same shape."""
    grad_slope: float
    """Decades per conv by which the gradient norm grows from first to last; fitted, one offset per shape."""
    update_ratio: float
    """Median over convs: norm of an optimizer step over norm of the weights."""
    feature_cosine: float
    """Mean over pairs of images, of what the classifier reads. 1: all images look alike."""
    stable_rank: float
    """Squared Frobenius over squared spectral norm of the centred features."""
    output_std: float
    """Standard deviation of the last block's output."""
    block_growth: float
    """log10 of the standard deviation of the last over that of the first block's output."""
    dead_share: float
    """Share of the channels of block outputs that no image activates."""
    conv_gradients: tuple[float, ...] = ()
    """log10 of the gradient norm of every block conv, the first one first; empty in checkpoints of early
    versions."""


class Probe:
    """An onlooker at the training of a network."""

    def __init__(self, network: Network) -> None:
        self.blocks: list[Block] = network.blocks
        self.convs = [conv for block in self.blocks for conv in block.convs]
        self.shapes = [tuple(conv.weight.shape) for conv in self.convs]
        self.weights = [conv.weight.detach() for conv in self.convs]
        self.before: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.features = torch.empty(0)

    def is_silent(self) -> bool:
        """Whether branches start at zero: their convs get no gradient at the first step, and are not ill."""
        return any(block.start != "usual" for block in self.blocks)

    def before_step(self) -> None:
        """Remembers the weights, so that the step that follows can be measured."""
        self.before = [weight.clone() for weight in self.weights]

    def measure(self) -> Measures:
        """What the last step since `before_step` and the last batch watched show."""
        norms = kernels.norms([_present(conv.weight.grad) for conv in self.convs])
        steps = kernels.norms(kernels.differences(self.weights, self.before))
        sizes = kernels.norms(self.before)
        first, last = (float(self.outputs[i].float().std(correction=0)) for i in (0, -1))
        self.outputs, outputs = [], self.outputs
        return Measures(
            grad_ratio=grad_ratio(norms, self.shapes),
            grad_slope=grad_slope(norms, self.shapes),
            update_ratio=statistics.median(a / max(b, TINIEST) for a, b in zip(steps, sizes, strict=True)),
            feature_cosine=feature_cosine(self.features),
            stable_rank=stable_rank(self.features),
            output_std=last,
            block_growth=_log(last) - _log(first),
            dead_share=dead_share(outputs),
            conv_gradients=tuple(map(_log, norms)),
        )


@contextmanager
def watching(network: nn.Module, probe: Probe | None) -> Iterator[None]:
    """Keeps the features and block outputs of the batch that passes, for the probe if there is one."""
    if probe is None:
        yield
        return
    assert isinstance(network, Network)
    probe.outputs = []

    def keep_output(_module: nn.Module, _inputs: object, out: tuple[Tensor, Tensor]) -> None:
        probe.outputs.append(out[1].detach()[:WATCHED_IMAGES])

    def keep_features(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        probe.features = inputs[0].detach()[:WATCHED_IMAGES].float()

    hooks = [block.register_forward_hook(keep_output) for block in network.blocks]
    hooks.append(network.head.register_forward_pre_hook(keep_features))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _present(grad: Tensor | None) -> Tensor:
    assert grad is not None, "measured after a step"
    return grad


def _log(value: float) -> float:
    return math.log10(max(value, TINIEST)) if math.isfinite(value) else math.log10(1 / TINIEST)


def _by_shape(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        groups[shape].append(i)
    return list(groups.values())


def grad_ratio(norms: Sequence[float], shapes: Sequence[tuple[int, ...]]) -> float:
    """Measures.grad_ratio, of the two convs of equal shape that lie furthest apart: the norm depends on the
    fan."""
    widest = max(_by_shape(shapes), key=lambda group: group[-1] - group[0])
    return _log(norms[widest[0]]) - _log(norms[widest[-1]])


def grad_slope(norms: Sequence[float], shapes: Sequence[tuple[int, ...]]) -> float:
    """Measures.grad_slope: least squares of log10 norm on the conv's index with an offset for each shape; 0
    where undetermined."""
    along = across = 0.0
    for group in _by_shape(shapes):
        logs = [_log(norms[i]) for i in group]
        mean_index, mean_log = statistics.fmean(group), statistics.fmean(logs)
        along += sum((i - mean_index) * (log - mean_log) for i, log in zip(group, logs, strict=True))
        across += sum((i - mean_index) ** 2 for i in group)
    return along / across if across else 0.0


def feature_cosine(features_NF: Tensor) -> float:
    """Measures.feature_cosine. An image without features looks like any other: its cosines are 1, and so is
    every cosine where features are not finite."""
    count = len(features_NF)
    if count < 2 or not features_NF.isfinite().all():
        return 1.0
    # squares of float32 neither overflow nor underflow in double precision: no length is too small
    unit_NF = torch.nn.functional.normalize(features_NF.double(), dim=1, eps=1e-60)
    awake = int((unit_NF != 0).any(1).sum())
    pairs, awake_pairs = count * (count - 1), awake * (awake - 1)
    total = float(unit_NF.sum(0).square().sum()) - awake
    return (total + pairs - awake_pairs) / pairs


def stable_rank(features_NF: Tensor) -> float:
    """Measures.stable_rank; 0 where features are not finite, or the same for all images."""
    centred_NF = features_NF.double() - features_NF.double().mean(0)
    scale = centred_NF.abs().max()
    if not scale.isfinite() or scale == 0:
        return 0.0
    centred_NF /= scale  # the rank has no scale, and squares of large features overflow
    spectrum = torch.linalg.eigvalsh(centred_NF @ centred_NF.T)
    return float(spectrum.sum() / spectrum[-1])


def dead_share(outputs: Sequence[Tensor]) -> float:
    """Measures.dead_share, of the output NCHW of every block."""
    dead = sum(int((out.amax((0, 2, 3)) <= 0).sum()) for out in outputs)
    return dead / sum(out.shape[1] for out in outputs)


def cause_of(outcome: str, train_accuracy: float, chance: float, start: Measures | None, convs: int) -> str:
    """One word for why a run ended as it did: fine, vanished, exploded, collapsed, slow or diverged.

    `start`: measured before the network had learned; `convs`: block convs, over which the slope of the
    gradient is extended, since no two convs of equal shape need span the whole network.
    """
    if outcome == "diverged":
        return "diverged"
    if train_accuracy >= chance + IMPAIRED * (1 - chance):
        return "fine"
    if start is None:
        return "slow"
    decades = -start.grad_slope * (convs - 1)
    if min(decades, start.grad_ratio) < VANISHED:
        return "vanished"
    if max(decades, start.grad_ratio) > EXPLODED:
        return "exploded"
    return "collapsed" if start.feature_cosine > COLLAPSED else "slow"
