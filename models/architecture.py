"""What a network is, as a value: printed, hashed, stored, compared, and refused before anything is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

BLOCKS = ("plain", "residual", "preact")
NORMS = ("none", "batch")
INITS = ("default", "he")
PADDINGS = ("same", "valid")
TRANSITIONS = ("pool", "stride")
HEADS = ("average", "flatten")

MAX_SIDE, MAX_CLASSES, MAX_STAGES, MAX_WIDTH, MAX_BLOCKS = 1024, 100_000, 8, 4096, 256


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks of two 3x3 convs that share one width and one map size."""

    width: int
    """Channels."""
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Stem, stages of blocks, head. Raises ValueError naming the field that breaks a rule.

    Shortcuts have no parameters, so the same architecture with another `block` has the same weights.
    """

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    block: str
    """plain; residual: relu(F(x) + x); preact: F(relu(x)) + x (He et al. 2016)."""
    stages: tuple[Stage, ...]
    norm: str = "none"
    init: str = "default"
    """default: PyTorch's; he: normal with variance 2 / fan-in, biases zero (He et al. 2015)."""
    zero_branch: bool = False
    """Residual branches start at zero: last gamma, or a SkipInit scalar where no norm ends the branch."""
    kernel: int = 3
    """Of the stem and of transition convs, in pixels."""
    padding: str = "same"
    """Of the stem and of transition convs."""
    stem_pool: bool = False
    transition: str = "stride"
    """pool: a conv with max pooling between stages; stride: the next stage's first block halves the map
    and its shortcut is subsampled and zero-padded (He et al. 2015, option A)."""
    head: str = "average"

    def __post_init__(self) -> None:
        channels, height, width = self.image_shape
        _within("image_shape[0] (channels)", channels, 1, 4)
        _within("image_shape[1] (height)", height, 1, MAX_SIDE)
        _within("image_shape[2] (width)", width, 1, MAX_SIDE)
        _within("classes", self.classes, 2, MAX_CLASSES)
        _one_of("block", self.block, BLOCKS)
        _one_of("norm", self.norm, NORMS)
        _one_of("init", self.init, INITS)
        _one_of("zero_branch", self.zero_branch, (False, True))
        _one_of("kernel", self.kernel, (1, 3, 5, 7))
        _one_of("padding", self.padding, PADDINGS)
        _one_of("stem_pool", self.stem_pool, (False, True))
        _one_of("transition", self.transition, TRANSITIONS)
        _one_of("head", self.head, HEADS)
        _within("the number of stages", len(self.stages), 1, MAX_STAGES)
        for i, stage in enumerate(self.stages):
            _within(f"stages[{i}].width", stage.width, 1, MAX_WIDTH)
            _within(f"stages[{i}].blocks", stage.blocks, 1, MAX_BLOCKS)
            narrower = i > 0 and stage.width < self.stages[i - 1].width
            if narrower and self.transition == "stride":
                raise ValueError(
                    f"stages[{i}].width must be at least stages[{i - 1}].width={self.stages[i - 1].width} "
                    f"with transition=stride (its shortcuts only add channels), got {stage.width}"
                )
        _ = self.map_sizes

    @property
    def map_sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each stage's maps. Raises ValueError when a side would fall below 1 pixel."""
        size = self._shrink(self.image_shape[1:], pool=self.stem_pool, where="the stem")
        sizes = [size]
        for i in range(1, len(self.stages)):
            if self.transition == "stride":
                size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
            else:
                size = self._shrink(size, pool=True, where=f"stage {i + 1}")
            sizes.append(size)
        return tuple(sizes)

    def _shrink(self, size: tuple[int, int], pool: bool, where: str) -> tuple[int, int]:
        lost = self.kernel - 1 if self.padding == "valid" else 0
        height, width = ((side - lost) // (2 if pool else 1) for side in size)
        if min(height, width) < 1:
            pooled = " and pooling" if pool else ""
            raise ValueError(
                f"{where} would shrink below 1 pixel: maps of {size[0]}x{size[1]} cannot pass a "
                f"{self.kernel}x{self.kernel} conv with {self.padding} padding{pooled} "
                f"(images of {self.image_shape[1]}x{self.image_shape[2]}); use fewer stages or larger images"
            )
        return height, width

    @property
    def blocks(self) -> int:
        return sum(stage.blocks for stage in self.stages)

    @property
    def depth(self) -> int:
        """Conv layers on the main path; the papers add 1 for the classifier."""
        transitions = len(self.stages) - 1 if self.transition == "pool" else 0
        return 1 + transitions + 2 * self.blocks

    def __str__(self) -> str:
        stages = ", ".join(f"{stage.width}×{stage.blocks}" for stage in self.stages)
        zero = ", zero branch" if self.zero_branch and self.block != "plain" else ""
        return f"{self.block}, {self.depth} convs [{stages}], norm {self.norm}, init {self.init}{zero}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Architecture:
        """The architecture that `to_json` wrote. Raises ValueError for anything else."""
        values: dict[str, Any] = json.loads(text)
        names = {field.name for field in fields(Architecture)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"an architecture has the keys {', '.join(sorted(names))}, got {text[:200]}")
        values["image_shape"] = tuple(values["image_shape"])
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        return Architecture(**values)

    def fingerprint(self) -> str:
        """16 hex digits, equal for architectures that build the same network."""
        unused: dict[str, Any] = {}
        if self.block == "plain":
            unused["zero_branch"] = False
        if len(self.stages) == 1:
            unused["transition"] = "stride"
        used = replace(self, **unused)
        return hashlib.sha256(used.to_json().encode()).hexdigest()[:16]


def _within(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if not any(value == choice and type(value) is type(choice) for choice in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


_RESNET_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
PRESETS = ("post", *_RESNET_BLOCKS)


def preset(name: str, block: str = "residual") -> Architecture:
    """A known network: `post` (41,514 parameters, 28x28x1) or a CIFAR-10 ResNet of He et al. 2015."""
    _one_of("preset", name, PRESETS)
    if name == "post":
        return Architecture(
            image_shape=(1, 28, 28),
            classes=10,
            block=block,
            stages=(Stage(width=16, blocks=1), Stage(width=32, blocks=1)),
            kernel=5,
            padding="valid",
            stem_pool=True,
            transition="pool",
            head="flatten",
        )
    return Architecture(
        image_shape=(3, 32, 32),
        classes=10,
        block=block,
        stages=tuple(Stage(width=width, blocks=_RESNET_BLOCKS[name]) for width in (16, 32, 64)),
        norm="batch",
        init="he",
    )
