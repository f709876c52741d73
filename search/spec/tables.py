"""The tables of a study file but for [data], as values. Each key stands here once, with its rule, its default
and its meaning; what draws, changes and explains keys reads them from these fields.

Defaults are values written down: what else a registry holds must not change a study that was made before.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.architecture import KERNELS, MAX_WIDTH, PADDINGS, TRANSITIONS
from models.arms.arm import ARMS
from models.heads import HEADS
from models.inits import INITS
from models.norms import NORMS
from models.rules import Flag, KeyOf, Number, OneOf, Whole, optional
from search.keys import key
from search.spec.domains import Choices, Domain, NumberOrSteps, PerStage, Range, RangeOrChoices

OPTIMIZERS = ("sgd", "adamw")
SAMPLERS = ("tpe", "random", "gp")
DEFAULT_BASELINE = "plain"
DESIGNS = ("stratified", "matched", "free")
LEAD = "lead"
"""The pruner of stratified designs: the lead decides for its group."""
PRUNERS = (LEAD, "hyperband", "halving", "median", "none")
MOST_STRATA = 12
_RATE, _BLOCKS, _WIDTH = Number(1e-8, 100), Whole(1, 128), Whole(1, MAX_WIDTH)


@dataclass(frozen=True, kw_only=True)
class Space:
    """[space]: what a trial is drawn from, in the order in which it is drawn, and what all trials share."""

    block: tuple[str, ...] = key(
        Choices(KeyOf(ARMS)),
        "The arms, in the order in which they take turns as lead.",
        ("plain", "residual", "preact"),
        each=KeyOf(ARMS),
    )
    blocks: Domain = key(RangeOrChoices(_BLOCKS), "Blocks of a stage.", each=_BLOCKS, stages="blocks")
    widths: tuple[tuple[int, ...], ...] = key(
        PerStage(_WIDTH), "Channels of each stage.", each=_WIDTH, stages="width"
    )
    norm: tuple[str, ...] = key(
        Choices(KeyOf(NORMS)), "What follows a convolution.", ("none", "batch"), each=KeyOf(NORMS)
    )
    init: tuple[str, ...] = key(
        Choices(KeyOf(INITS)), "How weights begin.", ("default", "he"), each=KeyOf(INITS)
    )
    zero_branch: tuple[bool, ...] = key(
        Choices(Flag()),
        "Whether residual branches start at zero, by their last norm's gain or a scalar (SkipInit); of no "
        "meaning to arms without a shortcut.",
        (False, True),
        each=Flag(),
    )
    optimizer: tuple[str, ...] = key(
        Choices(OneOf(*OPTIMIZERS)), "SGD with momentum, or AdamW.", OPTIMIZERS, each=OneOf(*OPTIMIZERS)
    )
    lr_sgd: Domain = key(
        RangeOrChoices(_RATE),
        "Peak learning rate of SGD.",
        Range(low=1e-3, high=0.3, log=True),
        each=_RATE,
        log=True,
        optimizer="sgd",
    )
    lr_adamw: Domain = key(
        RangeOrChoices(_RATE),
        "Peak learning rate of AdamW.",
        Range(low=1e-4, high=1e-2, log=True),
        each=_RATE,
        log=True,
        optimizer="adamw",
    )
    weight_decay: Domain = key(
        RangeOrChoices(Number(0, 10)),
        "Weight decay of all but norms, biases and scalars.",
        Range(low=1e-6, high=1e-3, log=True),
        each=Number(0, 10),
    )
    warmup: Domain = key(
        RangeOrChoices(Number(0, 0.9)),
        "Share of all steps in which the learning rate rises to its peak.",
        (0.0, 0.05, 0.1),
        each=Number(0, 0.9),
    )
    max_params: int | None = key(
        optional(Whole(1, 10**10)), "Larger networks are refused before they are built.", None
    )
    kernel: int = key(OneOf(*KERNELS), "Side of the kernels of stem and transitions, in pixels.", 3)
    padding: str = key(OneOf(*PADDINGS), "Padding of stem and transitions.", "same")
    stem_pool: bool = key(Flag(), "Whether max pooling by 2 follows the stem.", False)
    transition: str = key(
        OneOf(*TRANSITIONS),
        "Between stages, pool: a convolution with max pooling; stride: the next block halves the map, its "
        "shortcut subsampled and zero-padded.",
        "pool",
    )
    head: str = key(KeyOf(HEADS), "What the classifier reads: channel means, or every number.", "average")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """[train]: how every network of a study is trained."""

    epochs: int = key(Whole(1, 100_000), "Epochs of a trial that runs to its end.", 15)
    batch_size: int = key(Whole(1, 65_536), "Images of a step.", 64)
    precision: str = key(
        OneOf("auto", "float32", "bfloat16"),
        "auto: bfloat16 autocast on a GPU that has it, else float32.",
        "auto",
    )
    momentum: float = key(Number(0, 0.9999), "Momentum of SGD.", 0.9)
    clip: float | None = key(
        optional(Number(1e-6, 1e6)), "Largest norm of the gradient; left out: no clipping.", None
    )
    label_smoothing: float = key(Number(0, 0.9), "Share of a label that is spread over all classes.", 0.0)
    crop: int = key(Whole(0, 64), "Random crops after padding with so many pixels; 0: none.", 0)
    flip: bool = key(Flag(), "Whether images are mirrored at random.", False)
    schedule: str = key(
        OneOf("cosine", "step"),
        "The learning rate after warm-up. cosine: to 0; step: a tenth after half of all steps, a hundredth "
        "after three quarters, as He et al. 2015 trained CIFAR-10.",
        "cosine",
        added=True,
    )


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """[search]: how trials are drawn, stopped and compared."""

    design: str = key(
        OneOf(*DESIGNS),
        "stratified: every draw is trained as each arm, and draws take turns over strata of depth; matched: "
        "the same at whatever depth the sampler likes; free: Optuna alone decides, the block included.",
        "stratified",
    )
    sampler: str = key(OneOf(*SAMPLERS), "What draws: Optuna's TPE, at random, or Gaussian processes.", "tpe")
    pruner: str = key(
        OneOf(*PRUNERS),
        "What stops hopeless trials. lead, the default of stratified designs: after a fifth of its epochs a "
        "lead goes on with its whole group, or stops alone; hyperband, the default of the others, halving "
        "and median: each trial for itself.",
        LEAD,
    )
    seed: int = key(Whole(0, 2**31 - 1), "Seed of draws, weights, batches and augmentation.", 0)
    baseline: str = key(
        KeyOf(ARMS), "The arm that the others are held against.", DEFAULT_BASELINE, added=True
    )
    strata: int | tuple[int, ...] = key(
        NumberOrSteps(Whole(1, MOST_STRATA), Whole(1, 2000)),
        "Strata of depth of a stratified design: how many, as wide as each other by the logarithm of depth; "
        "or the least depth of each, in convs.",
        4,
        added=True,
    )


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings:
    """[confirm]: how a search is confirmed. No part of the search: it may change in between."""

    depths: tuple[int, ...] | None = key(
        optional(Choices(Whole(1, 2000))),
        "Depths in convolutions; the nearest that the space has. Left out: the middle of each stratum, or of "
        "other designs 8, 14, 20, 32 and 44.",
        None,
    )
    seeds: int = key(Whole(1, 1000), "Fresh seeds of every recipe.", 10)
    margin: float = key(Number(0, 100), "Percentage points of test accuracy that count as a difference.", 1.0)
