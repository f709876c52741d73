"""A network as a value: printed, hashed, stored, compared, and refused before anything is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from models.arms.arm import ARMS
from models.heads import HEADS
from models.inits import INITS
from models.norms import NORMS
from models.parts import Conv, Part, Size
from models.rules import Flag, KeyOf, OneOf, Rule, Whole, obey

PADDINGS = ("same", "valid")
TRANSITIONS = ("pool", "stride")
KERNELS = (1, 3, 5, 7)

LATER: dict[str, Any] = {}
"""Fields that came after the first architectures were stored, with their defaults. At these, JSON and
fingerprint leave them out, so that what was stored before stays what it is."""

MAX_SIDE, MAX_CLASSES, MAX_STAGES, MAX_WIDTH, MAX_BLOCKS = 1024, 100_000, 8, 4096, 256


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks that share one width and one map size."""

    width: int
    """Channels."""
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Stem, stages of blocks, head. Raises ValueError naming the field that breaks a rule.

    Shortcuts have no parameters, so the same architecture with another `block` of two 3x3 convolutions has
    the same weights.
    """

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    block: str
    """The arm: one of models.arms."""
    stages: tuple[Stage, ...]
    norm: str = "none"
    """One of models.norms."""
    init: str = "default"
    """One of models.inits."""
    zero_branch: bool = False
    """Whether residual branches start at zero, in the way of the arm: see models.arms.arm.Start."""
    kernel: int = 3
    """Side of the kernels of the stem and of transitions, in pixels."""
    padding: str = "same"
    """Padding of the stem and of transitions: same or valid."""
    stem_pool: bool = False
    transition: str = "stride"
    """pool: a convolution with max pooling between stages; stride: the next stage's first block halves the
    map and its shortcut is subsampled and zero-padded (He et al. 2015, option A)."""
    head: str = "average"
    """One of models.heads."""

    def __post_init__(self) -> None:
        for name, value, rule in self._rules():
            obey(name, value, rule)
        for i, stage in enumerate(self.stages):
            narrower = i > 0 and stage.width < self.stages[i - 1].width
            if narrower and self.transition == "stride":
                raise ValueError(
                    f"stages[{i}].width must be at least stages[{i - 1}].width={self.stages[i - 1].width} "
                    f"with transition=stride (its shortcuts only add channels), got {stage.width}"
                )
        if reason := ARMS[self.block].refusal(self):
            raise ValueError(reason)
        _ = self.parts

    def _rules(self) -> Iterator[tuple[str, Any, Rule]]:
        channels, height, width = self.image_shape
        yield "image_shape[0] (channels)", channels, Whole(1, 4)
        yield "image_shape[1] (height)", height, Whole(1, MAX_SIDE)
        yield "image_shape[2] (width)", width, Whole(1, MAX_SIDE)
        yield "classes", self.classes, Whole(2, MAX_CLASSES)
        yield "block", self.block, KeyOf(ARMS)
        yield "norm", self.norm, KeyOf(NORMS)
        yield "init", self.init, KeyOf(INITS)
        yield "zero_branch", self.zero_branch, Flag()
        yield "kernel", self.kernel, OneOf(*KERNELS)
        yield "padding", self.padding, OneOf(*PADDINGS)
        yield "stem_pool", self.stem_pool, Flag()
        yield "transition", self.transition, OneOf(*TRANSITIONS)
        yield "head", self.head, KeyOf(HEADS)
        yield "the number of stages", len(self.stages), Whole(1, MAX_STAGES)
        for i, stage in enumerate(self.stages):
            yield f"stages[{i}].width", stage.width, Whole(1, MAX_WIDTH)
            yield f"stages[{i}].blocks", stage.blocks, Whole(1, MAX_BLOCKS)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Everything but the classifier, in the order in which images pass it. Raises ValueError when a side
        of its maps would fall below 1 pixel."""
        return tuple(self._parts())

    def _parts(self) -> Iterator[Part]:
        arm, norm = ARMS[self.block], NORMS[self.norm]
        scalars = int(arm.start(norm, self.zero_branch) == "scale")
        width, size = self.image_shape[0], self.image_shape[1:]
        for i, stage in enumerate(self.stages):
            if i == 0 or self.transition == "pool":
                pool = self.stem_pool if i == 0 else True
                part = self._conv_part("stem" if i == 0 else "transition", i, width, stage.width, size, pool)
                width, size = stage.width, self._checked(part)
                yield part
            for j in range(stage.blocks):
                stride = 2 if i > 0 and j == 0 and self.transition == "stride" else 1
                convs = arm.convs(width, stage.width, stride)
                part = Part(kind="block", stage=i, size=size, convs=convs, scalars=scalars)
                width, size = stage.width, self._checked(part)
                yield part

    def _conv_part(self, kind: str, stage: int, width_in: int, width: int, size: Size, pool: bool) -> Part:
        conv = Conv(width_in=width_in, width=width, kernel=self.kernel, padded=self.padding == "same")
        return Part(kind=kind, stage=stage, size=size, convs=(conv,), pool=pool)

    def _checked(self, part: Part) -> Size:
        """The size of the part's maps. Raises ValueError where nothing is left of them."""
        if min(part.output) < 1:
            where = "the stem" if part.kind == "stem" else f"stage {part.stage + 1}"
            pooled = " and pooling" if part.pool else ""
            kernel = part.convs[0].kernel
            raise ValueError(
                f"{where} would shrink below 1 pixel: maps of {part.size[0]}x{part.size[1]} cannot pass a "
                f"{kernel}x{kernel} conv with {self.padding} padding{pooled} "
                f"(images of {self.image_shape[1]}x{self.image_shape[2]}); use fewer stages or larger images"
            )
        return part.output

    @property
    def features(self) -> int:
        """Numbers that the classifier reads of an image."""
        last = self.parts[-1]
        return HEADS[self.head].features(last.width, last.output)

    @property
    def depth(self) -> int:
        """Convolutions on the main path; the papers add 1 for the classifier."""
        return sum(part.depth for part in self.parts)

    @property
    def outline(self) -> str:
        """Its stages, a width and a number of blocks each."""
        return ", ".join(f"{stage.width}×{stage.blocks}" for stage in self.stages)

    def __str__(self) -> str:
        zero = ", zero branch" if self.zero_branch and self._reads_zero_branch else ""
        return f"{self.block}, {self.depth} convs [{self.outline}], norm {self.norm}, init {self.init}{zero}"

    @property
    def _reads_zero_branch(self) -> bool:
        arm, norm = ARMS[self.block], NORMS[self.norm]
        return arm.start(norm, True) != arm.start(norm, False)

    def to_json(self) -> str:
        """The architecture as JSON, for `from_json`."""
        values = {
            key: value for key, value in asdict(self).items() if key not in LATER or value != LATER[key]
        }
        return json.dumps(values, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Architecture:
        """The architecture that `to_json` wrote. Raises ValueError for anything else."""
        values: dict[str, Any] = json.loads(text)
        names = {field.name for field in fields(Architecture)}
        if not isinstance(values, dict) or not names - LATER.keys() <= set(values) <= names:
            raise ValueError(f"an architecture has the keys {', '.join(sorted(names))}, got {text[:200]}")
        try:
            values["image_shape"] = tuple(values["image_shape"])
            values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        except TypeError:
            raise ValueError(f"an architecture has an image_shape and stages, got {text[:200]}") from None
        return Architecture(**values)

    def fingerprint(self) -> str:
        """16 hex digits, equal for architectures that build the same network."""
        unused: dict[str, Any] = {}
        if not self._reads_zero_branch:
            unused["zero_branch"] = False
        if len(self.stages) == 1:
            unused["transition"] = "stride"
        used = replace(self, **unused)
        return hashlib.sha256(used.to_json().encode()).hexdigest()[:16]
