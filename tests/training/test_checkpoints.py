from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import search.errors
from search.errors import SpecError
from search.training import checkpoints as module
from search.training.checkpoints import FORMAT, Checkpoints, StudyCheckpoints, checkpoint_seconds
from tests.support.crew import CONTEXT

IDENTITY = {"fingerprint": "abc", "seed": 1}


def state(epochs: int, batch: int = 0) -> dict[str, Any]:
    return {
        "network": {"w": torch.arange(1000.0) + epochs},
        "history": [{"val_accuracy": 0.1 * i} for i in range(epochs)],
        "losses": torch.arange(float(batch)),
        "seconds": 1.5,
    }


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.errors, "_told", set())


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
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


@pytest.mark.slow
@pytest.mark.process
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


@pytest.mark.parametrize(("near", "far"), [("a", "z"), ("z", "a")])
def test_the_further_state_counts_whichever_workers_folder_sorts_first(
    tmp_path: Path, near: str, far: str
) -> None:
    """It is further by its epochs, or by the batches of the epoch after them."""
    one, other = (Checkpoints(tmp_path, own, IDENTITY, 0) for own in (near, far))
    for less, more in ((state(9), state(10)), (state(10, batch=3), state(10, batch=12))):
        other.keep(lambda more=more: more)
        one.keep(lambda less=less: less)
        found = one.newest()
        assert found is not None
        assert [len(found[key]) for key in ("history", "losses")] == [
            len(more["history"]),
            len(more["losses"]),
        ]


def test_another_workers_state_is_continued_and_not_overwritten(kept: Checkpoints, tmp_path: Path) -> None:
    kept.keep(lambda: state(3))
    successor = Checkpoints(tmp_path / "trial", "other", IDENTITY, 0)
    assert same(successor.newest(), state(3))
    successor.keep(lambda: state(5))
    kept.keep(lambda: state(4))  # the first one was taken for dead, and is not
    assert same(successor.newest(), state(5))


@pytest.mark.parametrize("change", [{"seed": 2}, {"torch": "3.0"}, {"fingerprint": "abd"}])
def test_a_state_of_another_run_is_left_alone(
    kept: Checkpoints, tmp_path: Path, change: dict[str, object]
) -> None:
    """One that is less far, and this run's, counts instead."""
    kept.keep(lambda: state(3))
    other = Checkpoints(tmp_path / "trial", "mine", IDENTITY | change, 0)
    assert other.newest() is None
    other.keep(lambda: state(2))
    assert same(other.newest(), state(2))
    assert same(kept.newest(), state(3))


