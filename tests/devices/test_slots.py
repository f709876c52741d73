"""How many workers a machine gets, and where. The devices are stand-ins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from search.devices import slots
from search.devices.slots import Slot, slots_for
from search.errors import DeviceError

TWO = ("GPU-a", "GPU-b")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four cores and two GPUs."""
    monkeypatch.setattr(slots, "_cores", lambda: 4)
    monkeypatch.setattr(slots, "_gpus", lambda: TWO)
    return monkeypatch


@pytest.mark.parametrize(
    ("workers", "device", "per_gpu", "expected"),
    [
        ("auto", "cpu", 1, [Slot("cpu")] * 4),
        ("auto", "cpu", 3, [Slot("cpu")] * 4),
        ("9", "cpu", 1, [Slot("cpu")] * 9),
        ("auto", "cuda", 1, [Slot("cuda", TWO, 1)] * 2),
        ("auto", "auto", 3, [Slot("cuda", TWO, 3)] * 6),
        ("5", "auto", 1, [Slot("cuda", TWO, 1)] * 5),
        ("1", "cuda", 2, [Slot("cuda", TWO, 2)]),
    ],
)
def test_as_many_workers_as_asked_for_or_as_there_is_room(
    machine: pytest.MonkeyPatch, workers: str, device: str, per_gpu: int, expected: list[Slot]
) -> None:
    assert slots_for(workers, device, per_gpu) == expected


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(slots, "_gpus", lambda: ())
    assert slots_for("auto", "auto", 2) == [Slot("cpu")] * 4
    with pytest.raises(DeviceError, match="torch sees no GPU; use --device cpu"):
        slots_for("auto", "cuda")


def test_a_cpu_is_taken_without_asking_for_gpus(machine: pytest.MonkeyPatch) -> None:
    """The question imports torch."""
    machine.setattr(slots, "_gpus", lambda: pytest.fail("nobody asked"))
    assert slots_for("1", "cpu") == [Slot("cpu")]


def test_gpus_have_the_drivers_names_or_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are none where torch cannot use them, whatever the driver lists."""
    monkeypatch.setattr(slots, "visible_gpus", lambda: list(TWO))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [slot.gpus for slot in slots_for("1", "cuda")] == [TWO]
    monkeypatch.setattr(slots, "visible_gpus", list)
    assert [slot.gpus for slot in slots_for("1", "cuda")] == [("0", "1", "2")]
    monkeypatch.setattr(slots, "visible_gpus", lambda: list(TWO))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert slots_for("1", "auto") == [Slot("cpu")]


@pytest.mark.parametrize(
    ("quota", "workers"),
    [
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("900000 100000", 6),
        ("max 100000", 6),
        ("", 6),
    ],
)
def test_a_container_has_the_cores_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, quota: str, workers: int
) -> None:
    """The cores are as --cpus bounds them; never more than the process may use, and always at least one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(Path, "read_text", lambda path: {"/sys/fs/cgroup/cpu.max": quota}[str(path)])
    assert len(slots_for("auto", "cpu")) == workers


def test_without_control_groups_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: Path) -> str:
        raise FileNotFoundError("no such system")

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert len(slots_for("auto", "cpu")) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert len(slots_for("auto", "cpu")) == 1
