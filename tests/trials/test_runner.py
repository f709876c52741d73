"""One trial through the database, with real training on a few digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from models.architecture import Architecture
from search import errors
from search.design.space import suggested_names
from search.errors import DeviceError, StudyFailed
from search.spec.study import StudySpec
from search.storage.leases import ClaimLost
from search.training.results import EpochResult
from search.trials import runner, searching
from search.trials.curve import MEASURES
from search.trials.listeners import Ended, Interrupted, Listener
from search.trials.reporter import Reporter
from search.trials.runner import TrialRunner
from search.trials.setup import Setup
from tests.support.bench import Bench, after
from tests.support.studies import tiny_spec

optuna.logging.set_verbosity(optuna.logging.ERROR)
STEPS = 5
"""Steps of an epoch of the tiny study."""


@pytest.fixture
def bench(tmp_path: Path, tiny: StudySpec) -> Bench:
    return Bench(tmp_path, tiny)


class Spy(Listener):
    """What a trial's listener is told."""

    essential = True

    def __init__(self) -> None:
        self.events: list[str] = []
        self.history: Sequence[EpochResult] = []
        self.epochs: list[EpochResult] = []
        self.end: Ended | None = None
        self.fails: dict[str, Exception] = {}

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        self._told("began")
        self.history = list(history)

    def epoch_ended(self, result: EpochResult) -> bool:
        self._told("epoch_ended")
        self.epochs.append(result)
        return False

    def paused(self) -> dict[str, Any]:
        self._told("paused")
        return {"weights": "as they were at the pause"}

    def ended(self, end: Ended) -> dict[str, Any]:
        self._told("ended")
        self.end = end
        return {"weights": "as they were in the end"}

    def close(self) -> None:
        self._told("close")

    def _told(self, event: str) -> None:
        self.events.append(event)
        if event in self.fails:
            raise self.fails[event]


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> list[Spy]:
    """Spies, one for every attempt; those that a test puts here before are used first."""
    made: list[Spy] = []
    of_the_product = TrialRunner.listeners_of

    def listeners_of(self: TrialRunner, *told: Any) -> Sequence[Listener]:
        made.append(Spy())
        return [*of_the_product(self, *told), made[-1]]

    monkeypatch.setattr(TrialRunner, "listeners_of", listeners_of)
    return made


def failing(error: Exception) -> Callable[..., Any]:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    return fails


# what a trial records


def test_a_trial_records_what_it_was_and_what_came_out(bench: Bench) -> None:
    trial = bench.run()
    attrs = trial.user_attrs
    assert attrs.keys() == {
        "arm", "group", "lead", "seed", "depth", "params", "macs", "architecture", "fingerprint", "outcome",
        "train_accuracy", "val_accuracy", "val_loss", "epochs", "train_seconds", "images_per_second",
        "loss_at_start", "device", "worker", "attempt", "cause", "grad_ratio", "feature_cosine",
        "diagnostics", "gradients", "curve",
    }  # fmt: skip
    architecture = Architecture.from_json(attrs["architecture"])
    assert architecture.block == attrs["arm"] == trial.params["block"] == "plain"
    assert architecture.depth == attrs["depth"] == 1 + 2 * trial.params["blocks_1"]
    assert (attrs["group"], attrs["lead"], attrs["attempt"], attrs["worker"]) == (0, True, 1, "here")
    assert (attrs["outcome"], attrs["epochs"], trial.state) == ("complete", 3, TrialState.COMPLETE)
    assert bench.outcome == "complete"


def test_the_value_is_the_mean_of_the_last_three_epochs(tmp_path: Path) -> None:
    trial = Bench(tmp_path, tiny_spec(tmp_path, ("epochs = 3", "epochs = 5"))).run()
    reported = [trial.intermediate_values[step] for step in (1, 2, 3, 4, 5)]
    assert trial.value == pytest.approx(sum(reported[-3:]) / 3)
    assert trial.value == trial.user_attrs["val_accuracy"]
    assert max(reported) != min(reported)


