"""Faults injected into real processes on real databases. What was measured stands in tests/FAULTS.md."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.data.datasets import load
from search.spec.study import StudySpec
from search.spec.study_file import load_spec
from search.storage.connections import claims_of
from search.storage.internals import trial_id_of
from search.storage.leases import worker_name
from search.storage.patience import PatientStorage
from search.storage.studies import open_study
from search.storage.trial_record import TrialRecord, records_of
from search.workers.job import Job
from search.workers.stop import Stop
from search.workers.worker import work
from tests.support.claims import joined
from tests.support.crew import CONTEXT, Crew, accounted_for
from tests.support.crew import work as stub_work
from tests.support.paths import REPOSITORY
from tests.support.postgres_server import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.process]
optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(autouse=True)
def short_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_HEARTBEAT", "0.5")
    monkeypatch.setenv("ARCHSEARCH_GRACE", "3")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of a kind that most people use: two of the three kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/search.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def finished(study: Study) -> list[TrialRecord]:
    return [record for record in records_of(study) if record.is_finished]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that may be stopped: it serves nobody else."""
    with PostgresServer(tmp_path / "server") as server:
        yield server


def test_a_hundred_killed_workers_lose_nothing(url: str, tiny: StudySpec) -> None:
    kills = 100 if url.startswith("postgresql") else 15
    budget, rng = 2 * kills, random.Random(0)
    study = open_study(url, "s", tiny, "data", budget)
    finish_in_spite_of(kills, 0.2, study, Crew(4, url, budget, 0.3), rng)
    accounted_for(study.get_trials(), budget)
    hit = sum(len(record.lost_workers) for record in records_of(study))
    assert kills / 2 < hit <= kills, "most kills hit running trials, and each was noticed once"


def test_killed_workers_cut_no_pair_of_a_stratified_search(url: str, tiny: StudySpec) -> None:
    """A group is a lead that was stopped, or all arms trained to their ends; the budget is exact."""
    spec = replace(tiny, search=replace(tiny.search, design="stratified", pruner="lead"))
    kills, budget, rng = 12, 60, random.Random(1)
    study = open_study(url, "s", spec, "data", budget)
    finish_in_spite_of(kills, 0.4, study, Crew(4, url, budget, 0.3, None, spec), rng)
    found = records_of(study)
    assert [record.number for record in found] == list(range(budget))
    places = [record.place or {} for record in found]
    assert len({(place["group"], place["arm"]) for place in places}) == budget
    alone = 0
    for group in {place["group"] for place in places}:
        members = [record for record in found if (record.place or {})["group"] == group]
        [lead] = [record for record in members if (record.place or {})["lead"]]
        if lead.is_pruned:
            assert len(members) == 1
        elif all(record.ran_to_the_end for record in members):
            alone += len(members) < 3
        else:  # killed for the third time
            assert any(record.outcome == "lost" for record in members)
    assert alone <= 2, "what was left over in the end"
    assert sum(record.is_pruned for record in found) >= 5


def finish_in_spite_of(kills: int, pause: float, study: Study, crew: Crew, rng: random.Random) -> None:
    """Kills running workers, one every now and then, and waits until the crew is done."""
    try:
        for _ in range(kills):
            time.sleep(rng.uniform(0, pause))
            crew.kill(a_running_worker(study, crew, rng))
        assert set(crew.finish()) == {0}
    finally:
        crew.close()


def a_running_worker(study: Study, crew: Crew, rng: random.Random) -> int:
    """The index of a running worker, as soon as there is one."""
    while any(worker.exitcode is None for worker in crew.workers):
        names = [record.worker for record in records_of(study) if record.is_running]
        pids = {int(name.split(":")[1]) for name in names if name}
        found = [i for i, worker in enumerate(crew.workers) if worker.pid in pids]
        if found:
            return rng.choice(found)
        time.sleep(0.01)
    raise AssertionError("the crew has ended before all were killed")


@pytest.mark.parametrize("kind", ["stop", "crash", "freeze"])
@pytest.mark.parametrize("seconds", [0.0, 8.0] + [20.0, 60.0, 120.0] * ("ALL_FAULTS" in os.environ))
def test_workers_outlive_their_database(
    server: PostgresServer, tiny: StudySpec, kind: str, seconds: float
) -> None:
    """The database is away for longer than the grace: nobody is declared dead, nothing is lost, no worker
    ends."""
    if kind == "freeze" and not seconds:
        pytest.skip("frozen for no time is not frozen")
    budget = 24
    study = open_study(server.new_database(), "s", tiny, "data", budget)
    url = str(claims_of(study).url)
    crew = Crew(3, url, budget, 2.0)
    try:
        until(lambda: len(finished(study)) >= 2)
        if kind == "freeze":
            server.freeze()
            time.sleep(seconds)
            server.thaw()
        else:
            server.stop(at_once=kind == "crash")
            time.sleep(seconds)
            server.start()
        assert crew.finish() == [0] * 3
    finally:
        server.thaw()
        crew.close()
    accounted_for(study.get_trials(), budget)
    assert all(r.ran_to_the_end and r.attempt == 1 for r in records_of(study)), "reaped alive"


