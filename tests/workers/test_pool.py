"""Worker processes of one command: started, listened to, replaced, and ended with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from search.devices.gpu_locks import try_claim
from search.devices.slots import Slot
from search.errors import DatabaseError, DeviceError, StudyFailed
from search.spec.study import StudySpec
from search.workers import pool as module
from search.workers.job import Job
from search.workers.pool import MAX_RESTARTS, WorkerPool
from search.workers.stop import Stop
from tests.support.paths import REPOSITORY

EVER: list[subprocess.Popen[bytes]] = []
LIVES = "import time; time.sleep(60)"
KILLS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def ends(code: int, says: str = "") -> str:
    return (f"print({says!r}); " if says else "") + f"raise SystemExit({code})"


class Pool(WorkerPool):
    """Its workers are little programs: those of `programs` in their order, for each place its own."""

    def __init__(self, *programs: str | list[str], gpus: tuple[str, ...] = ()) -> None:
        slot = Slot("cuda", gpus) if gpus else Slot("cpu")
        self.said: list[str] = []
        super().__init__(None, [slot] * len(programs), self.said.append)  # type: ignore[arg-type]
        self.programs = [[one] if isinstance(one, str) else one for one in programs]
        self.started: list[int] = []
        self.reaps: list[int] = []
        self.polls = 0
        self.stop = Stop()
        self.processes: list[subprocess.Popen[bytes]] = []

    def _start(self, slot: Slot, index: int, claim: Any) -> subprocess.Popen[bytes]:
        self.started.append(index)
        programs = self.programs[index]
        self.job = programs.pop(0) if len(programs) > 1 else programs[0]  # type: ignore[assignment]
        process = super()._start(slot, index, claim)
        self.processes.append(process)
        EVER.append(process)
        return process

    def reap(self) -> list[int]:
        self.reaps.append(len(self.started))
        return [7] if len(self.reaps) == 1 else []

    def go(self, poll: Callable[[], None] = lambda: None, is_done: Callable[[], bool] = lambda: False) -> int:
        def polled() -> None:
            self.polls += 1
            poll()

        return self.run(self.stop, polled, self.reap, is_done)


STUB = """#!{python}
import pickle, sys
assert sys.argv[1:] == ["-m", "search.workers.worker"]
exec(pickle.load(sys.stdin.buffer))
"""


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The job that a worker reads is the program that it runs."""
    stub = tmp_path / "stub"
    stub.write_text(STUB.format(python=f"{sys.executable} -S"))
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    monkeypatch.setattr(module, "replace", lambda job, **changes: job)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("ARCHSEARCH_GPU_LOCKS", str(tmp_path / "gpus"))
    yield
    for process in EVER:
        process.kill()
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
    EVER.clear()


def test_all_run_at_once_and_all_that_they_print_is_told() -> None:
    pool = Pool(ends(0, "one"), ends(0, "two\nlines"), "import sys; sys.stdout.buffer.write(b'caf\\xe9')")
    assert pool.go() == 0
    assert pool.started == [0, 1, 2]
    assert sorted(pool.said) == [
        "worker 1: one", "worker 2: lines", "worker 2: two", "worker 3: caf\N{REPLACEMENT CHARACTER}",
    ]  # fmt: skip
    assert pool.polls > 0
    assert not pool.members
    assert pool.reaps == []


def test_errors_are_printed_beside_what_is_said() -> None:
    pool = Pool("import sys; print('trouble', file=sys.stderr)")
    pool.go()
    assert pool.said == ["worker 1: trouble"]


def test_a_worker_that_failed_stops_the_others_and_its_code_is_the_commands() -> None:
    pool = Pool(LIVES, ends(StudyFailed.exit_code), LIVES)
    assert pool.go() == StudyFailed.exit_code
    assert [process.poll() for process in pool.processes] == [-signal.SIGTERM, 1, -signal.SIGTERM]
    assert (pool.started, pool.reaps) == ([0, 1, 2], []), "who was stopped is not replaced"
    assert pool.stop.is_set()
    assert pool.stop.signal is None


@pytest.mark.parametrize("code", [DeviceError.exit_code, DatabaseError.exit_code])
def test_a_worker_with_trouble_of_its_own_ends_alone(code: int) -> None:
    pool = Pool(ends(code), "import time; time.sleep(0.3); print('done')")
    assert pool.go() == code
    assert pool.said == ["worker 2: done"]
    assert pool.started == [0, 1]
    assert not pool.stop.is_set()


def test_the_first_code_counts() -> None:
    later = f"import time; time.sleep(0.5); raise SystemExit({StudyFailed.exit_code})"
    assert Pool(ends(DatabaseError.exit_code), later).go() == DatabaseError.exit_code


