from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from search import checkpoints as module
from search.errors import SpecError
from search.training.checkpoints import Checkpoints, StudyCheckpoints, checkpoint_seconds
from tests.support.crew import CONTEXT

IDENTITY = {"fingerprint": "abc", "seed": 1}


def state(epochs: int, batch: int = 0) -> dict[str, Any]:
    return {
        "network": {"w": torch.arange(1000.0) + epochs},
        "history": [{"val_accuracy": 0.1 * i} for i in range(epochs)],
        "losses": torch.arange(float(batch)),
        "seconds": 1.5,
    }


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    module._told.clear()
    return Checkpoints(tmp_path / "trial", "me", IDENTITY, 0)


def same(one: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    return one is not None and torch.equal(one["network"]["w"], other["network"]["w"])


def test_the_newest_state_comes_back(kept: Checkpoints) -> None:
    assert kept.newest() is None
    for epoch in range(1, 5):
        kept.keep(lambda epoch=epoch: state(epoch))
    kept.keep(lambda: state(4, batch=3), must=True)
    found = kept.newest()
    assert found is not None
    assert (len(found["history"]), len(found["losses"]), found["seconds"]) == (4, 3, 1.5)
    assert same(found, state(4))
    assert len(list(kept.own.iterdir())) == 4, "two checkpoints, each with its manifest"


def dies_while_writing(kept: Checkpoints, sync: int) -> None:
    stock, left = os.fsync, [sync]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        stock(descriptor)

    os.fsync = fsync
    kept.keep(lambda: state(2))


@pytest.mark.parametrize("sync", [1, 2, 3, 4])  # of the state, its name, the manifest, its name
def test_killed_in_the_middle_of_writing_one_the_one_before_counts(kept: Checkpoints, sync: int) -> None:
    kept.keep(lambda: state(1))
    victim = CONTEXT.Process(target=dies_while_writing, args=(kept, sync))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert same(kept.newest(), state(2 if sync == 4 else 1))
    kept.keep(lambda: state(2))
    assert same(kept.newest(), state(2))


def test_another_workers_state_is_continued_and_not_overwritten(kept: Checkpoints, tmp_path: Path) -> None:
    kept.keep(lambda: state(3))
    successor = Checkpoints(tmp_path / "trial", "other", IDENTITY, 0)
    assert same(successor.newest(), state(3))
    successor.keep(lambda: state(5))
    kept.keep(lambda: state(4))  # the first one was taken for dead, and is not
    assert same(successor.newest(), state(5))


def test_a_state_of_another_run_is_left_alone(kept: Checkpoints, tmp_path: Path) -> None:
    kept.keep(lambda: state(3))
    other = Checkpoints(tmp_path / "trial", "me", IDENTITY | {"seed": 2}, 0)
    assert other.newest() is None
    assert same(kept.newest(), state(3))


def test_seconds_between_two(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "trial", "me", IDENTITY, 1000)
    kept.keep(lambda: pytest.fail("too early"))
    kept.keep(lambda: state(1), must=True)
    assert same(kept.newest(), state(1))


def test_finished_trials_leave_nothing(kept: Checkpoints) -> None:
    kept.keep(lambda: state(1))
    kept.remove()
    assert not kept.folder.exists()
    kept.remove()


def test_what_finished_elsewhere_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINTS", str(tmp_path))
    study = StudyCheckpoints.of("digits", "key")
    for number in (0, 1, 2):
        study.trial(number, "me", IDENTITY).keep(lambda: state(1), must=True)
    study.sweep([0, 2, 7])
    assert sorted(path.name for path in study.folder.iterdir()) == ["000001"]


@pytest.mark.parametrize("name", ["../../etc", "/abs", "a/b", "..", "x\0y", "ü" * 300, "con:aux"])
def test_a_study_name_is_no_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINTS", str(tmp_path / "root"))
    kept = StudyCheckpoints.of(name, "key").trial(3, "host/../..:1:ab", IDENTITY)
    assert kept.own.resolve().is_relative_to(tmp_path / "root")
    kept.keep(lambda: state(1), must=True)
    assert same(kept.newest(), state(1))


def test_studies_of_one_name_in_two_databases_have_two_folders() -> None:
    assert StudyCheckpoints.of("digits", "a").folder != StudyCheckpoints.of("digits", "b").folder


@pytest.fixture
def two(kept: Checkpoints) -> tuple[Checkpoints, Path]:
    """Two checkpoints, and the newer file."""
    kept.keep(lambda: state(1))
    kept.keep(lambda: state(2))
    return kept, max(kept.own.glob("*.pt"))


@pytest.mark.parametrize("percent", range(100))
def test_every_truncation_is_noticed(two: tuple[Checkpoints, Path], percent: int) -> None:
    kept, path = two
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * percent // 100])
    assert same(kept.newest(), state(1)), "falls back on the one before"
    assert path.with_name(f"{path.name}.damaged").exists()
    assert same(kept.newest(), state(1))


def test_200_flipped_bits_are_noticed(two: tuple[Checkpoints, Path]) -> None:
    """torch.load takes most of them without a word."""
    kept, path = two
    manifest = path.with_suffix(".json")
    good, good_manifest, rng = path.read_bytes(), manifest.read_bytes(), random.Random(0)
    for _ in range(200):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert same(kept.newest(), state(1))
        path.with_name(f"{path.name}.damaged").unlink()
        manifest.write_bytes(good_manifest)
    path.write_bytes(good)
    assert same(kept.newest(), state(2))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 1}', "null", "9" * 5000, "[" * 50_000, "x" * (1 << 17)]
)
def test_a_manifest_that_is_none_is_set_aside(two: tuple[Checkpoints, Path], text: str) -> None:
    kept, path = two
    path.with_suffix(".json").write_text(text)
    assert same(kept.newest(), state(1))


