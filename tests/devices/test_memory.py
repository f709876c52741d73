"""The estimate of a trial's memory, held against what autograd keeps and what a step allocates."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from search.memory__GONE import data_bytes, estimate, most_of
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.architecture import Architecture, Stage
from models.cost import measure_cost
from models.network import build
from models.norms import NORMS
from search.data.batches import Feed, TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.design.space import make_architecture
from search.spec.domains import Range
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.spec.train_config import TrainConfig
from search.training.run import train
from tests.support.studies import sample_architectures


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def net(block: str, norm: str, **changes: Any) -> Architecture:
    stages = (Stage(width=8, blocks=2), Stage(width=16, blocks=2))
    values = {"image_shape": (3, 16, 16), "classes": 10, "block": block, "stages": stages, "norm": norm}
    return Architecture(**(values | changes))


def kept_by_autograd(architecture: Architecture, batch: int, bfloat16: bool) -> int:
    """Bytes of all storages that a forward pass saves, parameters apart."""
    network = build(architecture, 0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    channels, height, width = architecture.image_shape
    images = torch.randn(batch, height, width, channels).permute(0, 3, 1, 2)
    labels = torch.zeros(batch, dtype=torch.int64)
    watching = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with watching, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = F.cross_entropy(network(images), labels)
    assert loss.grad_fn is not None
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) - 8 * batch


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"zero_branch": True},
        {"transition": "pool", "head": "flatten", "padding": "valid", "stem_pool": True, "kernel": 5},
    ],
)
def test_what_is_kept_is_what_autograd_keeps(
    block: str, norm: str, changes: dict[str, Any], bfloat16: bool
) -> None:
    architecture = net(block, norm, image_shape=(3, 32, 32), **changes)
    kept = estimate(architecture, 16, "sgd", bfloat16).kept
    assert kept == pytest.approx(kept_by_autograd(architecture, 16, bfloat16), rel=0.02)


def test_it_holds_all_over_the_family() -> None:
    for architecture in sample_architectures(40, seed=3):
        kept = estimate(architecture, 8, "sgd", False).kept
        real = kept_by_autograd(architecture, 8, False)
        assert -0.01 * real <= kept - real <= 0.05 * real + 256, architecture


class Ledger(TorchDispatchMode):
    """The most bytes that tensors made by operations have at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes()
        self.sizes = {storage: size for storage, size in self.sizes.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self.sizes.values()))
        return made


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("block", "norm"), [("plain", "none"), ("residual", "batch"), ("preact", "batch")])
def test_two_steps_and_an_evaluation_stay_between_least_and_most(
    block: str, norm: str, optimizer: str
) -> None:
    architecture = net(block, norm, zero_branch=True)
    pixels = torch.randint(0, 255, (700, 16, 16, 3), dtype=torch.uint8)
    labels = torch.zeros(700, dtype=torch.int64)
    norms = torch.full((3,), 127.0), torch.full((3,), 60.0)
    data = TrainingData(pixels[:400], labels[:400], pixels[400:], labels[400:], *norms, classes=10)
    config = TrainConfig(
        epochs=1, batch_size=200, optimizer=optimizer, lr=0.01, seed=0, crop=2, flip=True, clip=1.0
    )
    memory = estimate(architecture, 200, optimizer, bfloat16=False, crop=2)
    with Ledger() as ledger:
        train(build(architecture, 0), data, config, lambda _: None)
    sure = memory.least + memory.working
    assert memory.least < ledger.peak < sure
    assert sure < 3 * ledger.peak, "a captured graph keeps to itself what the evaluation beside it takes here"


def test_the_images_of_a_study_are_counted() -> None:
    """As the device holds them."""
    parts = load(DataConfig(name="digits", val_fraction=0.25))
    data = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
    feed = Feed(data, 64, 0)
    tensors = [
        data.train_NHWC, data.val_NHWC, data.train_labels_N, data.val_labels_N,
        feed.index_SB, feed.shift_SB2, feed.flip_SB,
    ]  # fmt: skip
    images, training = len(data.train_NHWC) + len(data.val_NHWC), len(data.train_NHWC)
    pixels = data.train_NHWC.nbytes + data.val_NHWC.nbytes
    assert data_bytes(pixels, images, training) == pytest.approx(sum(t.nbytes for t in tensors), rel=0.05)


def random_network(spec: StudySpec, rng: random.Random, shape: tuple[int, int, int]) -> Architecture | None:
    space = spec.space
    assert isinstance(space.blocks, Range)
    low, high = int(space.blocks.low), int(space.blocks.high)
    blocks = [low, high, rng.randint(low, high)]
    values = {name: rng.choice(getattr(space, name)) for name in ("block", "norm", "init", "zero_branch")}
    for i, widths in enumerate(space.widths, start=1):
        values |= {
            f"width_{i}": rng.choice(widths),
            f"blocks_{i}": rng.choice(blocks),
        }
    found = make_architecture(values, space, shape, 10)
    cap = space.max_params
    return found if cap is None or measure_cost(found).params <= cap else None


@pytest.mark.parametrize(("study", "shape"), [("digits", (1, 8, 8)), ("cifar10", (3, 32, 32))])
@pytest.mark.parametrize("cap", [None, 2_000_000, 300_000, 120_000])
def test_no_network_of_a_space_takes_more(study: str, shape: tuple[int, int, int], cap: int | None) -> None:
    spec = load_spec(find_study(study))
    space = replace(spec.space, max_params=cap)
    spec = replace(spec, space=space)
    bound, rng, found = most_of(spec, shape, 10, 50_000), random.Random(0), []
    for _ in range(3000):
        if network := random_network(spec, rng, shape):
            optimizer, train = rng.choice(space.optimizer), spec.train
            found.append(estimate(network, train.batch_size, optimizer, False, train.crop).most)
    assert len(found) > 20
    assert max(found) <= bound < 3 * max(found)