def test_a_killed_worker_is_replaced_and_its_trial_queued_again() -> None:
    pool = Pool([KILLS_ITSELF, KILLS_ITSELF, ends(0, "done")], ends(0))
    assert pool.go() == 0
    assert pool.started.count(0) == 3
    assert pool.started.count(1) == 1
    assert pool.said == [
        "worker 1 was ended by SIGKILL. Its trial is queued again. A new one starts.",
        "worker 1 was ended by SIGKILL. A new one starts.",
        "worker 1: done",
    ]
    assert len(pool.reaps) == 2


def test_workers_killed_again_and_again_are_not_replaced_for_ever() -> None:
    pool = Pool(KILLS_ITSELF, ends(0))
    assert pool.go() == 0
    assert pool.started.count(0) == MAX_RESTARTS + 1
    assert pool.said[-1].startswith(
        "worker 1 was ended by SIGKILL. It is not replaced any more: is the memory"
    )
    assert [line.endswith("A new one starts.") for line in pool.said] == [True] * MAX_RESTARTS + [False]


@pytest.mark.parametrize(("first", "again"), [(700, True), (500, False)])
def test_only_those_that_were_killed_lately_count(first: float, again: bool) -> None:
    pool, now = Pool(ends(0)), time.monotonic()
    pool.waiting.clear()
    pool.restarts.extend([now - first, *[now] * (MAX_RESTARTS - 1)])
    pool._replace(0, signal.SIGTERM, pool.reap)
    assert pool.waiting == ([0] if again else [])
    assert pool.said[0].startswith("worker 1 was ended by SIGTERM. Its trial is queued again. ")
    assert ("A new one starts." in pool.said[0]) == again


def test_the_word_to_stop_ends_all_and_starts_none() -> None:
    """It ends also those that wait for a GPU, and those that are killed meanwhile."""
    held = try_claim(["GPU-a"])
    assert held is not None
    pool = Pool(LIVES, LIVES, gpus=("GPU-a", "GPU-b"))
    assert pool.go(poll=pool.stop.set) == 0
    assert pool.started == [0]
    assert pool.processes[0].returncode == -signal.SIGTERM
    assert pool.waiting == []
    held.close()


def test_a_worker_that_takes_its_time_to_stop_is_waited_for() -> None:
    slow = (
        "import signal, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.3)\n"
        "    print('stopped')\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('begun', flush=True)\n"
        "time.sleep(600)"
    )
    pool = Pool(slow)

    def stop_when_begun() -> None:
        if pool.said:
            pool.stop.set()

    assert pool.go(stop_when_begun) == 0
    assert pool.said == ["worker 1: begun", "worker 1: stopped"]


def test_ctrl_c_and_sigterm_reach_the_workers_through_their_command() -> None:
    """They live in sessions of their own: a terminal's Ctrl-C does not."""
    for number in (signal.SIGINT, signal.SIGTERM):
        pool = Pool(LIVES)

        def poll(pool: Pool = pool, number: int = number) -> None:
            if pool.polls == 2:
                assert os.getsid(pool.processes[0].pid) == pool.processes[0].pid
                os.kill(os.getpid(), number)

        assert pool.go(poll) == 0
        assert pool.stop.signal == number
        assert pool.processes[0].returncode == -signal.SIGTERM


def test_a_second_ctrl_c_kills_all_reaps_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    pool, codes = Pool(deaf, deaf), list[int | None]()

    class Left(Exception):
        pass

    def leave() -> None:
        codes.extend(process.returncode for process in pool.processes)
        raise Left

    monkeypatch.setattr(module, "exit_now", leave)

    def poll() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Left):
        pool.go(poll)
    assert pool.polls == 2
    assert set(codes) <= {-signal.SIGKILL, -signal.SIGTERM}
    assert len(pool.reaps) == 1, "their trials are queued again at once"


# GPUs


def test_who_finds_all_gpus_taken_waits_and_says_so_once() -> None:
    held = [try_claim(["GPU-a"]), try_claim(["GPU-b"])]
    pool = Pool(ends(0), ends(0), ends(0), gpus=("GPU-a", "GPU-b"))

    def poll() -> None:
        if pool.polls == 3:
            assert pool.started == []
            for claim in held:
                assert claim is not None
                claim.close()

    assert pool.go(poll) == 0
    assert sorted(pool.started) == [0, 1, 2]
    assert pool.said == ["all places on 2 GPUs are taken: waiting for one"]


