"""The command as a person runs it: real processes, a real database, real signals."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState

from search.run import main
from search.storage.trial_record import TrialRecord
from tests.support.commands import Command
from tests.support.paths import REPOSITORY
from tests.support.studies import TINY

optuna.logging.set_verbosity(optuna.logging.ERROR)


def slow(command: Command) -> None:
    """Trials that last long enough to be interrupted."""
    command.study.write_text(TINY.replace("epochs = 3", "epochs = 3000"))


def test_a_search_from_start_to_end_and_on(command: Command) -> None:
    first = command.run("--trials", "7", "--workers", "2")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    lines = first.stdout.splitlines()
    assert lines[:2] == ["loading digits", "starting 2 workers (cpu)"]
    assert [line.split()[0] for line in lines[2:9]] == [f"{i}/7" for i in range(1, 8)]
    assert "tiny: 7 of 7 trials done" in first.stdout
    assert "exploratory" in first.stdout
    assert f"python -m search.dashboard --open --storage {command.url}" in first.stdout

    more = command.run("--trials", "9", "--workers", "1")
    assert "tiny: 9 of 9 trials done" in more.stdout
    done = command.run("--trials", "9")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny: 9 of 9 trials done" in done.stdout
    trials = command.trials()
    assert [trial.number for trial in trials] == list(range(9))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)


def test_a_study_that_says_nothing_of_its_design_is_stratified_and_ends_with_the_answer(
    command: Command,
) -> None:
    """Groups are stopped leads or whole ones, whatever two workers do at once; the budget may grow."""
    command.study.write_text(TINY.replace('design = "matched"\npruner = "none"\n', ""))
    for trials in ("14", "20"):
        ended = command.run("--trials", trials, "--workers", "2", "--quiet")
        assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    [answer] = [i for i, line in enumerate(lines) if line.startswith("Exploratory, 20 trials: ")]
    assert lines[-1].startswith("Next: python -m search.confirm --study=")
    assert all(line.startswith("  trial ") for line in lines[answer + 1 : -1])
    found = [TrialRecord(trial) for trial in command.trials()]
    assert [record.number for record in found] == list(range(20))
    groups: dict[int, list[TrialRecord]] = defaultdict(list)
    for record in found:
        groups[(record.place or {})["group"]].append(record)
    whole = [members for members in groups.values() if len(members) == 3]
    assert len(whole) >= 4
    assert all(record.ran_to_the_end for members in whole for record in members)
    for members in groups.values():
        assert len({record.stratum for record in members}) == 1
        [lead] = [record for record in members if (record.place or {})["lead"]]
        assert len(members) == 1 or not lead.is_pruned
    cut = [members for members in groups.values() if not members[0].is_pruned and len(members) < 3]
    assert len(cut) <= 2, "what was left over"
    assert {record.stratum for record in found} == {"3", "5", "7"}


def test_the_number_of_workers_does_not_change_a_trial(command: Command, tmp_path: Path) -> None:
    """Same seed: the same trials with the same curves, from one worker in this process or from three. The
    sampler is random, since what TPE knows depends on who finished first."""
    curves = []
    for workers in ("1", "3"):
        (tmp_path / workers).mkdir()
        one = Command(tmp_path / workers)
        one.study.write_text(TINY.replace("[search]", '[search]\nsampler = "random"'))
        assert one.run("--trials", "12", "--workers", workers, "--quiet").returncode == 0
        curves.append([(trial.params, trial.intermediate_values, trial.value) for trial in one.trials()])
    assert curves[0] == curves[1]


def test_commands_started_at_once_share_one_budget(command: Command) -> None:
    processes = [command.start("--trials", "10", "--workers", "1") for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "tiny: 10 of 10 trials done" in out
    assert len(command.trials()) == 10


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_puts_the_trial_back_and_tells_how_to_go_on(
    command: Command, number: int, code: int, workers: str
) -> None:
    slow(command)
    process = command.start("--trials", "3", "--workers", workers)
    count = int(workers)
    command.wait_for(lambda trials: sum(len(t.intermediate_values) > 2 for t in trials) == count)
    os.killpg(process.pid, number)  # as a terminal does: to the whole group
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    assert f"To continue: python -m search.run --study={command.study} --trials=3" in out
    for trial in command.trials():
        assert trial.state == TrialState.WAITING
        assert trial.user_attrs["attempt"] == 0
        assert trial.intermediate_values == {}


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(command: Command) -> None:
    slow(command)
    process = command.start("--trials", "2", "--workers", "2")
    command.wait_for(lambda trials: sum(len(t.intermediate_values) > 2 for t in trials) == 2)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert {trial.state for trial in command.trials()} == {TrialState.WAITING}


def test_a_killed_worker_is_replaced_and_its_trial_trained_again(command: Command) -> None:
    command.study.write_text(TINY.replace("epochs = 3", "epochs = 200"))
    process = command.start("--trials", "3", "--workers", "2")
    trials = command.wait_for(lambda trials: any(len(t.intermediate_values) > 2 for t in trials))
    victim = next(trial for trial in trials if len(trial.intermediate_values) > 2)
    os.kill(int(victim.user_attrs["worker"].split(":")[1]), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "was ended by SIGKILL. Its trial is queued again. A new one starts." in out
    trials = command.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert trials[victim.number].user_attrs["attempt"] == 2
    assert trials[victim.number].params == victim.params
    assert sorted(trial.user_attrs["arm"] for trial in trials) == ["plain", "preact", "residual"]


def test_a_killed_command_leaves_no_workers_and_can_be_continued(command: Command) -> None:
    command.study.write_text(TINY.replace("epochs = 3", "epochs = 200"))
    process = command.start("--trials", "3", "--workers", "2")
    trials = command.wait_for(lambda trials: sum(len(t.intermediate_values) > 2 for t in trials) == 2)
    workers = {int(trial.user_attrs["worker"].split(":")[1]) for trial in trials if trial.user_attrs}
    process.kill()
    process.communicate()
    command.wait_for(lambda trials: not any(trial.state == TrialState.RUNNING for trial in trials))
    assert not any(_is_running(pid) for pid in workers)
    assert command.run("--trials", "3").returncode == 0
    assert [trial.state for trial in command.trials()] == [TrialState.COMPLETE] * 3


def _is_running(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        if "Z" in (Path("/proc") / str(pid) / "stat").read_text().split()[2:3]:
            return False
        time.sleep(0.1)
    return True


BROKEN = """
import search.training.run
def broken(*args, **kwargs):
    raise KeyError("the bug")
