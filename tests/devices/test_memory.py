"""The least that a trial takes, held against what autograd keeps and what training allocates; and a worker's
share of a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.architecture import Architecture, Stage
from models.arms.arm import ARMS
from models.cost import measure_cost
from models.network import build
from models.norms import NORMS
from search.data.batches import TrainingData, to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.devices.memory import CONTEXT, MIB, fraction, least_bytes, surely_exceeds, take_share
from search.errors import DeviceError
from search.spec.train_config import TrainConfig
from search.training.run import train
from tests.support.made_up import Bottleneck, Gated, Halved, group_norm, installed
from tests.support.paths import REPOSITORY
from tests.support.studies import sample_architectures

GIB = 1024 * MIB
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MADE_UP = (Halved, Gated, Bottleneck)
WIDE = Architecture(
    image_shape=(1, 8, 8), classes=10, block="residual", norm="batch", stages=(Stage(width=256, blocks=8),)
)
HUGE = replace(WIDE, stages=(Stage(width=4096, blocks=200),))
CONFIG = TrainConfig(epochs=1, batch_size=256, optimizer="sgd", lr=0.01, seed=0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def everything_installed() -> Iterator[None]:
    """Arms and a norm that the product does not have, beside its own."""
    with installed(*MADE_UP), group_norm():
        yield


def net(block: str, norm: str, **changes: Any) -> Architecture:
    stages = (Stage(width=8, blocks=2), Stage(width=16, blocks=2))
    values = {"image_shape": (3, 32, 32), "classes": 10, "block": block, "stages": stages, "norm": norm}
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
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def share_of_what_is_taken(architecture: Architecture, batch: int, optimizer: str, bfloat16: bool) -> float:
    """The bound over what there is at the end of a forward pass."""
    per_weight = 4 * (1 + 1 + {"sgd": 1, "adamw": 2}[optimizer])  # weight, gradient, moments
    weights = measure_cost(architecture).params * per_weight
    taken = weights + kept_by_autograd(architecture, batch, bfloat16)
    return least_bytes(architecture, batch, optimizer, bfloat16) / taken


@pytest.mark.usefixtures("everything_installed")
def test_no_trial_takes_less_all_over_the_family() -> None:
    for i, architecture in enumerate(sample_architectures(120, seed=3)):
        optimizer, bfloat16 = ("sgd", "adamw")[i % 2], i % 4 > 1
        assert share_of_what_is_taken(architecture, 8, optimizer, bfloat16) <= 1, architecture


DEEP = {"stages": (Stage(width=16, blocks=6),) * 2, "transition": "pool"}
POOLED = {"transition": "pool", "head": "flatten", "padding": "valid", "stem_pool": True, "kernel": 5}


@pytest.mark.slow
@pytest.mark.usefixtures("everything_installed")
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("norm", [*NORMS, "made_up"])
@pytest.mark.parametrize("block", [*ARMS, *(arm.name for arm in MADE_UP)])
def test_a_trial_does_not_take_much_more(block: str, norm: str, bfloat16: bool) -> None:
    """A bound far below what a trial takes would refuse none. Autograd keeps more than it counts where arms
    multiply (a gate, a scalar), where maps are pooled (their indices), and behind the last convolution."""
    for changes, least in (({}, 0.65), (DEEP, 0.6), ({"zero_branch": True}, 0.5), (POOLED, 0.4)):
        architecture = net(block, norm, **changes)
        assert least <= share_of_what_is_taken(architecture, 16, "sgd", bfloat16) <= 1, changes
    if block in ("plain", "residual", "preact"):
        assert share_of_what_is_taken(net(block, norm, **DEEP), 16, "sgd", bfloat16) > 0.85


@pytest.mark.parametrize("norm", NORMS)
def test_adamw_remembers_one_number_more_of_each_weight(norm: str) -> None:
    architecture = net("residual", norm)
    more = least_bytes(architecture, 16, "adamw", False) - least_bytes(architecture, 16, "sgd", False)
    assert more == 4 * measure_cost(architecture).params


def test_maps_in_bfloat16_are_half_as_large_and_weights_are_not() -> None:
    architecture = net("preact", "batch")
    weights = 3 * 4 * measure_cost(architecture).params
    single, half = (least_bytes(architecture, 16, "sgd", bfloat16) - weights for bfloat16 in (False, True))
    assert single == 2 * half > 0
    assert least_bytes(architecture, 32, "sgd", False) - weights == 2 * single


def test_of_a_gate_the_means_that_it_reads_are_kept_and_no_input_of_a_norm() -> None:
    """No norm follows it, whatever the network's is."""
    with installed(Gated):
        twins = [net(block, "batch") for block in ("gated", "residual")]
        most, less = (least_bytes(twin, 16, "sgd", False) for twin in twins)
        weights = measure_cost(twins[0]).params - measure_cost(twins[1]).params
    assert most - less == 3 * 4 * weights + 16 * 4 * (8 + 8 + 16 + 16)


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


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("block", "norm"), [("plain", "none"), ("residual", "batch"), ("preact", "batch")])
def test_two_steps_and_an_evaluation_take_more(block: str, norm: str, optimizer: str) -> None:
    architecture = net(block, norm, image_shape=(3, 16, 16), zero_branch=True)
    pixels = torch.randint(0, 255, (700, 16, 16, 3), dtype=torch.uint8)
    labels = torch.zeros(700, dtype=torch.int64)
    norms = torch.full((3,), 127.0), torch.full((3,), 60.0)
    data = TrainingData(pixels[:400], labels[:400], pixels[400:], labels[400:], *norms, classes=10)
    config = TrainConfig(
        epochs=1, batch_size=200, optimizer=optimizer, lr=0.01, seed=0, crop=2, flip=True, clip=1.0
    )
    with Ledger() as ledger:
        train(build(architecture, 0), data, config, lambda _: None)
    assert 0.6 * ledger.peak < least_bytes(architecture, 200, optimizer, bfloat16=False) < ledger.peak


