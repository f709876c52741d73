"""Torch's private names: that this release has them, and that they do what its public ones do."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search.training import kernels

PRIVATE = {
    "torch._fused_sgd_", "torch._fused_adamw_",
    "torch._foreach_add_", "torch._foreach_norm", "torch._foreach_sub",
    "torch._C._cuda_endAllocateToPool", "torch._C._cuda_releasePool",
}  # fmt: skip
CUDA_ALONE = {"torch._C._cuda_endAllocateToPool", "torch._C._cuda_releasePool"}


def test_these_are_all_private_names_that_it_uses() -> None:
    used = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(Path(kernels.__file__).read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
    }
    assert used - {"torch._C"} == PRIVATE


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_torch_has_it(name: str) -> None:
    if name in CUDA_ALONE and not torch.backends.cuda.is_built():
        pytest.skip("this build of torch has no CUDA")
    found: object = torch
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert callable(found)


def tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((16, 8, 3, 3), (7,), (), (33, 5))]


Steps = Callable[[list[Tensor], list[Tensor], float | Tensor], None]


def assert_steps_alike(
    ours: Steps, theirs: Callable[[list[Tensor]], torch.optim.Optimizer], rate: type
) -> None:
    """Five steps with gradients and rates that change, bit for bit."""
    mine, other = tensors(0), [tensor.requires_grad_() for tensor in tensors(0)]
    optimizer = theirs(other)
    for step in range(5):
        lr, gradients = 0.05 / (step + 1), tensors(step + 1)
        ours(mine, gradients, lr if rate is float else torch.tensor(lr, dtype=torch.float64))
        optimizer.param_groups[0]["lr"] = lr
        for parameter, gradient in zip(other, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


@pytest.mark.parametrize("rate", [float, Tensor])
@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.01), (0.7, 0.0), (0.0, 0.02)])
def test_sgd_is_that_of_torch_bit_for_bit(rate: type, momentum: float, decay: float) -> None:
    momenta: list[Tensor] = []

    def ours(parameters: list[Tensor], gradients: list[Tensor], lr: float | Tensor) -> None:
        first = not momenta
        if momentum and first:
            momenta.extend(torch.zeros_like(p) for p in parameters)
        kernels.sgd_step(parameters, gradients, momenta, lr, momentum, decay, first)

    assert_steps_alike(
        ours,
        lambda parameters: torch.optim.SGD(parameters, 1, momentum=momentum, weight_decay=decay, fused=True),
        rate,
    )


@pytest.mark.parametrize("rate", [float, Tensor])
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_adamw_is_that_of_torch_bit_for_bit(rate: type, decay: float) -> None:
    """Both have torch's own betas and eps."""
    first, second, steps = ([torch.zeros_like(p) for p in tensors(0)] for _ in range(3))
    steps = [torch.zeros(()) for _ in steps]

    def ours(parameters: list[Tensor], gradients: list[Tensor], lr: float | Tensor) -> None:
        kernels.adamw_step(parameters, gradients, first, second, steps, lr, decay)

    assert_steps_alike(
        ours, lambda parameters: torch.optim.AdamW(parameters, 1, weight_decay=decay, fused=True), rate
    )
    assert [float(step) for step in steps] == [5.0] * 4


def test_norms_are_euclidean_and_one_for_each_tensor() -> None:
    assert kernels.norms([torch.tensor([[3.0], [-4.0]]), torch.zeros(3), torch.full((4,), 2.0)]) == [5, 0, 4]


def test_differences_are_taken_one_by_one_and_leave_their_operands_alone() -> None:
    one, other = [torch.tensor([5.0, 1.0]), torch.tensor(2.0)], [torch.tensor([1.0, 4.0]), torch.tensor(8.0)]
    assert [found.tolist() for found in kernels.differences(one, other)] == [[4, -3], -6]
    assert (one[0].tolist(), other[0].tolist()) == ([5, 1], [1, 4])


def test_a_capture_is_left_on_its_gpu_by_both_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` alone is the current GPU; one whose capture was ended in order has nothing to leave."""
    said: list[tuple[str, int, tuple[int, int]]] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for name in ("endAllocateToPool", "releasePool"):
        monkeypatch.setattr(
            torch._C, f"_cuda_{name}", lambda *words, name=name: said.append((name, *words)), raising=False
        )
    kernels.leave_capture(torch.device("cuda:1"), (0, 7))
    kernels.leave_capture(torch.device("cuda"), (0, 8))
    both = ("endAllocateToPool", "releasePool")
    assert said == [(name, *words) for words in ((1, (0, 7)), (3, (0, 8))) for name in both]

    def ended(*_: object) -> None:
        raise RuntimeError("no such capture")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended, raising=False)
    kernels.leave_capture(torch.device("cuda"), (0, 9))
