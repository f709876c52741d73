"""How much memory of a GPU a trial takes, in closed form: no network is built, no torch is needed.

A training step keeps for its backward pass what autograd's formulas read: the input and weight of a conv or
linear layer, the input of a norm, the output of a relu, input and indices of a max pooling, the branch that a
scalar scales. Sums, identities and padding keep nothing. That is exact, and tests hold it against autograd.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from models.architecture import Architecture, Stage
from models.cost import measure_cost
from search.spec import Domain, Range, Space, StudySpec

MIB = 1 << 20
CONTEXT = 500 * MIB
"""Of every process on a GPU, outside torch's allocator: the CUDA context and the kernels that it loads."""
LIBRARIES = 192 * MIB
"""cuBLAS's workspace on two streams (32 MiB each on Hopper, less elsewhere), and 128 MiB for cuDNN's kernels:
where there is less, it takes others."""
SEGMENTS = 1.1
"""Reserved over allocated: torch takes memory in segments of 2 and 20 MiB, and large blocks leave gaps."""
WORKING = 4
"""Maps of the largest size that are alive at once and not kept: input, output and shortcut of an operation,
and the sum that they go into; forward and backward alike."""
EVAL_IMAGES = 256
"""search.data.EVAL_BATCH."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one trial, the images of the study and the process apart."""

    weights: int
    gradients: int
    optimizer: int
    kept: int
    """By autograd from forward to backward."""
    working: int
    """What comes and goes, during a step or beside its captured graph, whose memory serves nothing else."""

    @property
    def least(self) -> int:
        """Surely taken: the end of a forward pass, when the gradients of the step before are still there."""
        return self.weights + self.gradients + self.optimizer + self.kept

    @property
    def most(self) -> int:
        """What torch's allocator holds at its fullest."""
        return int(SEGMENTS * (self.least + self.working)) + LIBRARIES


def estimate(
    architecture: Architecture, batch_size: int, optimizer: str, bfloat16: bool, crop: int = 0
) -> Memory:
    """`batch_size`: no more than there are images. `bfloat16`: maps are kept in it, weights are not."""
    params = measure_cost(architecture).params
    channels, height, width = architecture.image_shape
    size = 2 if bfloat16 else 4
    kept = batch_size * sum(_kept_by_image(architecture, size)) + _per_network(architecture)
    copies = 2 * params if bfloat16 else 0  # autocast's, which convs keep
    largest = max(_largest_maps(architecture))
    padded = channels * (height + 2 * crop) * (width + 2 * crop)
    # pixels picked, normalized, padded, cut out; indices of the cut
    images = batch_size * (16 * padded + 16 * (height + width))
    evaluation = EVAL_IMAGES * (WORKING * largest * size + 12 * channels * height * width)
    # three times the weights: gradients from before the capture, which stay cached beside the graph's; the
    # probe's weights before a step, and what the step did to them
    return Memory(
        weights=4 * params,
        gradients=4 * params,
        optimizer=(8 if optimizer == "adamw" else 4) * params,
        kept=kept + copies,
        working=3 * 4 * params + batch_size * WORKING * largest * size + images + evaluation,
    )


def data_bytes(pixels: int, images: int, training: int) -> int:
    """Of a data set on the device: `pixels` bytes, a label of 8 for each image; and for each training image
    what Feed draws: its place in the order, two shifts, a flip."""
    return pixels + 8 * images + 25 * training


def most_of(spec: StudySpec, image_shape: tuple[int, int, int], classes: int, images: int) -> int:
    """An upper bound of what a trial of this study takes, bytes: no network of the space under max_params
    takes more, with single precision where a GPU lacks bfloat16."""
    space, train = spec.space, spec.train
    batch = min(train.batch_size, images)
    optimizer = "adamw" if "adamw" in space.optimizer else "sgd"
    found = []
    for block, norm, zero in itertools.product(space.block, space.norm, space.zero_branch):
        largest = _network(space, image_shape, classes, (block, norm, zero), _largest_stages(space))
        params = measure_cost(largest).params
        if space.max_params is not None and params > space.max_params:
            params = space.max_params
            largest = _network(space, image_shape, classes, (block, norm, zero), _stages_under(space, params))
        for bfloat16 in {train.precision == "bfloat16", train.precision != "float32"}:
            memory = estimate(largest, batch, optimizer, bfloat16, train.crop)
            found.append(_with_params(memory, measure_cost(largest).params, params).most)
    return max(found)


