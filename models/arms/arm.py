"""Arms: the kinds of block that a study compares. An arm is one file in this folder, found by itself.

Whatever draws, prices, builds, trains, judges or shows networks asks the arm, and knows none by its name. The
file holds values and wiring alone: torch is not needed to read them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import models.arms
from models.norms import Norm
from models.parts import Conv

if TYPE_CHECKING:
    from torch import Tensor

    from models.architecture import Architecture
    from models.block import Block

Start = Literal["usual", "gain", "scale"]
"""Ways in which a branch begins: as its layers are initialized; or at zero, by the gain of its last norm, or
by a scalar of its own in front of the addition (SkipInit, De & Smith 2020)."""


Class = TypeVar("Class", bound="type[Arm]")


class Arm:
    """One kind of block. Of two blocks that differ in the arm alone, the shared convolutions begin alike."""

    name: str
    """The word for it in study files and databases: lower-case letters, digits and underscores."""
    label: str = ""
    """The name as a person reads it; left out: the name itself."""
    brief: str = ""
    """The label where there is little room; left out: the label."""
    noun: str = ""
    """One of its networks, as "plain stack", with a plural in s; left out: the label and "network"."""
    color: str = ""
    """The colour in figures, #RRGGBB; left out: one of PALETTE."""
    symbol: str = ""
    """The marker in figures, one of Plotly's; left out: one of MARKERS."""
    rank: int = 100
    """Place in figures and tables, small numbers first; equal ones by name."""

    def __init__(self) -> None:
        own = vars(type(self))  # a look is not inherited: two arms would have the same
        self.label = own.get("label") or self.name
        self.brief = own.get("brief") or self.label
        self.noun = own.get("noun") or f"{self.label} network"
        others = [*ARMS.values(), *_GONE.values()]
        self.color = own.get("color") or _unlike([arm.color for arm in others], PALETTE)
        self.symbol = own.get("symbol") or _unlike([arm.symbol for arm in others], MARKERS)
        self.rank = own.get("rank", 100)

    def convs(self, width_in: int, width: int, stride: int) -> tuple[Conv, ...]:
        """The convolutions of a block, in the order in which they are made: `conv1` with `norm1`, and so
        on."""
        return (
            Conv(width_in=width_in, width=width, stride=stride),
            Conv(width_in=width, width=width),
        )

    def start(self, norm: Norm, zero_branch: bool) -> Start:
        """The way in which its branches begin, with and without `zero_branch`."""
        return "usual"

    def refusal(self, architecture: Architecture) -> str:
        """The reason why there is no such network: the field, the rule and the value; empty where there is
        one."""
        return ""

    def forward(self, block: Block, stream: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """The block's wiring: (stream, active) to (stream, active), both NCHW.

        The stream is what shortcuts carry, active is what convolutions read; one tensor, unless the arm never
        normalizes or rectifies its stream.
        """
        raise TypeError(f"the arm {self.name} has no wiring")

    @property
    def depth(self) -> int:
        """Convolutions of a block on the main path."""
        return sum(not conv.gate for conv in self.convs(1, 1, 1))

    def shares_weights_with(self, other: Arm) -> bool:
        """Whether twins of the two begin with the same weights in all convolutions that both have."""
        return all(
            [conv for conv in self.convs(*shape) if not conv.own]
            == [conv for conv in other.convs(*shape) if not conv.own]
            for shape in ((8, 8, 1), (8, 16, 2))
        )


def _unlike(taken: Sequence[str], choices: Sequence[str]) -> str:
    """The choice that was taken least often, the first of several."""
    return min(choices, key=taken.count)


ARMS: dict[str, Arm] = {}
"""Every arm by its name, in the order in which they are shown."""
_GONE: dict[str, Arm] = {}
"""Arms that were looked up and are not installed."""
PALETTE = ("#7B3294", "#8C6D31", "#B2182B", "#4D4D9F", "#5E8C31", "#A6559D")
MARKERS = ("triangle-up", "cross", "star", "hexagon", "triangle-down", "x")
"""Colours and markers for arms that choose none. None is that of an arm of ours, or of a cause."""


def add(arm: Class) -> Class:
    """Puts an arm into the registry, as a class decorator. Raises ValueError for a name that is no word, or
    taken."""
    if not (arm.name.isidentifier() and arm.name.islower()):
        raise ValueError(f"an arm's name must be a word of lower-case letters, got {arm.name!r}")
    if arm.name in ARMS:
        taken = type(ARMS[arm.name])
        raise ValueError(f"an arm needs a name of its own, {arm.name!r} is that of {taken.__module__}")
    ARMS[arm.name] = arm()
    for name in sorted(ARMS, key=lambda name: (ARMS[name].rank, name)):
        ARMS[name] = ARMS.pop(name)
    return arm


def look(name: str) -> Arm:
    """An arm to be shown. One that a stored study has and this installation lacks has a look all the same."""
    if name in ARMS:
        return ARMS[name]
    if name not in _GONE:
        _GONE[name] = type("Unknown", (Arm,), {"name": name})()
    return _GONE[name]


def in_order(names: Iterable[str]) -> list[str]:
    """Names of arms, each once, as they are shown; those that are not installed come last."""
    places = {name: i for i, name in enumerate(ARMS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def _find() -> None:
    for module in pkgutil.iter_modules(models.arms.__path__):
        if module.name != "arm":
            importlib.import_module(f"models.arms.{module.name}")


_find()
