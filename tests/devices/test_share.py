"""Who may start, and with how much of a GPU's memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import search.room
import search.worker
import torch
from search.memory__GONE import estimate
from search.mps__GONE import Sharing
from search.room__GONE import Room, admission, admit

from models.architecture import Architecture, Stage
from models.network import build
from search.data.batches import to_device
from search.data.config import DataConfig
from search.data.datasets import load
from search.devices.memory import CONTEXT, MIB, fraction, take_share
from search.devices.slots import Slot
from search.errors import DeviceError
from search.spec.study import StudySpec
from search.spec.train_config import TrainConfig
from search.training.run import train
from search.workers.job import Job
from search.workers.stop import Stop
from search.workers.worker import work

GIB = 1024 * MIB
WIDE = Architecture(
    image_shape=(1, 8, 8), classes=10, block="residual", norm="batch", stages=(Stage(width=256, blocks=8),)
)
CONFIG = TrainConfig(epochs=1, batch_size=256, optimizer="sgd", lr=0.01, seed=0)


def never() -> bool:
    return False


@pytest.mark.parametrize("per_gpu", [2, 3, 8])
@pytest.mark.parametrize("total", [8 * GIB, 24 * GIB, 80 * GIB])
def test_shares_and_contexts_fit_the_gpu_together(total: int, per_gpu: int) -> None:
    share = fraction(total, per_gpu) * total
    assert per_gpu * (share + CONTEXT) <= total
    assert share > 0.9 * (total / per_gpu - CONTEXT)


def test_a_gpu_too_small_for_so_many_says_so() -> None:
    with pytest.raises(DeviceError, match=r"4,096 MiB has no room for 16 workers.*--per-gpu auto"):
        fraction(4 * GIB, 16)


def test_a_cpu_has_no_shares_and_refuses_nobody() -> None:
    cpu = torch.device("cpu")
    take_share(cpu, 4)
    huge = replace(WIDE, stages=(Stage(width=4096, blocks=200),))
    assert admission(huge, CONFIG, 10**6, cpu, never) == ""


def test_what_surely_exceeds_the_share_is_refused_at_once() -> None:
    def unasked() -> bool:
        pytest.fail("no reason to wait")

    assert admit(GIB, lambda: Room(share=GIB - 1, free=0), unasked) == "oom"
    assert admit(GIB, lambda: Room(share=GIB, free=GIB), unasked) == ""


def test_memory_that_others_hold_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search.room, "LOOK_SECONDS", 0.001)
    free = iter([100 * MIB, 200 * MIB, 2 * GIB])
    assert admit(GIB, lambda: Room(4 * GIB, next(free)), never) == ""
    assert capsys.readouterr().err == ("a trial needs 1,024 MiB of the GPU, others leave 100: waiting\n"), (
        "told once"
    )
    looks = iter([False, False, True])
    assert admit(GIB, lambda: Room(4 * GIB, 0), lambda: next(looks)) == "interrupted"


def test_a_worker_is_told_with_how_many_it_shares(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the plan to the process: the command's words to it are kept instead of followed."""
    listener = tmp_path / "python"
    listener.write_text(f"#!/bin/sh\nexec cat > {tmp_path}/job\n")
    listener.chmod(0o755)
    monkeypatch.setattr("search.crew.sys.executable", str(listener))
    monkeypatch.setenv("ARCHSEARCH_GPU_LOCKS", str(tmp_path / "locks"))
    job = Job(tiny, "sqlite://", "s", 1, "cuda", "x")
    crew = Crew(job, [Slot("cuda", ("GPU-a",), 3)], Sharing(), lambda _: None)
    crew._start_waiting()
    process = crew.members[0]
    process.communicate()
    told = pickle.loads((tmp_path / "job").read_bytes())
    assert (told.per_gpu, told.device) == (3, "cuda")


def test_a_worker_takes_its_share_before_anything_else(
    tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(device: torch.device, per_gpu: int) -> None:
        raise DeviceError(f"{device} for {per_gpu}")

    monkeypatch.setattr(search.worker, "take_share", no_room)
    with pytest.raises(DeviceError, match="cpu for 3"):
        work(Job(tiny, "no database is asked", "s", 1, "cpu", "x", per_gpu=3), Stop())


@pytest.mark.parametrize("words", ["CUDA out of memory", "CUDA error: unspecified launch failure"])
def test_a_gpu_without_room_for_the_images_is_no_fault_of_the_study(
    tiny: StudySpec, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(search.worker, "to_device", fails)
    job = Job(tiny, "sqlite://", "s", 1, "cpu", load(tiny.data).fingerprint())
    with pytest.raises(DeviceError, match=r"no memory left for the images|the GPU failed"):
        search.worker._prepare(job, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_share_is_of_the_gpu_that_the_worker_sees(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Down to the driver, which is not here: torch refuses a GPU without a number for this alone."""
    said: list[tuple[float, int]] = []
    index = torch.device(name).index or 0
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (8 * GIB, 8 * GIB))
    monkeypatch.setattr("torch._C._cuda_setMemoryFraction", lambda *words: said.append(words), raising=False)
    take_share(torch.device(name), 2)
    assert said == [(fraction(8 * GIB, 2), index)]
    monkeypatch.setattr("torch._C._cuda_getMemoryFraction", lambda at: {index: 0.25}[at], raising=False)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: GIB)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: GIB)
    assert search.room._room(torch.device(name)) == Room(share=GIB, free=8 * GIB)


on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GREEDY = """
import sys, torch
from search.room import take_share
take_share(torch.device("cuda"), 4)
_, total = torch.cuda.mem_get_info()
held = []
try:
    while True:
        held.append(torch.empty(64 << 20, dtype=torch.uint8, device="cuda"))
except torch.OutOfMemoryError:
    free, _ = torch.cuda.mem_get_info()
    print(torch.cuda.memory_reserved() / total, flush=True)
"""


class TestOnAGpu:
    pytestmark = on_a_gpu

    def test_a_process_takes_no_more_than_its_share(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", GREEDY],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert 0.15 < float(done.stdout) <= 0.25

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_a_training_takes_between_least_and_most(self, optimizer: str, precision: str) -> None:
        device = torch.device("cuda")
        parts = load(DataConfig(name="digits", val_fraction=0.25))
        data = to_device(parts.train, parts.val, parts.classes, device)
        config = replace(CONFIG, optimizer=optimizer, precision=precision, epochs=3)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        train(build(WIDE, 0), data, config, lambda _: None)
        taken = torch.cuda.max_memory_reserved() - before
        memory = estimate(WIDE, 256, optimizer, precision == "bfloat16")
        assert memory.least <= taken <= memory.most

    def test_what_cannot_fit_is_refused(self) -> None:
        huge = replace(WIDE, stages=(Stage(width=4096, blocks=200),))
        assert admission(huge, CONFIG, 10**6, torch.device("cuda"), never) == "oom"
        assert admission(WIDE, CONFIG, 10**6, torch.device("cuda"), never) == ""
