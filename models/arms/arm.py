"""Arms: the kinds of block that a study compares. An arm is one file in this folder, found by itself.

Whatever draws, prices, builds, trains, judges or shows networks asks the arm, and knows none by its name. The
file holds values and wiring alone: torch is not needed to read them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import models.arms
from models.norms import Norm
from models.parts import Conv

if TYPE_CHECKING:
    from torch import Tensor

    from models.architecture import Architecture
    from models.block import Block

Start = Literal["usual", "gain", "scale"]
"""How a branch begins: as its layers are initialized; or at zero, by the gain of its last norm, or by a
scalar of its own in front of the addition (SkipInit, De & Smith 2020)."""


class Arm:
    """One kind of block. Of two blocks that differ in the arm alone, the shared convolutions begin alike."""

    name: ClassVar[str]
    """As study files and databases have it: a word of lower-case letters, digits and underscores."""
    label: ClassVar[str] = ""
    """As a person reads it; left out: the name."""
    brief: ClassVar[str] = ""
    """The label where there is little room; left out: the label."""
    noun: ClassVar[str] = ""
    """One of its networks, as "plain stack"; left out: the label and "network"."""
    color: ClassVar[str] = ""
    """In figures, #RRGGBB; left out: the next of a palette."""
    symbol: ClassVar[str] = ""
    """In figures, one of Plotly's markers; left out: the next of a list."""
    rank: ClassVar[int] = 100
    """Place in figures and tables, small numbers first; equal ones by name."""

    def convs(self, width_in: int, width: int, stride: int) -> tuple[Conv, ...]:
        """The convolutions of a block, in the order in which they are made: `conv1` with `norm1`, and so
        on."""
        return (
            Conv(width_in=width_in, width=width, stride=stride),
            Conv(width_in=width, width=width),
        )

    def start(self, norm: Norm, zero_branch: bool) -> Start:
        """What `zero_branch` means to it."""
        return "usual"

    def refusal(self, architecture: Architecture) -> str:
        """Why there is no such network: the field, the rule and the value; empty where there is one."""
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


class _Unknown(Arm):
    """An arm that a stored study has and this installation lacks: it is shown, not built."""


ARMS: dict[str, Arm] = {}
"""Every arm by its name, in the order in which they are shown."""

PALETTE = ("#7B3294", "#8C6D31", "#B2182B", "#4D4D9F", "#5E8C31", "#A6559D")
MARKERS = ("triangle-up", "cross", "star", "hexagon", "triangle-down", "x")
"""For arms that choose no colour and no symbol. Neither is another arm's, nor a cause's."""


Class = TypeVar("Class", bound=type[Arm])


def add(arm: Class) -> Class:
    """Puts an arm into the registry; a class decorator. Raises ValueError for a name that is taken or
    none."""
    name = arm.name
    if not name.isidentifier() or not name.islower() or name in ARMS:
        raise ValueError(f"an arm needs a name of its own, in lower-case letters, got {name!r}")
    ARMS[name] = arm()
    for key in sorted(ARMS, key=lambda key: (ARMS[key].rank, key)):
        ARMS[key] = ARMS.pop(key)
    return arm


def arm_named(name: str) -> Arm:
    """An arm to be shown: a stored study may have one that is not installed here."""
    return ARMS[name] if name in ARMS else _unknown(name)


@cache
def _unknown(name: str) -> Arm:
    arm = _Unknown()
    arm.name = name  # type: ignore[misc]
    return arm


def in_order(names: Iterable[str]) -> list[str]:
    """Names of arms, each once, as they are shown; those that are not installed come last."""
    places = {name: i for i, name in enumerate(ARMS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def label(name: str) -> str:
    """The arm as a person reads it."""
    return arm_named(name).label or name


def brief(name: str) -> str:
    """The arm as a person reads it where there is little room."""
    return arm_named(name).brief or label(name)


def noun(name: str) -> str:
    """One network of the arm, as a person calls it; its plural has an s."""
    return arm_named(name).noun or f"{label(name)} network"


def color(name: str) -> str:
    """The arm's colour in figures, #RRGGBB."""
    return arm_named(name).color or PALETTE[_place(name) % len(PALETTE)]


def symbol(name: str) -> str:
    """The arm's marker in figures, as Plotly names it."""
    return arm_named(name).symbol or MARKERS[_place(name) % len(MARKERS)]


def _place(name: str) -> int:
    """Among the arms that choose no look."""
    plain_looking = in_order({name, *(key for key, arm in ARMS.items() if not (arm.color and arm.symbol))})
    return plain_looking.index(name)


def _find() -> None:
    for module in pkgutil.iter_modules(models.arms.__path__):
        if module.name != "arm":
            importlib.import_module(f"models.arms.{module.name}")


_find()
