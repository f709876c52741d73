from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from search.devices.gpu_locks import try_claim, uuids_in, visible_gpus
from search.errors import DeviceError
from tests.support.crew import CONTEXT

FOUR = [f"GPU-{i:08x}-aaaa" for i in range(4)]
LISTING = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-33333333-4444)
  MIG 3g.20gb     Device  0: (UUID: MIG-55555555-6666)
  MIG 3g.20gb     Device  1: (UUID: MIG-77777777-8888)
GPU 2: NVIDIA L4 (UUID: GPU-99999999-0000)
"""


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHSEARCH_GPU_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_the_listing_of_the_driver() -> None:
    assert uuids_in(LISTING) == [
        "GPU-11111111-2222",
        "MIG-55555555-6666",
        "MIG-77777777-8888",
        "GPU-99999999-0000",
    ]
    assert uuids_in("No devices were found\n") == []


def test_what_the_environment_names_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,")
    assert visible_gpus() == ["GPU-a", "GPU-b"]
    for nothing in ("", "-1", " , "):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert visible_gpus() == []


@pytest.mark.parametrize("script", ["exit 3", "echo 'No devices were found'", None])
def test_a_driver_that_fails_or_is_absent_lists_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == []


def test_every_gpu_is_claimed_once_before_any_is_twice() -> None:
    claims = [try_claim(FOUR[:2], per_gpu=2) for _ in range(5)]
    assert [claim.gpu if claim else None for claim in claims] == [*FOUR[:2], *FOUR[:2], None]
    assert claims[1] is not None
    claims[1].close()
    again = try_claim(FOUR[:2], per_gpu=2)
    assert again is not None
    assert again.gpu == FOUR[1]
    for claim in (*claims, again):
        if claim is not None and claim is not claims[1]:
            claim.close()


@pytest.mark.process
def test_a_worker_holds_what_its_command_claimed_for_it() -> None:
    """The command closes its own descriptor; the lock lasts as long as the worker."""
    claim = try_claim(FOUR[:1])
    assert claim is not None
    worker = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=(claim.descriptor,),
    )
    claim.close()
    assert try_claim(FOUR[:1]) is None
    worker.kill()
    worker.communicate()
    again = try_claim(FOUR[:1])
    assert again is not None
    again.close()


def test_odd_names_stay_in_the_folder(locks: Path) -> None:
    claim = try_claim(["../../x"])
    assert claim is not None
    claim.close()
    assert [path.name for path in locks.iterdir()] == ["______x.0.lock"]


def test_locks_may_be_taken_by_every_user_of_the_machine(locks: Path) -> None:
    """The folder is like /tmp: whoever made it, others add files and remove none but their own. To lock needs
    no right to write."""
    claim = try_claim(FOUR[:1])
    assert claim is not None
    assert fcntl.fcntl(claim.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    claim.close()
    assert locks.stat().st_mode & 0o7777 == 0o1777


def test_a_lock_that_is_a_link_is_not_followed(locks: Path, tmp_path: Path) -> None:
    locks.mkdir()
    (locks / f"{FOUR[0]}.0.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceError, match="GPUs cannot be claimed"):
        try_claim(FOUR)
    assert not (tmp_path / "elsewhere").exists()


def test_a_place_that_is_taken_leaves_no_descriptor_behind() -> None:
    """A command that waits asks again and again."""
    claim = try_claim(FOUR[:1])
    assert claim is not None
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of this process, which changes meanwhile
    for _ in range(5):
        assert try_claim(FOUR[:1]) is None
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    claim.close()


def hold(folder: str, gpus: list[str]) -> None:
    """Acts as a replica: takes a GPU, notes that it has it, and holds it; notes a second holder as well."""
    while (claim := try_claim(gpus)) is None:
        time.sleep(0.005)
    note = os.open(f"{folder}/{claim.gpu}.holder", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by whoever thinks the GPU is its own
    except BlockingIOError:
        Path(f"{folder}/VIOLATION").touch()
    with open(f"{folder}/claims", "a") as file:  # noqa: PTH123
        file.write(f"{claim.gpu}\n")
    time.sleep(3600)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("kills", [200])
def test_eight_replicas_on_four_gpus_never_share_one(tmp_path: Path, kills: int) -> None:
    rng = random.Random(0)

    def start() -> Any:
        process = CONTEXT.Process(target=hold, args=(str(tmp_path), FOUR))
        process.start()
        return process

    replicas = [start() for _ in range(8)]
    try:
        for _ in range(kills):
            time.sleep(rng.uniform(0, 0.03))
            index = rng.randrange(8)
            os.kill(replicas[index].pid, signal.SIGKILL)
            replicas[index].join()
            replicas[index] = start()
    finally:
        for replica in replicas:
            replica.kill()
            replica.join()
    taken = (tmp_path / "claims").read_text().split()
    assert not (tmp_path / "VIOLATION").exists()
    assert set(taken) == set(FOUR)
    assert len(taken) > kills / 4, "GPUs of killed replicas are taken by others"


def test_one_gpu_has_one_lock_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a batch system may each see a GPU 0, which are two; one has two names."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: L4 (UUID: GPU-aa)'\necho 'GPU 1: L4 (UUID: GPU-bb)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for named, gpus in (("1,0", ["GPU-bb", "GPU-aa"]), ("GPU-bb", ["GPU-bb"]), ("2", ["2"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert visible_gpus() == gpus
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["GPU-aa", "GPU-bb"]
    program.write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus() == ["0"], "a name that nothing is known of is taken as it is"


def test_locks_that_cannot_be_made_are_told_in_a_line(locks: Path) -> None:
    locks.write_text("a file")
    with pytest.raises(DeviceError, match="name another folder in ARCHSEARCH_GPU_LOCKS"):
        try_claim(FOUR)