def test_who_waits_for_a_gpu_need_not_start_when_the_study_is_done() -> None:
    held = try_claim(["GPU-a"])
    assert held is not None
    pool = Pool(ends(0), gpus=("GPU-a",))
    assert pool.go(is_done=lambda: pool.polls > 2) == 0
    assert pool.started == []
    held.close()


def test_a_gpu_is_its_workers_as_long_as_that_lives(tmp_path: Path) -> None:
    """The lock goes to the worker, and to no other one; the command keeps none."""
    shows = f"import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n{LIVES}"
    pool = Pool(shows, shows, gpus=("GPU-a", "GPU-b"))

    def poll() -> None:
        if len(pool.said) == 2 and pool.polls < 1000:
            assert try_claim(["GPU-a", "GPU-b"]) is None
            gpu = pool.said[0].split(": ")[1]
            pool.processes[int(pool.said[0][7]) - 1].kill()
            pool.processes[int(pool.said[0][7]) - 1].wait()
            claim = try_claim([gpu])
            assert claim is not None, "it is free at once"
            claim.close()
            pool.polls = 1000
            pool.stop.set()

    assert pool.go(poll) == 0
    assert sorted(line.split(": ")[1] for line in pool.said) == ["GPU-a", "GPU-b"]


# what a worker gets


def test_a_worker_gets_its_job_its_threads_and_no_more_than_its_place(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    stub, out = tmp_path / "stub", tmp_path / "out"
    out.mkdir()
    stub.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pickle, sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "job = pickle.load(sys.stdin.buffer)\n"
        f"open({str(out)!r} + f'/{{os.getpid()}}', 'w').write(json.dumps(["
        "job.device, job.per_gpu, job.study, job.trials, job.spec.fingerprint(), dict(os.environ)]))\n"
    )
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    monkeypatch.setenv("ARCHSEARCH_GPU_LOCKS", str(tmp_path / "gpus"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("KEPT", "yes")
    job = Job(tiny, "sqlite:///x.db", "a study", 9, "auto", "data")
    for slot in (Slot("cpu"), Slot("cuda", ("GPU-a",), 3)):
        pool = WorkerPool(job, [slot], lambda line: None)
        assert pool.run(Stop(), lambda: None, lambda: [], lambda: False) == 0
    found = [
        json.loads(path.read_text()) for path in sorted(out.iterdir(), key=lambda p: p.stat().st_mtime_ns)
    ]
    assert [seen[:5] for seen in found] == [
        ["cpu", 1, "a study", 9, tiny.fingerprint()], ["cuda", 3, "a study", 9, tiny.fingerprint()],
    ]  # fmt: skip
    on_cpu, on_gpu = (seen[5] for seen in found)
    threads = {
        name: on_cpu.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    assert set(threads.values()) == {"1"}
    assert "OMP_NUM_THREADS" not in on_gpu
    assert (on_cpu.get("CUDA_VISIBLE_DEVICES"), on_gpu["CUDA_VISIBLE_DEVICES"]) == (None, "GPU-a")
    for seen in (on_cpu, on_gpu):
        assert (seen["PYTHONUNBUFFERED"], seen["PYTHONFAULTHANDLER"], seen["KEPT"]) == ("1", "1", "yes")


def test_a_worker_that_dies_before_it_has_read_its_job_is_a_worker_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool("x" * 10**7)  # more than a pipe takes
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert pool.go() == 1
    assert pool.started == [0]


def test_a_worker_ends_when_its_command_does() -> None:
    """Its standard input stays open as long as that lives."""
    pool = Pool("import os; print('reads', flush=True); os.read(0, 1); print('ends')")

    def poll() -> None:
        if pool.said == ["worker 1: reads"]:
            stdin = pool.processes[0].stdin
            assert stdin is not None
            assert not stdin.closed
            stdin.close()

    assert pool.go(poll) == 0
    assert pool.said == ["worker 1: reads", "worker 1: ends"]


TRACEBACK = "print('Traceback\\n  File x\\nKeyError: 1\\n'); raise SystemExit(1)"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "print('begins\\nerror: twins differ:\\nmore of it'); raise SystemExit(1)",
            "twins differ:\nmore of it",
        ),
        (TRACEBACK, "KeyError: 1"),
        (ends(1), ""),
    ],
)
def test_the_last_words_of_the_first_that_failed_are_kept(program: str, words: str) -> None:
    pool = Pool(LIVES, program)
    assert pool.go() == 1
    assert pool.last_words == words


def test_who_ends_well_has_no_last_words() -> None:
    pool = Pool(ends(0, "error: but all is well"))
    assert pool.go() == 0
    assert pool.last_words == ""