def test_the_curve_ends_where_the_attributes_say(bench: Bench) -> None:
    trial = bench.run()
    curve = trial.user_attrs["curve"]
    assert curve.keys() == set(MEASURES)
    assert {len(values) for values in curve.values()} == {3}
    for name in ("train_accuracy", "val_loss"):
        assert curve[name][-1] == float(f"{trial.user_attrs[name]:.5g}")
    reported = [float(f"{trial.intermediate_values[step]:.5g}") for step in (1, 2, 3)]
    assert curve["val_accuracy"] == reported


def test_the_same_trial_trained_again_gives_the_same_curve(tmp_path: Path, tiny: StudySpec) -> None:
    curves = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, tiny)
        curves.append([bench.run().user_attrs["curve"] for _ in range(4)])
    assert curves[0] == curves[1]


def test_a_diverged_trial_is_complete_at_chance(tmp_path: Path) -> None:
    spec = tiny_spec(
        tmp_path,
        ("lr_sgd = {low = 0.01, high = 0.1, log = true}", 'lr_sgd = 100.0\noptimizer = "sgd"\nwarmup = 0.0'),
    )
    spec = replace(spec, space=replace(spec.space, norm=("none",), init=("he",)))
    trial = Bench(tmp_path, spec).run()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.COMPLETE, "diverged")
    assert trial.value == trial.user_attrs["val_accuracy"] == 0.1


def test_a_pruned_trial_stops_at_its_rung(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, ("epochs = 3", "epochs = 6"), ('pruner = "none"', 'pruner = "halving"'))
    bench = Bench(tmp_path, replace(spec, space=replace(spec.space, block=("plain",))))
    trials = [bench.run() for _ in range(9)]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert (trial.user_attrs["outcome"], trial.user_attrs["epochs"]) == ("pruned", last)
        assert last in (1, 2, 4)
        assert trial.value == trial.intermediate_values[last]
        assert len(trial.user_attrs["curve"]["val_loss"]) == last


# refusals, before anything is built


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "build", lambda *_: pytest.fail("built"))


@pytest.mark.usefixtures("nothing_is_built")
def test_a_trial_above_max_params_is_infeasible(tmp_path: Path, tiny: StudySpec, spies: list[Spy]) -> None:
    bench = Bench(tmp_path, replace(tiny, space=replace(tiny.space, max_params=10)))
    trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"], bench.outcome) == (
        TrialState.PRUNED, "infeasible", "infeasible",
    )  # fmt: skip
    assert trial.value is None
    assert trial.user_attrs["epochs"] == 0
    assert trial.user_attrs["params"] > 10
    names = suggested_names(tiny.space)
    assert trial.params.keys() == names, "else TPE's joint space would be empty for ever"
    assert not spies, "no listener is made for it"


def test_max_params_is_the_most_that_is_trained(tmp_path: Path, tiny: StudySpec, bench: Bench) -> None:
    params = bench.run().user_attrs["params"]
    for cap, outcome in ((params, "complete"), (params - 1, "infeasible")):
        (tmp_path / outcome).mkdir()
        capped = Bench(tmp_path / outcome, replace(tiny, space=replace(tiny.space, max_params=cap)))
        trial = capped.run()
        assert (trial.user_attrs["params"], trial.user_attrs["outcome"]) == (params, outcome)


@pytest.mark.usefixtures("nothing_is_built")
def test_a_trial_beyond_the_gpu_is_out_of_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def exceeds(*told: Any) -> bool:
        asked.append(told)
        return True

    monkeypatch.setattr(runner, "surely_exceeds", exceeds)
    trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"], bench.outcome) == (TrialState.PRUNED, "oom", "oom")
    assert trial.user_attrs["params"] > 0
    [(architecture, config, images, device)] = asked
    assert architecture.to_json() == trial.user_attrs["architecture"]
    assert config.seed == trial.user_attrs["seed"]
    assert (images, device) == (160, torch.device("cpu")), "training images; validation has 40"


# errors


