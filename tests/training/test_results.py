from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import build
from search.data.batches import EVAL_BATCH, TrainingData
from search.training.diagnostics import Measures, Probe
from search.training.optimizer import autocast_of
from search.training.results import EpochResult, evaluate
from tests.support.training import CONFIG, small

AS_IT_IS = autocast_of(CONFIG, torch.device("cpu"))
MEASURES = Measures(*(0.1 * i for i in range(1, 9)))


class Guess(nn.Module):
    """Logits that say of an image its first pixel; keeps how many images came, and whether it trained."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        assert not self.training
        assert not torch.is_grad_enabled()
        logits = torch.zeros(len(images), 10)
        logits[torch.arange(len(images)), images[:, 0, 0, 0].long()] = 2.0
        return logits


def with_labels(data: TrainingData, count: int, right: int) -> TrainingData:
    """`count` images for validation whose first pixel is 3; that is the label of the first `right`."""
    images = torch.full((count, 8, 8, 1), 3.0)
    labels = torch.full((count,), 5)
    labels[:right] = 3
    same = torch.zeros(1), torch.ones(1)
    return dataclasses.replace(data, val_NHWC=images, val_labels_N=labels, mean_C=same[0], std_C=same[1])


@pytest.mark.parametrize("right", [100, 600])
def test_every_validation_image_counts_once_in_a_ragged_last_batch_too(
    digits: TrainingData, right: int
) -> None:
    """The mean is over images, not over batches: right ones are in other batches than wrong ones."""
    count = 2 * EVAL_BATCH + 188
    network = Guess().train()
    loss, accuracy = evaluate(network, with_labels(digits, count, right), AS_IT_IS)
    assert network.sizes == [EVAL_BATCH, EVAL_BATCH, 188]
    assert accuracy == right / count
    if_right, if_wrong = (
        float(F.cross_entropy(torch.eye(10)[:1] * 2, torch.tensor([label]))) for label in (0, 1)
    )
    assert loss == pytest.approx((right * if_right + (count - right) * if_wrong) / count, rel=1e-4)


def test_evaluation_learns_nothing_and_does_not_depend_on_the_batch() -> None:
    """Batch normalization normalizes by what training has seen."""
    network = build(small(norm="batch"), 0)
    images = torch.randn(6, 8, 8, 1, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6)
    same = torch.zeros(1), torch.ones(1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses = []
    for part in (slice(None), *(slice(i, i + 1) for i in range(6))):
        data = TrainingData(images, labels, images[part], labels[part], *same, classes=10)
        losses.append(evaluate(network, data, AS_IT_IS)[0])
    assert losses[0] == pytest.approx(sum(losses[1:]) / 6, rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_probe_watches_the_first_images_of_the_validation_part(digits: TrainingData) -> None:
    network = build(small(), 0)
    assert len(digits.val_NHWC) > EVAL_BATCH
    probe = Probe(network)
    evaluate(network, digits, AS_IT_IS, probe)
    first = digits.normalize(digits.val_NHWC[:64]).permute(0, 3, 1, 2)
    torch.testing.assert_close(probe.features, network.features(first), rtol=1e-4, atol=1e-5)
    assert [len(output) for output in probe.outputs] == [64, 64]


@pytest.mark.parametrize("measures", [MEASURES, None])
def test_a_result_comes_back_from_its_values(measures: Measures | None) -> None:
    result = EpochResult(3, 0.1, 0.2, 0.3, 0.4, measures)
    assert EpochResult.of(dataclasses.asdict(result)) == result
