"""What is said of workers on one GPU. The daemon's program is a stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from search.devices import mps
from search.devices.gpu_locks import visible_gpus
from search.devices.mps import PROGRAM, advice
from search.devices.slots import Slot

TWO = [Slot("cuda", ("GPU-a",), 2)] * 2
DAEMON = """#!/bin/sh
# commands come on standard input; it answers while there is a file named runs
read -r command
echo "$command" >> "{folder}/asked"
[ -e "{folder}/runs" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
"""


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one that is installed and does not run."""
    program = tmp_path / PROGRAM
    program.write_text(DAEMON.replace("{folder}", str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_workers_that_would_take_turns_are_told_how_they_need_not(daemon: Path) -> None:
    line = advice(TWO)
    assert line.startswith("workers on one GPU take turns; ")
    assert line.endswith(f"on the host: {PROGRAM} -d")
    assert (daemon / "asked").read_text() == "get_server_list\n"
    assert advice([Slot("cuda", ("GPU-a", "GPU-b"), 2)] * 3) == line, "two of three share one"


@pytest.mark.parametrize(
    "slots",
    [
        [Slot("cpu")] * 4,
        [Slot("cuda", ("GPU-a", "GPU-b"), 1)] * 2,
        [Slot("cuda", ("GPU-a",), 1)] * 4,
        [Slot("cuda", ("GPU-a", "GPU-b"), 2)] * 2,
        [Slot("cuda", ("GPU-a",), 2)],
    ],
)
def test_nothing_is_said_or_asked_where_no_gpu_has_two_workers(daemon: Path, slots: list[Slot]) -> None:
    assert advice(slots) == ""
    assert not (daemon / "asked").exists()


def test_nothing_is_said_where_a_daemon_runs(daemon: Path) -> None:
    (daemon / "runs").touch()
    assert advice(TWO) == ""


def test_nothing_is_said_where_workers_inherit_a_daemon(
    daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    assert advice(TWO) == ""
    assert not (daemon / "asked").exists()


def test_without_the_program_the_advice_is_given_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "take turns" in advice(TWO)


def test_a_daemon_that_hangs_or_cannot_be_started_serves_nobody(
    daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (daemon / PROGRAM).write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(mps, "ANSWER_SECONDS", 0.1)
    assert "take turns" in advice(TWO)
    (daemon / PROGRAM).write_text("no program")
    assert "take turns" in advice(TWO)


@pytest.mark.gpu
@pytest.mark.skipif(not visible_gpus() or shutil.which(PROGRAM) is None, reason="needs a GPU and its MPS")
def test_the_program_answers_where_a_daemon_runs_and_fails_where_none_does(tmp_path: Path) -> None:
    """The daemon runs in a folder of its own, so that it harms nobody's."""
    env = os.environ | {f"CUDA_MPS_{name}_DIRECTORY": str(tmp_path) for name in ("PIPE", "LOG")}

    def told(words: list[str], command: str = "") -> int:
        return subprocess.run(words, input=command, env=env, text=True, check=False).returncode

    assert told([PROGRAM], "get_server_list\n") != 0
    assert told([PROGRAM, "-d"]) == 0
    try:
        assert told([PROGRAM], "get_server_list\n") == 0
    finally:
        told([PROGRAM], "quit\n")