class Malicious:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def test_a_checkpoint_runs_no_code(
    two: tuple[Checkpoints, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with a manifest that fits: whoever may write one there may not run code as the worker."""
    import hashlib

    kept, path = two
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "evil.pt"
    for write in (
        lambda: torch.save(Malicious(), scratch),
        lambda: scratch.write_bytes(pickle.dumps(Malicious())),
    ):
        write()
        data = scratch.read_bytes()
        path.write_bytes(data)
        manifest = {"version": 1, "identity": IDENTITY, "bytes": len(data)}
        digest = {"sha256": hashlib.sha256(data).hexdigest()}
        path.with_suffix(".json").write_text(json.dumps(manifest | digest))
        assert same(kept.newest(), state(1))
        assert not (tmp_path / "pwned").exists()
    pickle.loads(scratch.read_bytes())
    assert (tmp_path / "pwned").exists(), "else this test proves nothing"


def test_links_are_not_followed(two: tuple[Checkpoints, Path], tmp_path: Path) -> None:
    kept, path = two
    path.rename(tmp_path / "elsewhere.pt")
    path.symlink_to(tmp_path / "elsewhere.pt")
    assert same(kept.newest(), state(1))


def test_a_folder_that_cannot_be_made_costs_the_checkpoints_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module._told.clear()
    (tmp_path / "file").write_text("")
    kept = Checkpoints(tmp_path / "file" / "trial", "me", IDENTITY, 0)
    for _ in range(3):
        kept.keep(lambda: state(1))
    assert capsys.readouterr().err.count("checkpoints cannot be written") == 1
    assert kept.newest() is None


def test_the_floor_of_free_space_is_kept(
    two: tuple[Checkpoints, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, _ = two
    monkeypatch.setattr(module, "FLOOR", shutil.disk_usage(kept.own).total)
    kept.keep(lambda: state(3))
    assert "MiB would be free" in capsys.readouterr().err
    assert same(kept.newest(), state(2))


FULL = """
import sys
from pathlib import Path
import torch
from search import checkpoints
from search.checkpoints import Checkpoints
checkpoints.FLOOR = -(1 << 50)
kept = Checkpoints(Path(sys.argv[1]), "me", {}, 0)
for epoch, size in ((1, 100_000), (2, 10_000_000), (3, 10_000_000), (4, 1000)):
    kept.keep(lambda: {"network": torch.zeros(size), "history": [0] * epoch, "losses": torch.empty(0)})
    found = kept.newest()
    print(epoch, len(found["history"]), len(list(kept.own.iterdir())))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_on_a_full_disk_the_checkpoint_before_stays(tmp_path: Path) -> None:
    """A real file system of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(disk / "trial")],
            cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.stdout.splitlines() == ["1 1 2", "2 1 2", "3 1 2", "4 4 4"], done.stderr
    assert done.stderr.count("checkpoints cannot be written") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("text", ["-1", "often", "inf", "nan"])
def test_odd_seconds_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(
        SpecError, match="ARCHSEARCH_CHECKPOINT_SECONDS must be a number of seconds from 0 up"
    ):
        checkpoint_seconds()


def test_one_that_cannot_be_read_is_left_to_whoever_can(
    two: tuple[Checkpoints, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, _ = two
    stock = module._read_plain

    def denied(path: Path, most: int) -> bytes:
        if path.name.startswith("e000002"):
            raise PermissionError(13, "Permission denied", str(path))
        return stock(path, most)

    monkeypatch.setattr(module, "_read_plain", denied)
    assert same(kept.newest(), state(1))
    monkeypatch.undo()
    assert same(kept.newest(), state(2))
