"""The daemon that lets workers share a GPU: its program is a stand-in, all processes are real, trials train
on a CPU."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import search.mps
from optuna.trial import FrozenTrial, TrialState
from search.mps__GONE import sharing

from search.devices.gpu_locks import visible_gpus
from search.devices.mps import PROGRAM
from search.devices.slots import Slot
from tests.support.paths import REPOSITORY
from tests.support.stored import stored_trials
from tests.support.studies import TINY

CONTROL = r"""#!/bin/sh
# -d starts a daemon for the pipe directory; else commands come on standard input
pipe=${CUDA_MPS_PIPE_DIRECTORY:-$FAKE/usual}
say() { echo "$1 ${pipe##*/archsearch-mps-} $CUDA_VISIBLE_DEVICES" >> "$FAKE/log"; }
if [ "$1" = -d ]; then
    if [ -e "$FAKE/broken" ]; then echo "noise"; echo "no device is fit" >&2; exit 1; fi
    setsid sleep 600 & echo $! > "$pipe/pid"; say start; exit 0
fi
read -r command
[ -e "$pipe/pid" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
if [ "$command" = quit ]; then kill "$(cat "$pipe/pid")"; say quit; fi
"""
COMMAND = """
import sys
import search.mps, search.run, search.workers
search.workers.plan = lambda *_: [search.workers.Slot("cpu", ("GPU-a",), 2)] * 2
search.mps.PROBE, search.mps._in_container = "pass", lambda: False
sys.exit(search.run.main(sys.argv[1:]))
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "bin" / PROGRAM
        program.parent.mkdir()
        program.write_text(CONTROL)
        program.chmod(0o755)
        (folder / "temporary").mkdir()
        (folder / "usual").mkdir()
        (folder / "tiny.toml").write_text(TINY.replace("epochs = 3", "epochs = 3000"))
        self.url = f"sqlite:///{folder}/search.db"
        self.started: list[subprocess.Popen[str]] = []
        self.env = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "FAKE": str(folder),
            "TMPDIR": str(folder / "temporary"),
            "ARCHSEARCH_GPU_LOCKS": str(folder / "locks"),
        }

    def log(self) -> list[str]:
        path = self.folder / "log"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, trials: int, **env: str) -> subprocess.Popen[str]:
        words = ["--study", str(self.folder / "tiny.toml"), "--storage", self.url, f"--trials={trials}"]
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words],
            cwd=REPOSITORY, env=os.environ | self.env | env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def trials(self) -> list[FrozenTrial]:
        return stored_trials(self.folder / "search.db", "tiny")

    def working(self, count: int = 2) -> list[int]:
        """Processes of workers that train."""

        def found() -> list[int]:
            return [
                int(trial.user_attrs["worker"].split(":")[1])
                for trial in self.trials()
                if trial.state == TrialState.RUNNING and trial.intermediate_values
            ]

        until(lambda: len(found()) == count)
        return found()

    def is_clean(self) -> bool:
        """Nothing of a daemon is left."""
        return self.log() == ["start", "quit"] and not list(
            (self.folder / "temporary").glob("archsearch-mps-*")
        )