@pytest.mark.parametrize("name", ["surely_exceeds", "train"])
def test_a_gpu_that_fails_gives_the_trial_back_with_the_cause(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The trial is for another worker; after three of them it is the trial that is to blame."""
    monkeypatch.setattr(runner, name, failing(torch.AcceleratorError("CUDA error: unknown error")))
    for attempt in (1, 2, 3):
        with pytest.raises(DeviceError, match="the GPU failed: CUDA error: unknown error"):
            bench.run()
        [trial] = bench.study.get_trials()
        assert trial.state == (TrialState.WAITING if attempt < 3 else TrialState.FAIL)
        assert trial.user_attrs["attempt"] == attempt
        assert not bench.claims.running
    assert trial.user_attrs["outcome"] == "lost"
    assert "AcceleratorError: CUDA error: unknown error" in trial.user_attrs["error"]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("CUDA error: out of memory")],
)
def test_out_of_memory_prunes_the_trial_and_the_worker_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(runner, "train", failing(error))
        trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"], bench.outcome) == (TrialState.PRUNED, "oom", "oom")
    assert "error" not in trial.user_attrs
    assert bench.run().user_attrs["outcome"] == "complete"


def test_an_error_fails_the_trial_and_keeps_its_traceback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "build", lambda *_: {}["no such key"])
    trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"], bench.outcome) == (TrialState.FAIL, "error", "error")
    assert "KeyError: 'no such key'" in trial.user_attrs["error"]
    assert "Traceback" in trial.user_attrs["error"]


def test_of_a_long_traceback_the_end_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "build", failing(ValueError("x" * 2 * runner.MAX_TRACEBACK + "the end")))
    text = bench.run().user_attrs["error"]
    assert len(text) == runner.MAX_TRACEBACK
    assert text.rstrip().endswith("the end")


def test_a_parameter_that_the_space_does_not_know_fails_that_trial_alone(bench: Bench) -> None:
    """Such a trial is one that a person has queued."""
    bench.study.enqueue_trial({"block": "plain", "norm": "layer"})
    trial = bench.run()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, "error")
    assert "layer" in trial.user_attrs["error"]
    assert not bench.claims.running
    assert bench.run().user_attrs["outcome"] == "complete"


@pytest.mark.parametrize(
    ("error", "state", "outcome"),
    [(MemoryError(), TrialState.PRUNED, "oom"), (ValueError("a bug"), TrialState.FAIL, "error")],
)
def test_what_fails_before_training_costs_one_trial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, state: TrialState, outcome: str
) -> None:
    for owner, name in ((searching.SearchTrials, "set_up"), (TrialRunner, "listeners_of")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, failing(error))
            trial = bench.run()
        assert (trial.state, trial.user_attrs["outcome"], bench.outcome) == (state, outcome, outcome), name
    assert bench.run().user_attrs["outcome"] == "complete"


@pytest.mark.parametrize("error", [ClaimLost(), StudyFailed("twins differ"), StorageInternalError("away")])
@pytest.mark.parametrize("place", ["set_up", "build"])
def test_what_is_not_of_its_own_making_finishes_no_trial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spies: list[Spy], error: Exception, place: str
) -> None:
    monkeypatch.setattr(searching.SearchTrials, place, failing(error))
    with pytest.raises(type(error)):
        bench.run()
    [trial] = bench.study.get_trials()
    assert trial.state == TrialState.RUNNING, "whoever runs the loop gives it back"
    assert [spy.events for spy in spies] == ([["close"]] if place == "build" else [])


# interruptions


def test_an_interrupted_trial_goes_on_where_it_stood_and_ends_as_if_it_had_not(
    tmp_path: Path, tiny: StudySpec, bench: Bench, spies: list[Spy]
) -> None:
    trial = bench.run(after(2 * STEPS + 2))
    assert (bench.outcome, trial.state) == ("interrupted", TrialState.RUNNING)
    curve = trial.user_attrs["curve"]
    assert {len(values) for values in curve.values()} == {2}, "what it had is stored"
    assert "outcome" not in trial.user_attrs
    bench.put_back(trial)
    again = bench.run(after(2 * STEPS))  # it has three steps left; anew it would be fifteen
    assert (again.number, again.state, again.params) == (0, TrialState.COMPLETE, trial.params)
    first, second = spies
    assert first.events == ["began", "epoch_ended", "epoch_ended", "paused", "close"]
    assert second.events == ["began", "epoch_ended", "ended", "close"]
    assert (list(first.history), second.history) == ([], first.epochs)
    assert again.user_attrs["curve"]["val_loss"][:2] == curve["val_loss"]

    (tmp_path / "whole").mkdir()
    whole = Bench(tmp_path / "whole", tiny).run()
    for name in ("curve", "train_accuracy", "val_accuracy", "val_loss", "diagnostics", "loss_at_start"):
        assert again.user_attrs[name] == whole.user_attrs[name], name
    assert again.intermediate_values == whole.intermediate_values


def test_an_interrupted_trial_that_had_no_epoch_stores_no_curve(bench: Bench) -> None:
    trial = bench.run(lambda: True)
    assert (bench.outcome, trial.state) == ("interrupted", TrialState.RUNNING)
    assert "curve" not in trial.user_attrs


def test_fields_of_a_pause_and_of_the_end_are_stored(bench: Bench, spies: list[Spy]) -> None:
    trial = bench.run(after(STEPS))
    assert trial.user_attrs["weights"] == "as they were at the pause"
    bench.put_back(trial)
    assert bench.run().user_attrs["weights"] == "as they were in the end"


def test_a_run_whose_reports_cannot_be_written_any_more_is_interrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spies: list[Spy]
) -> None:
    """It is trained to the end, but goes back into the queue; nobody after the reporter is told of an end."""
    monkeypatch.setattr(Reporter, "ended", failing(Interrupted()))
    trial = bench.run()
    assert (bench.outcome, trial.state) == ("interrupted", TrialState.RUNNING)
    assert spies[0].events == ["began", *["epoch_ended"] * 3, "paused", "close"]
    assert len(trial.user_attrs["curve"]["val_loss"]) == 3


def test_reports_are_written_for_as_long_as_the_run_may_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Reporter] = []
    ended = Reporter.ended
    monkeypatch.setattr(Reporter, "ended", lambda self, end: made.append(self) or ended(self, end))
    interrupted = after(10**6)
    trial = bench.run(interrupted)
    [reporter] = made
    assert (reporter.trial.number, reporter.epochs) == (trial.number, 3)
    assert reporter.give_up is interrupted, "who stops a worker does not wait for its database"


def test_only_who_has_finished_loses_its_checkpoints(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> int:
        return len(list(bench.runner.checkpoints.folder.rglob("*.pt")))

    bench.put_back(bench.run(after(STEPS + 1)))
    assert kept() == 1
    with monkeypatch.context() as patched:
        patched.setattr(runner, "train", failing(RuntimeError("CUDA error: unknown error")))
        with pytest.raises(DeviceError):
            bench.run()
        assert kept() == 1, "another worker goes on from there"
        patched.setattr(runner, "train", failing(ValueError("a bug")))
        assert bench.run().state == TrialState.FAIL
        assert kept() == 0
    bench.put_back(bench.run(after(STEPS + 1)))
    assert kept() == 1
    assert bench.run().number == 1
    assert kept() == 0


def test_a_checkpoint_belongs_to_trial_spec_and_torch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Any]] = []
    trial_of = type(bench.runner.checkpoints).trial

    def trial(self: Any, number: int, worker: str, identity: dict[str, Any]) -> Any:
        found.append({"number": number, "owner": worker, **identity})
        return trial_of(self, number, worker, identity)

    monkeypatch.setattr(type(bench.runner.checkpoints), "trial", trial)
    attrs = bench.run().user_attrs
    names = ("arm", "seed", "depth", "architecture", "fingerprint", "device")
    assert found == [
        {name: attrs[name] for name in names}
        | {"number": 0, "owner": "here"}
        | {"spec": bench.runner.trials.spec.fingerprint(), "torch": torch.__version__}
    ]


# listeners


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("complete", "complete"),
        ("interrupted", "interrupted"),
        (torch.OutOfMemoryError(""), "oom"),
        (ValueError("a bug"), "error"),
        (RuntimeError("CUDA error: unknown error"), None),
        (ClaimLost(), None),
        (StudyFailed(""), None),
    ],
    ids=str,
)
def test_listeners_are_closed_whatever_happens(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    spies: list[Spy],
    what: str | Exception,
    expected: str | None,
) -> None:
    if isinstance(what, Exception):
        monkeypatch.setattr(runner, "train", failing(what))
    with suppress(ClaimLost, StudyFailed, DeviceError):
        bench.run(lambda: what == "interrupted")
        assert bench.outcome == expected
    [spy] = spies
    assert spy.events.count("close") == 1
    assert spy.events[-1] == "close"


def test_an_essential_listener_that_fails_fails_the_trial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spies: list[Spy]
) -> None:
    monkeypatch.setattr(Spy, "ended", failing(ValueError("nothing to evaluate")))
    trial = bench.run()
    assert (trial.state, bench.outcome) == (TrialState.FAIL, "error")
    assert "nothing to evaluate" in trial.user_attrs["error"]
    assert spies[0].events[-1] == "close"


def test_what_ended_is_told_with_its_network_and_the_trial_still_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spies: list[Spy]
) -> None:
    states: list[TrialState] = []
    told = Spy.ended

    def ended(self: Spy, end: Ended) -> dict[str, Any]:
        states.extend(trial.state for trial in bench.study.get_trials())
        return told(self, end)

    monkeypatch.setattr(Spy, "ended", ended)
    trial = bench.run()
    assert states == [TrialState.RUNNING]
    end = spies[0].end
    assert end is not None
    assert end.setup.architecture.to_json() == trial.user_attrs["architecture"]
    assert end.network.architecture == end.setup.architecture
    assert list(end.result.epochs) == spies[0].epochs
    assert end.ending.value == trial.value


class Tracker(Listener):
    """A tracker as a person may write it: a file for each trial, a line for each epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def began(self, setup: Setup, history: Sequence[EpochResult]) -> None:
        self._say(f"{setup.architecture.block} at {setup.config.lr:.3g}, {len(history)} epochs before")

    def epoch_ended(self, result: EpochResult) -> bool:
        self._say(f"epoch {result.epoch}: {result.val_accuracy}")
        return False

    def paused(self) -> dict[str, Any]:
        self._say("to be continued")
        return {}

    def ended(self, end: Ended) -> dict[str, Any]:
        self._say(f"{end.ending.outcome}: {end.ending.value}")
        return {}

    def close(self) -> None:
        self._say("over")

    def _say(self, line: str) -> None:
        with self.path.open("a") as file:
            print(line, file=file)


class Tracked(TrialRunner):
    folder: Path

    def listeners_of(
        self, trial: optuna.Trial, setup: Setup, interrupted: Callable[[], bool]
    ) -> Sequence[Listener]:
        usual = super().listeners_of(trial, setup, interrupted)
        return [*usual, Tracker(self.folder / f"{trial.number}.txt")]


def tracked(bench: Bench, folder: Path) -> None:
    bench.runner = Tracked(bench.runner.trials, bench.runner.claims, bench.runner.checkpoints)
    Tracked.folder = folder


def test_a_tracker_is_one_listener(bench: Bench, tmp_path: Path) -> None:
    tracked(bench, tmp_path)
    bench.put_back(bench.run(after(STEPS)))
    trial = bench.run()
    values = trial.intermediate_values
    rate = f"{trial.params['lr_' + trial.params['optimizer']]:.3g}"
    assert (tmp_path / "0.txt").read_text().splitlines() == [
        f"plain at {rate}, 0 epochs before", f"epoch 1: {values[1]}", "to be continued", "over",
        f"plain at {rate}, 1 epochs before", f"epoch 2: {values[2]}", f"epoch 3: {values[3]}",
        f"complete: {trial.value}", "over",
    ]  # fmt: skip


def test_a_tracker_that_is_out_of_order_costs_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "_told", set())
    tracked(bench, tmp_path / "nowhere")
    assert [bench.run().user_attrs["outcome"] for _ in range(2)] == ["complete"] * 2
    told = capsys.readouterr().err
    assert told.startswith("Tracker failed, trials go on without: FileNotFoundError: ")
    assert told.count("\n") == 1