def test_a_state_in_another_format_is_left_alone(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.keep(lambda: state(3))
    monkeypatch.setattr(module, "FORMAT", FORMAT + 1)
    assert kept.newest() is None
    monkeypatch.undo()
    assert same(kept.newest(), state(3))


def test_seconds_between_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count from the start of the attempt, or from the last that was tried, whatever came of it."""
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    kept = Checkpoints(tmp_path / "trial", "me", IDENTITY, 10)
    now[0] = 109.0
    kept.keep(lambda: pytest.fail("too early"))
    now[0] = 110.0
    kept.keep(lambda: state(1))
    assert same(kept.newest(), state(1))
    now[0] = 119.0
    kept.keep(lambda: pytest.fail("too early"))
    kept.keep(lambda: state(2), must=True)
    assert same(kept.newest(), state(2))
    now[0] = 128.0
    kept.keep(lambda: pytest.fail("too early"))


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
    """So have two names that are one as a path: nobody continues another study's trial 0."""
    folders = {
        StudyCheckpoints.of(*names).folder for names in (("d", "a"), ("d", "b"), ("d/", "a"), ("d:", "a"))
    }
    assert len(folders) == 4
    assert StudyCheckpoints.of("d", "a") == StudyCheckpoints.of("d", "a")


def test_workers_whose_names_end_alike_have_two_folders(tmp_path: Path) -> None:
    """A worker is named by host, process and a random word; a long name keeps its end."""
    study = StudyCheckpoints(tmp_path, 0)
    owns = {study.trial(0, f"{'h' * 90}:{pid}:ab", IDENTITY).own for pid in (1, 2)}
    assert len(owns) == 2
    assert {own.parent for own in owns} == {tmp_path / "000000"}


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
    """It runs none even with a manifest that fits: whoever may write one there may not run code as the
    worker."""
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
        manifest = {"version": FORMAT, "identity": IDENTITY, "bytes": len(data)}
        digest = {"sha256": hashlib.sha256(data).hexdigest()}
        path.with_suffix(".json").write_text(json.dumps(manifest | digest))
        assert same(kept.newest(), state(1))
        assert path.with_name(f"{path.name}.damaged").exists(), "it was looked into"
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
    (tmp_path / "file").write_text("")
    kept = Checkpoints(tmp_path / "file" / "trial", "me", IDENTITY, 0)
    for _ in range(3):
        kept.keep(lambda: state(1))
    assert capsys.readouterr().err.count("checkpoints cannot be written") == 1
    assert kept.newest() is None


def test_room_is_left_on_the_disk(
    two: tuple[Checkpoints, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is to be written counts as written."""
    kept, path = two
    free, size = 1 << 30, path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(module, "LEFT_FREE", free - size + 1)
    kept.keep(lambda: state(3))
    assert "MiB would be free" in capsys.readouterr().err
    assert same(kept.newest(), state(2))
    monkeypatch.setattr(module, "LEFT_FREE", free - size)
    kept.keep(lambda: state(3))
    assert same(kept.newest(), state(3))


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real file system of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("nobody may mount a small disk here")
    monkeypatch.setattr(module, "LEFT_FREE", -(1 << 50))
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_on_a_full_disk_the_checkpoint_before_stays(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, seen = Checkpoints(small_disk / "trial", "me", IDENTITY, 0), []
    for epoch, size in ((1, 100_000), (2, 10_000_000), (3, 10_000_000), (4, 1000)):
        kept.keep(lambda size=size, epoch=epoch: state(epoch) | {"large": torch.zeros(size)})
        found = kept.newest()
        assert found is not None
        seen.append((epoch, len(found["history"]), len(list(kept.own.iterdir()))))
    assert seen == [(1, 1, 2), (2, 1, 2), (3, 1, 2), (4, 4, 4)]
    told = capsys.readouterr().err
    assert told.count("checkpoints cannot be written") == 1
    assert "No space left on device" in told


def test_a_state_without_its_manifest_is_none(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full between the two files."""
    kept.keep(lambda: state(1))
    stock = module._write_whole

    def full(path: Path, data: Any) -> None:
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        stock(path, data)

    monkeypatch.setattr(module, "_write_whole", full)
    kept.keep(lambda: state(2))
    assert same(kept.newest(), state(1))
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "often", "inf", "nan"])
def test_odd_seconds_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(
        SpecError, match="ARCHSEARCH_CHECKPOINT_SECONDS must be a number of seconds from 0 up"
    ):
        checkpoint_seconds()


def test_seconds_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHSEARCH_CHECKPOINT_SECONDS", raising=False)
    assert StudyCheckpoints.of("d", "a").seconds == checkpoint_seconds() == 2
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINT_SECONDS", "0.5")
    study = StudyCheckpoints.of("d", "a")
    assert study.trial(7, "me", IDENTITY).seconds == study.seconds == 0.5


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


def test_files_are_for_their_owner_alone_and_scratch_files_do_not_stay(kept: Checkpoints) -> None:
    kept.keep(lambda: state(1))
    assert {path.stat().st_mode & 0o777 for path in kept.own.iterdir()} == {0o600}
    assert sorted(path.suffix for path in kept.own.iterdir()) == [".json", ".pt"]


@pytest.mark.parametrize("size", [module.MANIFEST_BYTES, module.MANIFEST_BYTES + 1])
def test_a_manifest_is_read_up_to_its_bound(two: tuple[Checkpoints, Path], size: int) -> None:
    """It is JSON to the last byte: blanks fill it up."""
    kept, path = two
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text().ljust(size))
    assert same(kept.newest(), state(2 if size == module.MANIFEST_BYTES else 1))