def test_a_worker_that_joins_while_the_database_is_away_waits_for_it(
    server: PostgresServer, tiny: StudySpec
) -> None:
    """It joins as one does that replaces another."""
    url = server.new_database()
    study = open_study(url, "s", tiny, "data", 4)
    server.stop()
    crew = Crew(2, url, 4, 0.1)
    time.sleep(3)
    assert [worker.exitcode for worker in crew.workers] == [None, None]
    server.start()
    assert crew.finish() == [0, 0]
    accounted_for(study.get_trials(), 4)


def test_told_to_stop_it_ends_though_the_database_never_answers(
    server: PostgresServer, tmp_path: Path
) -> None:
    """A frozen server keeps its connections and says nothing: no call comes back, no error is raised."""
    (tmp_path / "real.toml").write_text(REAL.replace("epochs = 60", "epochs = 3000"))
    url = server.new_database()
    words = ["--study", str(tmp_path / "real.toml"), "--trials", "1", "--workers", "2", "--storage", url]
    command = subprocess.Popen(
        [sys.executable, "-m", "search.run", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    try:
        database = url.rpartition("/")[2]
        until(lambda: server.admin("SELECT to_regclass('trial_intermediate_values')", database)[0][0])
        until(lambda: server.admin("SELECT count(*) FROM trial_intermediate_values", database)[0][0] > 3)
        server.freeze()
        command.terminate()
        out, _ = command.communicate()
        server.thaw()
        assert command.returncode == 0, out
        assert "after the word to stop" in out
        assert list((tmp_path / "checkpoints").rglob("*.pt")), "the trial goes on where it was"
    finally:
        server.thaw()
        command.kill()


CRASHES = ("ask", "claimed", "suggested", "report", "reported", "finish", "finished")


class Crash:
    """Ends the process by SIGKILL at one point of its first trial."""

    def __init__(self, point: str) -> None:
        self.point = point

    def __call__(self, claims: Any) -> None:
        def die(*_: Any, **__: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def before(name: str) -> None:
            setattr(claims, name, die)

        def after(name: str) -> None:
            stock = getattr(claims, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                stock(*args, **kwargs)
                die()

            setattr(claims, name, call)

        {
            "ask": lambda: before("_create_new_trial"),
            "claimed": lambda: after("_create_new_trial"),
            "suggested": lambda: after("_set_trial_param"),
            "report": lambda: before("set_trial_intermediate_value"),
            "reported": lambda: after("set_trial_intermediate_value"),
            "finish": lambda: before("finish"),
            "finished": lambda: after("finish"),
        }[self.point]()


@pytest.mark.parametrize("point", CRASHES)
def test_a_worker_killed_at_any_step_of_a_trial(url: str, tiny: StudySpec, point: str) -> None:
    study = open_study(url, "s", tiny, "data", 3)
    victim = CONTEXT.Process(target=stub_work, args=(url, 3, 0.0, Crash(point)))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    crew = Crew(1, url, 3, 0.0)
    assert crew.finish() == [0]
    accounted_for(study.get_trials(), 3)
    assert all(trial.state == TrialState.COMPLETE for trial in study.get_trials())


def test_a_stopped_worker_gives_its_trial_back_at_once(url: str, tiny: StudySpec) -> None:
    study = open_study(url, "s", tiny, "data", 2)
    crew = Crew(1, url, 2, 30.0)
    try:
        until(lambda: [t.state for t in study.get_trials(deepcopy=False)] == [TrialState.RUNNING])
        worker = crew.workers[0]
        worker.terminate()
        worker.join()
        assert worker.exitcode == 0
        [trial] = study.get_trials()
        assert (trial.state, TrialRecord(trial).attempt) == (TrialState.WAITING, 0)
    finally:
        crew.close()


class Sleeps:
    """Stops the process in the middle of its first trial, when none of its threads is in a transaction: locks
    that it held would keep all others waiting until it wakes."""

    def __call__(self, claims: PatientStorage) -> None:
        asleep, idle, stock = threading.Event(), threading.Lock(), claims._set_trial_param

        def alone(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any) -> Any:
                with idle:
                    return call(*args)

            return called

        def then_sleep(*args: Any) -> None:
            stock(*args)
            if not asleep.is_set():
                asleep.set()
                with idle:
                    os.kill(os.getpid(), signal.SIGSTOP)

        for name in ("beat", "reap"):  # what its heart does meanwhile
            setattr(claims.direct, name, alone(getattr(claims.direct, name)))
        claims._set_trial_param = then_sleep  # type: ignore[method-assign]


def is_stopped(process: Any) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_worker_that_slept_writes_nothing_over_its_successor(url: str, tiny: StudySpec) -> None:
    """Stopped for longer than the grace, as a laptop or a preempted machine is, it wakes up and goes on."""
    study = open_study(url, "s", tiny, "data", 3)
    sleeper = CONTEXT.Process(target=stub_work, args=(url, 3, 1.5, Sleeps()))
    sleeper.start()
    until(lambda: is_stopped(sleeper))
    crew = Crew(1, url, 3, 1.5)
    try:
        until(lambda: records_of(study)[0].attempt == 2)
        sleeper_name = records_of(study)[0].lost_workers
        os.kill(sleeper.pid, signal.SIGCONT)
        assert crew.finish() == [0]
        sleeper.join()
        assert sleeper.exitcode == 0
    finally:
        crew.close()
        sleeper.kill()
        sleeper.join()
    accounted_for(study.get_trials(), 3)
    first, *others = records_of(study)
    assert (first.attempt, first.lost_workers) == (2, sleeper_name)
    assert first.worker not in sleeper_name
    assert [record.attempt for record in others] == [1, 1]


def test_sixteen_workers_begin_on_an_empty_database(url: str, tiny: StudySpec) -> None:
    processes = [CONTEXT.Process(target=open_and_ask, args=(url, tiny)) for _ in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    trials = open_study(url, "s", tiny, "data", 16).get_trials()
    assert [trial.number for trial in trials] == list(range(16))


def open_and_ask(url: str, spec: StudySpec) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    open_study(url, "s", spec, "data", 16)
    study, claims = joined(url, worker_name(), 16)
    claims.finish(trial_id_of(study.ask()), TrialState.COMPLETE, 0.5, {"outcome": "complete"})


REAL = """
[data]
name = "digits"
limit = 400
[space]
block = ["preact"]
blocks = 2
widths = [[8]]
norm = ["batch"]
optimizer = "sgd"
lr_sgd = 0.02
weight_decay = 1e-4
warmup = 0.1
[train]
epochs = 60
batch_size = 32
crop = 1
[search]
pruner = "none"
"""


def train_for_real(job: Job) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    work(job, stop)


def real_trial(
    folder: Path, name: str, stop: Callable[[Study, Any, int], None], stops: int, text: str = REAL
) -> FrozenTrial:
    """A trial that is really trained, by a worker that is stopped `stops` times and replaced each time."""
    (folder / "real.toml").write_text(text)
    spec = load_spec(folder / "real.toml")
    fingerprint = load(spec.data).fingerprint()
    url = f"sqlite:///{folder}/{name}.db"
    study = open_study(url, "s", spec, fingerprint, 1)
    job = Job(spec, url, "s", 1, "cpu", fingerprint)
    for count in range(stops + 1):
        worker = CONTEXT.Process(target=train_for_real, args=(job,))
        worker.start()
        if count < stops:
            stop(study, worker, count)
        worker.join()
        if worker.exitcode == 0 and finished(study):
            break
    [trial] = study.get_trials()
    assert trial.state == TrialState.COMPLETE
    return trial


def same_run(trial: FrozenTrial, other: FrozenTrial) -> None:
    """Asserts that the two runs are the same, bit for bit."""
    assert trial.intermediate_values == other.intermediate_values
    one, two = TrialRecord(trial), TrialRecord(other)
    for name in (
        "train_accuracy", "val_accuracy", "val_loss", "diagnostics", "loss_at_start", "epochs", "curve",
    ):  # fmt: skip
        assert getattr(one, name) == getattr(two, name) is not None, name


def test_a_trial_killed_again_and_again_ends_bit_for_bit_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real training, real SIGKILL: twice in mid-run, taken over by the next worker from its checkpoint."""
    monkeypatch.setenv("ARCHSEARCH_CHECKPOINT_SECONDS", "0")

    def kill(study: Study, worker: Any, count: int) -> None:
        until(lambda: len(_values(study)) > 15 * (count + 1))
        worker.kill()

    whole, killed = real_trial(tmp_path, "whole", kill, 0), real_trial(tmp_path, "killed", kill, 2)
    assert (TrialRecord(whole).attempt, TrialRecord(killed).attempt) == (1, 3)
    assert len(TrialRecord(killed).lost_workers) == 2
    same_run(killed, whole)
    assert not list((tmp_path / "checkpoints").glob("*/*")), "finished trials leave no checkpoint"


def test_interrupted_every_few_seconds_it_ends_bit_for_bit_as_without(tmp_path: Path) -> None:
    """Machines that are lent for moments interrupt like this. Being told to stop spends no attempt, however
    often."""
    rng = random.Random(0)
    text = REAL.replace("epochs = 60", "epochs = 400")

    def interrupt(study: Study, worker: Any, count: int) -> None:
        worker.join(rng.uniform(2, 4))
        worker.terminate()

    began = time.monotonic()
    whole = real_trial(tmp_path, "whole", interrupt, 0, text)
    between = time.monotonic()
    interrupted = real_trial(tmp_path, "interrupted", interrupt, 100, text)
    ratio = (time.monotonic() - between) / (between - began)
    print(f"{between - began:.1f} s without, {ratio:.2f} times as long when interrupted")
    assert TrialRecord(interrupted).attempt == 1
    same_run(interrupted, whole)


def _values(study: Study) -> dict[int, float]:
    trials = study.get_trials(deepcopy=False)
    return trials[0].intermediate_values if trials else {}
