from __future__ import annotations

import pytest
import torch
from torch import nn

from models.norms import NORMS, Norm
from tests.support.made_up import group_norm


def all_norms() -> list[Norm]:
    with group_norm():
        return list(NORMS.values())


@pytest.mark.parametrize("norm", all_norms(), ids=lambda norm: norm.name)
def test_a_norm_is_what_it_says(norm: Norm) -> None:
    layer = norm.layer(6)
    numbers = dict(layer.named_parameters())
    assert sum(parameter.numel() for parameter in numbers.values()) == 6 * norm.params
    assert norm.gain == ("weight" in numbers)
    assert norm.biased != ("bias" in numbers), "one of the two shifts"
    assert (norm.name == "none") == isinstance(layer, nn.Identity)
    x_NCHW = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    alone, together = layer.double().train()(x_NCHW[:1]), layer(x_NCHW)[:1]
    assert norm.across_images != torch.allclose(alone, together), "whether other images count"


@pytest.mark.parametrize("norm", all_norms(), ids=lambda norm: norm.name)
def test_a_norm_keeps_its_input_for_the_backward_pass_or_does_not(norm: Norm) -> None:
    """Memory is estimated from it."""
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    x_NCHW = torch.randn(4, 6, 3, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        norm.layer(6).train()(x_NCHW)
    assert norm.keeps_input == (x_NCHW.data_ptr() in kept)


def test_names_are_those_that_they_are_registered_under() -> None:
    assert list(NORMS)[:2] == ["none", "batch"]
    assert list(NORMS) == [norm.name for norm in NORMS.values()]


def test_batch_norm_is_that_of_the_paper() -> None:
    """Mean 0 and variance 1 over images and pixels, up to its epsilon of 1e-5."""
    x_NCHW = torch.randn(8, 3, 5, 5, dtype=torch.float64) * 4 + 2
    y_NCHW = NORMS["batch"].layer(3).double().train()(x_NCHW)
    torch.testing.assert_close(y_NCHW.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    variance = x_NCHW.var((0, 2, 3), correction=0)
    torch.testing.assert_close(y_NCHW.var((0, 2, 3), correction=0), variance / (variance + 1e-5))