@pytest.mark.parametrize("per_gpu", [2, 3, 8])
@pytest.mark.parametrize("total", [8 * GIB, 24 * GIB, 80 * GIB])
def test_shares_and_contexts_fit_the_gpu_together(total: int, per_gpu: int) -> None:
    share = fraction(total, per_gpu) * total
    assert share == pytest.approx(total / per_gpu - CONTEXT, abs=2)
    assert per_gpu * (share + CONTEXT) <= total


def test_a_gpu_too_small_for_so_many_says_so() -> None:
    with pytest.raises(DeviceError, match=r"4,096 MiB has no room for 16 workers.* 500 MiB.*--per-gpu"):
        fraction(4 * GIB, 16)
    with pytest.raises(DeviceError, match="no room"):
        fraction(4 * CONTEXT, 4)
    assert fraction(4 * CONTEXT + 4, 4) > 0


def test_a_cpu_has_no_shares_and_refuses_nobody() -> None:
    take_share(CPU, 4)
    assert not surely_exceeds(HUGE, CONFIG, 10**6, CPU)


class Driver:
    """A GPU's memory, as torch tells of it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.total, self.share, self.allocated, self.bfloat16 = 8 * GIB, 1.0, 0, False
        self.asked: list[int] = []
        """Numbers of the GPUs whose share was asked for."""
        self.said: list[tuple[float, int]] = []
        """Shares that were set, and of which GPU."""
        patch.setattr("torch.cuda.memory._lazy_init", lambda: None)
        patch.setattr("torch.cuda.current_device", lambda: 0)
        patch.setattr("torch.cuda.mem_get_info", lambda device: (0, self.total))
        patch.setattr("torch.cuda.memory_allocated", lambda device: self.allocated)
        patch.setattr("torch.cuda.is_bf16_supported", lambda: self.bfloat16)
        patch.setattr(
            "torch._C._cuda_setMemoryFraction", lambda *words: self.said.append(words), raising=False
        )
        patch.setattr("torch._C._cuda_getMemoryFraction", self.share_of, raising=False)

    def share_of(self, index: int) -> float:
        self.asked.append(index)
        return self.share


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_share_is_of_the_gpu_that_the_worker_sees(driver: Driver, name: str) -> None:
    """Torch refuses a GPU without a number for this alone."""
    index = torch.device(name).index or 0
    take_share(torch.device(name), 2)
    assert driver.said == [(fraction(8 * GIB, 2), index)]
    surely_exceeds(WIDE, CONFIG, 10**6, torch.device(name))
    assert driver.asked == [index]


def test_a_worker_that_has_its_gpu_alone_is_not_bounded(driver: Driver) -> None:
    take_share(CUDA, 1)
    assert driver.said == []


def test_what_surely_exceeds_the_rest_of_the_share_is_refused(driver: Driver) -> None:
    """The bound is exact to the byte. What is allocated is the images, which a trial needs besides."""
    least = least_bytes(WIDE, 256, "sgd", False)
    driver.share, driver.allocated = 0.25, 100 * MIB
    driver.total = 4 * (least + 100 * MIB)
    assert not surely_exceeds(WIDE, CONFIG, 10**6, CUDA)
    driver.total -= 4
    assert surely_exceeds(WIDE, CONFIG, 10**6, CUDA)


@pytest.mark.parametrize(
    ("changes", "images", "bfloat16", "least"),
    [
        ({"optimizer": "adamw"}, 10**6, False, (256, "adamw", False)),
        ({"batch_size": 100}, 10**6, False, (100, "sgd", False)),
        ({}, 40, False, (40, "sgd", False)),  # no batch has more images than there are
        ({}, 10**6, True, (256, "sgd", True)),
        ({"precision": "float32"}, 10**6, True, (256, "sgd", False)),
    ],
)
def test_the_settings_of_a_trial_count(
    driver: Driver, changes: dict[str, Any], images: int, bfloat16: bool, least: tuple[int, str, bool]
) -> None:
    driver.bfloat16 = bfloat16
    config = replace(CONFIG, **changes)
    driver.total = least_bytes(WIDE, *least)
    assert not surely_exceeds(WIDE, config, images, CUDA)
    driver.total -= 1
    assert surely_exceeds(WIDE, config, images, CUDA)


GREEDY = """
import sys, torch
from search.devices.memory import take_share
take_share(torch.device("cuda"), 4)
_, total = torch.cuda.mem_get_info()
held = []
try:
    while True:
        held.append(torch.empty(64 << 20, dtype=torch.uint8, device="cuda"))
except torch.OutOfMemoryError:
    print(torch.cuda.memory_reserved() / total, flush=True)
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestOnAGpu:
    def test_a_process_takes_no_more_than_its_share(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", GREEDY], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert 0.15 < float(done.stdout) <= 0.25

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_a_training_takes_more_than_the_least(self, optimizer: str, precision: str) -> None:
        parts = load(DataConfig(name="digits", val_fraction=0.25))
        data = to_device(parts.train, parts.val, parts.classes, CUDA)
        config = replace(CONFIG, optimizer=optimizer, precision=precision, epochs=3)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        train(build(WIDE, 0), data, config, lambda _: None)
        taken = torch.cuda.max_memory_reserved() - before
        assert least_bytes(WIDE, 256, optimizer, precision == "bfloat16") <= taken

    def test_what_cannot_fit_is_refused(self) -> None:
        assert surely_exceeds(HUGE, CONFIG, 10**6, CUDA)
        assert not surely_exceeds(WIDE, CONFIG, 10**6, CUDA)