def until(condition: Callable[[], object]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def setting(pid: int, name: str) -> str | None:
    found = re.search(rf"(?:^|\0){name}=([^\0]*)", Path(f"/proc/{pid}/environ").read_text())
    return found[1] if found else None


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    fake = Fake(tmp_path)
    yield fake
    for process in fake.started:
        process.kill()
        process.communicate()


@pytest.fixture
def here(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """As seen from this process."""
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(fake.folder / "temporary"))
    monkeypatch.setattr(search.mps, "PROBE", "pass")
    monkeypatch.setattr(search.mps, "_in_container", lambda: False)
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return fake


TWO = [Slot("cuda", ("GPU-a",), 2)] * 2


def test_workers_are_served_from_before_their_start_until_after_their_end(here: Fake) -> None:
    said: list[str] = []
    with sharing(TWO, said.append) as shared:
        assert here.log() == ["start"]
        assert shared.env.keys() == {"CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"}
        assert all(Path(path).is_dir() for path in shared.env.values())
        pid = int((Path(shared.env["CUDA_MPS_PIPE_DIRECTORY"]) / "pid").read_text())
        os.kill(pid, 0)
    assert here.is_clean()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert said == ["workers on one GPU run at the same time: an MPS daemon serves them until they end"]


@pytest.mark.parametrize(
    "slots",
    [
        [Slot("cpu")] * 4,
        [Slot("cuda", ("GPU-a", "GPU-b"), 1)] * 2,
        [Slot("cuda", ("GPU-a",), 1)] * 4,
        [Slot("cuda", ("GPU-a", "GPU-b"), 2)] * 2,
    ],
)
def test_no_daemon_where_no_gpu_has_two_workers(here: Fake, slots: list[Slot]) -> None:
    said: list[str] = []
    with sharing(slots, said.append) as shared:
        assert shared == search.mps.Sharing()
    assert (here.log(), said) == ([], [])


def test_a_daemon_that_runs_is_used_and_left_alone(here: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([PROGRAM, "-d"], check=True)
    said: list[str] = []
    with sharing(TWO, said.append) as shared:
        assert shared == search.mps.Sharing()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    with sharing(TWO, said.append) as shared:
        assert shared == search.mps.Sharing(), "workers inherit the setting"
    assert (here.log(), said) == (["start"], [])
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY")
    subprocess.run([PROGRAM], input="quit", text=True, check=True)


def absent(fake: Fake, patch: pytest.MonkeyPatch) -> str:
    (fake.folder / "bin" / PROGRAM).unlink()
    return f"there is no {PROGRAM}"


def contained(fake: Fake, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(search.mps, "_in_container", lambda: True)
    return "in a container, MPS is the host's affair: see CUDA_MPS_PIPE_DIRECTORY"


def broken(fake: Fake, patch: pytest.MonkeyPatch) -> str:
    (fake.folder / "broken").touch()
    return f"{PROGRAM} fails: no device is fit"


def useless(fake: Fake, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(search.mps, "PROBE", "raise SystemExit('CUDA error 805')")
    return f"{PROGRAM} fails: CUDA error 805"


@pytest.mark.parametrize("trouble", [absent, contained, broken, useless])
def test_where_it_cannot_be_workers_take_turns_and_a_line_says_why(
    here: Fake, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Fake, pytest.MonkeyPatch], str]
) -> None:
    reason, said = trouble(here, monkeypatch), []
    with sharing(TWO, said.append) as shared:
        assert shared == search.mps.Sharing()
    assert said == [f"workers on one GPU take turns: {reason}"]
    assert here.log() == (["start", "quit"] if trouble is useless else [])
    assert not list((here.folder / "temporary").iterdir())


def test_slices_get_no_daemon(here: Fake) -> None:
    said: list[str] = []
    with sharing([Slot("cuda", ("MIG-a",), 2)] * 2, said.append):
        pass
    assert (here.log(), len(said)) == ([], 1)


def test_a_search_to_its_end(fake: Fake) -> None:
    (fake.folder / "tiny.toml").write_text(TINY)
    process = fake.start(4)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "an MPS daemon serves them" in out
    assert fake.is_clean()


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_ends_the_daemon(fake: Fake, signals: int) -> None:
    process = fake.start(2)
    for pid in fake.working():
        assert "archsearch-mps-" in str(setting(pid, "CUDA_MPS_PIPE_DIRECTORY"))
        assert setting(pid, "CUDA_VISIBLE_DEVICES") == "GPU-a"
    for _ in range(signals):
        os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    until(fake.is_clean)


def test_the_daemon_outlives_a_killed_worker_and_a_killed_command(fake: Fake) -> None:
    process = fake.start(3)
    victim, other = fake.working()
    os.kill(victim, signal.SIGKILL)
    until(lambda: set(fake.working()) - {victim, other})
    pipe = {setting(pid, "CUDA_MPS_PIPE_DIRECTORY") for pid in fake.working()}
    assert len(pipe) == 1
    assert fake.log() == ["start"]
    workers = fake.working()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.communicate()
    time.sleep(0.5)
    assert fake.log() == ["start"], "its workers are still at it"
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    until(fake.is_clean)


def test_a_user_s_own_daemon_serves_the_workers(fake: Fake) -> None:
    process = fake.start(2, CUDA_MPS_PIPE_DIRECTORY="/mine")
    assert {setting(pid, "CUDA_MPS_PIPE_DIRECTORY") for pid in fake.working()} == {"/mine"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert fake.log() == []


TWO_AT_WORK = """
import subprocess, sys, torch
torch.ones(1, device="cuda").sum().item()
said = subprocess.run(["nvidia-cuda-mps-control"], input="get_server_list", text=True, capture_output=True)
print(said.stdout.strip())
"""


@pytest.mark.gpu
@pytest.mark.skipif(not visible_gpus() or shutil.which(PROGRAM) is None, reason="needs a GPU and its MPS")
def test_a_real_daemon_serves_two_processes() -> None:
    said: list[str] = []
    with sharing([Slot("cuda", tuple(visible_gpus()[:1]), 2)] * 2, said.append) as shared:
        assert shared.env, said
        env = os.environ | shared.env | {"CUDA_VISIBLE_DEVICES": visible_gpus()[0]}
        words = [sys.executable, "-c", TWO_AT_WORK]
        both = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        servers = {process.communicate()[0] for process in both}
    assert len(servers) == 1
    assert servers != {""}
    assert not Path(shared.env["CUDA_MPS_PIPE_DIRECTORY"]).exists()
