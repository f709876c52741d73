"""A stand-in for a CUDA graph, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class Tape(TorchDispatchMode):
    """Records what a step does to tensors, and does it again without the step's Python, to the same tensors.

    As on a GPU, a step that reads a value while it is recorded is refused, and recording leaves every tensor
    as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.found: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        """Memory that was there before, and what was in it."""
        self.made: set[int] = set()
        self.calls: list[str] = []

    def warm_up(self, step: Callable[[], None]) -> None:
        self.calls.append("warm_up")
        step()

    def record(self, step: Callable[[], None]) -> None:
        self.calls.append("record")
        try:
            with self:
                step()
        finally:
            for storage, before in self.found.values():
                storage.copy_(before)
        self.operations = tree_map_only(Tensor, Tensor.detach, self.operations)

    @torch.no_grad()
    def replay(self) -> None:
        self.calls.append("replay")
        for operation, args, kwargs, made in self.operations:
            again = operation(*args, **kwargs)
            for tensor, value in zip(_tensors(made), _tensors(again), strict=True):
                if tensor.data_ptr() != value.data_ptr():
                    tensor.copy_(value)

    def free(self) -> None:
        self.calls.append("free")
        self.operations = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value is read while the step is recorded")
        for tensor in _tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.made and storage.data_ptr() not in self.found:
                self.found[storage.data_ptr()] = (storage, storage.clone())
        made = operation(*args, **(kwargs or {}))
        self.made |= {t.untyped_storage().data_ptr() for t in _tensors(made)} - self.found.keys()
        self.operations.append((operation, args, kwargs or {}, made))
        return made


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.numel())