def _network(
    space: Space,
    image_shape: tuple[int, int, int],
    classes: int,
    kind: tuple[str, str, bool],
    stages: tuple[Stage, ...],
) -> Architecture:
    block, norm, zero = kind
    return Architecture(
        image_shape=image_shape, classes=classes, block=block, stages=stages, norm=norm, zero_branch=zero,
        kernel=space.kernel, padding=space.padding, stem_pool=space.stem_pool, transition=space.transition,
        head=space.head,
    )  # fmt: skip


def _largest_stages(space: Space) -> tuple[Stage, ...]:
    blocks = _largest(space.blocks)
    return _rising(space, [Stage(width=max(widths), blocks=blocks) for widths in space.widths])


def _stages_under(space: Space, cap: int) -> tuple[Stage, ...]:
    """Stages that keep at least as much as those of any network of `cap` parameters: each stage may have the
    whole cap, 18 width^2 for a block, and gets the widest maps, and blocks to make up for narrower ones."""
    stages = []
    for widths in space.widths:
        kept = max(width * _blocks_under(space, width, cap) for width in widths)
        stages.append(Stage(width=max(widths), blocks=-(-kept // max(widths))))
    return _rising(space, stages)


def _blocks_under(space: Space, width: int, cap: int) -> int:
    return max(1, min(_largest(space.blocks), cap // (18 * width * width) + 1))  # + 1: the first is narrower


def _rising(space: Space, stages: list[Stage]) -> tuple[Stage, ...]:
    """Wider where a stage may not be narrower than the one before it."""
    if space.transition != "stride":
        return tuple(stages)
    widths = itertools.accumulate((stage.width for stage in stages), max)
    return tuple(replace(stage, width=width) for stage, width in zip(stages, widths, strict=True))


def _largest(domain: Domain) -> int:
    return int(domain.high if isinstance(domain, Range) else max(domain))


def _with_params(memory: Memory, counted: int, params: int) -> Memory:
    """As if a network with maps of `counted` parameters had no more than `params`."""
    share = min(1.0, params / counted)
    return replace(
        memory,
        weights=int(share * memory.weights),
        gradients=int(share * memory.gradients),
        optimizer=int(share * memory.optimizer),
    )


def _kept_by_image(a: Architecture, size: int) -> Iterator[int]:
    """Bytes, layer by layer; `size` is that of a number."""
    convs = 2 if a.norm == "batch" else 1  # a norm keeps the conv's output, a relu its own
    scaled = a.zero_branch and (a.block == "preact" or (a.block == "residual" and a.norm == "none"))
    channels, height, width = a.image_shape
    yield channels * height * width * size
    for i, (stage, pixels, before) in enumerate(_stages(a)):
        if i == 0 or a.transition == "pool":
            yield convs * stage.width * before * size
            if i > 0 or a.stem_pool:
                yield stage.width * pixels * (size + 8)  # its output is the next conv's input; indices
        yield stage.blocks * (2 * convs + scaled) * stage.width * pixels * size
    height, width = a.map_sizes[-1]
    last = a.stages[-1].width
    if a.head == "average":
        yield last * size
    elif height * width > 1:  # maps are stored channels last: flattened, they are copied
        yield last * height * width * size
    yield 4 * a.classes


def _per_network(a: Architecture) -> int:
    """Mean and deviation of every channel's batch, which a norm keeps, and its running ones."""
    if a.norm == "none":
        return 0
    transitions = a.stages if a.transition == "pool" else a.stages[:1]
    return 16 * (sum(s.width for s in transitions) + sum(2 * s.blocks * s.width for s in a.stages))


def _largest_maps(a: Architecture) -> Iterator[int]:
    """Numbers in the largest map of each stage."""
    for i, (stage, pixels, before) in enumerate(_stages(a)):
        yield stage.width * (before if i == 0 or a.transition == "pool" else pixels)


def _stages(a: Architecture) -> Iterator[tuple[Stage, int, int]]:
    """Each with the pixels of its maps, and of the maps of the conv before it, which may be pooled."""
    lost = a.kernel - 1 if a.padding == "valid" else 0
    before = a.image_shape[1:]
    for stage, (height, width) in zip(a.stages, a.map_sizes, strict=True):
        yield stage, height * width, (before[0] - lost) * (before[1] - lost)
        before = (height, width)