search.training.run.Optimizer = broken
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bug_stops_the_search_with_its_first_traceback(command: Command, workers: str) -> None:
    (command.folder / "sitecustomize.py").write_text(BROKEN)
    result = command.run("--trials", "50", "--workers", workers, PYTHONPATH=f"{command.folder}:{REPOSITORY}")
    assert result.returncode == 1
    assert result.stderr.count("Traceback") == 1
    assert "KeyError: 'the bug'" in result.stderr
    assert re.search(r"error: \d+ of \d+ trials failed, so the search stops", result.stderr)
    count = len(command.trials())
    assert count < 10
    again = command.run("--trials", "50", "--workers", workers, PYTHONPATH=f"{command.folder}:{REPOSITORY}")
    assert again.returncode == 1
    assert len(command.trials()) <= count + int(workers) + 1, "restarts do not fail the whole budget"


@pytest.mark.parametrize("seconds", [0.6, 2.5])
def test_ctrl_c_during_start_up_is_a_line(command: Command, seconds: float) -> None:
    process = command.start("--trials", "3", "--workers", "2")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err


def test_workers_that_are_killed_again_and_again_are_no_success(command: Command) -> None:
    """They are killed as by the system's out-of-memory killer: the command gives up, says so, and loses
    nothing."""
    (command.folder / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'search.workers.worker' in sys.orig_argv: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command.run("--trials", "1", "--workers", "1")
    result = command.run("--trials", "4", "--workers", "2", PYTHONPATH=f"{command.folder}:{REPOSITORY}")
    assert result.returncode == 1, result.stdout
    assert "It is not replaced any more" in result.stdout
    assert "error: " in result.stderr
    assert command.run("--trials", "4").returncode == 0
    assert len(command.trials()) == 4


def test_names_are_printed_as_they_are(command: Command) -> None:
    result = command.run("--trials", "1", "--workers", "1", "--name", "[red]a[/b] :smile:")
    assert result.returncode == 0, result.stderr
    assert "[red]a[/b] :smile:: 1 of 1 trials done" in result.stdout
    assert "'--name=[red]a[/b] :smile:'" in result.stdout


MISTAKES = [
    (["--name", ""], 2, "argument --name: must be 1 to 200 printable characters"),
    (["--study", "a" * 300], 2, "no study file studies/aaa"),
    (["--storage", "mssql+pyodbc://me@127.0.0.1/x"], 2, "needs a driver that is not installed"),
    (["--trials", "0"], 2, "argument --trials: must be a whole number from 1 to 1000000, got 0"),
    (["--trials", "many"], 2, "argument --trials: must be a whole number"),
    (["--workers", "0"], 2, "argument --workers: must be a whole number from 1"),
    (["--seed", "-1"], 2, "argument --seed"),
    (["--study", "nosuch"], 2, "no study file studies/nosuch.toml"),
    (["--storage", "not a url"], 2, "--storage must be a database URL"),
    (["--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/x"], 75, "cannot be used: connection failed"),
    (["--storage", "sqlite:////proc/nowhere/x.db"], 75, "cannot be used"),
    (["--device", "tpu"], 2, "argument --device: invalid choice: 'tpu'"),
    (["--nonsense"], 2, "unrecognized arguments: --nonsense"),
]


class Refused:
    """A command in this process, which refuses to start: its exit code and what it says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.study = folder / "tiny.toml"
        self.study.write_text(TINY)

    def __call__(self, *options: str) -> tuple[int, str]:
        url = f"sqlite:///{self.folder}/search.db"
        try:
            code = main(["--study", str(self.study), "--storage", url, *options])
        except SystemExit as ended:  # as argparse ends
            code = int(ended.code or 0)
        out, err = self.capsys.readouterr()
        assert re.fullmatch(r"(loading \w+\n)?", out)
        return code, err


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(tmp_path, capsys)


@pytest.mark.parametrize(("options", "code", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_told_without_a_traceback(
    refused: Refused, options: list[str], code: int, message: str
) -> None:
    found, err = refused(*options)
    assert (found, message in err) == (code, True), err
    assert "secret" not in err
    if "usage:" not in err:
        assert len(err.splitlines()) <= 2
    assert not (refused.folder / "search.db").exists(), "nothing is made"


def test_bad_data_is_66(refused: Refused) -> None:
    missing = refused.folder / "missing.npz"
    refused.study.write_text(TINY.replace('name = "digits"', f'name = "npz"\npath = "{missing}"'))
    code, err = refused("--trials", "2")
    assert (code, str(missing) in err) == (66, True), err
    assert len(err.splitlines()) <= 2


def test_cuda_asked_for_and_absent_is_69(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, err = refused("--device", "cuda")
    assert (code, "torch sees no GPU" in err) == (69, True), err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ARCHSEARCH_HEARTBEAT": "ten"},
            "ARCHSEARCH_HEARTBEAT must be a number of seconds from 0 up, got 'ten'",
        ),
        ({"ARCHSEARCH_HEARTBEAT": "50"}, "at most half of ARCHSEARCH_GRACE, got 50 and 60"),
        ({"ARCHSEARCH_HEARTBEAT": "0"}, "ARCHSEARCH_HEARTBEAT must be above 0"),
        ({"ARCHSEARCH_GRACE": "-1"}, "ARCHSEARCH_GRACE must be a number of seconds from 0 up, got '-1'"),
    ],
)
def test_settings_are_checked_before_anything_starts(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    code, err = refused("--trials", "2")
    assert (code, message in err) == (2, True), err
    assert not (refused.folder / "search.db").exists()


def test_a_space_that_does_not_fit_the_images_is_refused(refused: Refused) -> None:
    refused.study.write_text(TINY.replace("[train]", "max_params = 10\n[train]"))
    code, err = refused("--trials", "2")
    assert (code, "space.max_params must be at least" in err) == (2, True), err


def test_a_seed_takes_the_place_of_the_study_files(refused: Refused) -> None:
    url = f"sqlite:///{refused.folder}/search.db"
    words = ["--study", str(refused.study), "--storage", url, "--trials", "1", "--workers", "1", "--quiet"]
    assert main([*words, "--seed", "5"]) == 0
    assert "go on:       python -m search.run " in (said := refused.capsys.readouterr().out)
    assert "--seed=5" in said
    study = optuna.load_study(study_name="tiny", storage=url)
    assert study.user_attrs["spec"]["search"]["seed"] == 5
    code, err = refused("--trials", "2")
    assert (code, "search.seed: 5 in the study, 0 now" in err) == (2, True), err


def test_another_spec_under_the_same_name_is_refused(command: Command) -> None:
    assert command.run("--trials", "1").returncode == 0
    command.study.write_text(TINY.replace("epochs = 3", "epochs = 4"))
    result = command.run("--trials", "2")
    assert result.returncode == 2
    assert "train.epochs: 3 in the study, 4 now" in result.stderr
    assert command.run("--trials", "1", "--name", "tiny-2").returncode == 0
    assert len(command.trials("tiny")) == len(command.trials("tiny-2")) == 1


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "python -m search.run --trials 100" in shown
    assert "130 Ctrl-C" in shown


def test_quiet_prints_the_summary_only(command: Command) -> None:
    result = command.run("--trials", "2", "--quiet")
    for word in ("1/2 ", "loading", "starting"):
        assert word not in result.stdout
    assert "tiny: 2 of 2 trials done" in result.stdout


def test_on_a_terminal_the_screen_is_live_and_whole(command: Command) -> None:
    """Under a real pseudo-terminal, with a worker that writes to its output at will."""
    import pty

    noisy = "import os\nos.write(2, b'noise from a library\\n')\n"
    (command.folder / "sitecustomize.py").write_text(noisy)
    words = ["--study", str(command.study), "--storage", command.url, "--trials", "4", "--workers", "2"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        os.environ |= {
            "TERM": "xterm",
            "COLUMNS": "120",
            "LINES": "40",
            "PYTHONPATH": f"{command.folder}:{REPOSITORY}",
        }
        os.execv(sys.executable, [sys.executable, "-m", "search.run", *words])
    output = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert "of 4 trials" in text
    assert "best: " in text
    noise = [line.strip() for line in re.split(r"[\r\n]+", text) if "noise from a library" in line]
    assert len(noise) >= 2
    assert set(noise) <= {
        "worker 1: noise from a library",
        "worker 2: noise from a library",
        "noise from a library",
    }
