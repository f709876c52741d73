"""Stored trials trained again: what is trained, what is said of it, where it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

from models.architecture import Architecture
from models.network import build, weights_fingerprint
from search.data.datasets import load
from search.design.variations import Recipe
from search.errors import SpecError
from search.spec.study import StudySpec
from search.storage.trial_record import TrialRecord
from search.training.results import EpochResult
from search.trials import repetition
from search.trials.listeners import Ended, Listener
from search.trials.repetition import Repetition, difference, recipe_of
from tests.support.made_trials import made
from tests.support.made_up import Halved, installed
from tests.support.repeats import Repeats
from tests.support.runs import epoch, result

pytestmark = pytest.mark.slow

optuna.logging.set_verbosity(optuna.logging.ERROR)
SAME_RUN = ("curve", "train_accuracy", "val_accuracy", "val_loss", "loss_at_start", "diagnostics", "cause")
SAME_NETWORK = ("architecture", "arm", "seed", "depth", "params", "macs", "fingerprint", "device")


@pytest.fixture
def repeats(tmp_path: Path, tiny: StudySpec) -> Repeats:
    return Repeats(tmp_path, tiny)


def test_nothing_changed_is_the_same_run_to_the_last_bit(repeats: Repeats) -> None:
    for origin in (repeats.trials[0], repeats.trials[2]):
        kept = repeats.kept(origin)
        attrs = kept.user_attrs
        assert (attrs["origin"], attrs["changed"]) == (origin.number, {})
        assert attrs["difference"] == ("identical: all 3 epochs, training accuracy and loss, to the last bit")
        assert kept.intermediate_values == origin.intermediate_values
        assert kept.value == origin.value
        for name in (*SAME_RUN, *SAME_NETWORK):
            assert attrs[name] == origin.user_attrs[name], name
        assert kept.state == TrialState.COMPLETE
        assert kept.params.items() >= origin.params.items()


def test_a_twin_is_the_follower_that_the_search_trained(repeats: Repeats) -> None:
    lead, follower = repeats.trials[:2]
    arm = follower.user_attrs["arm"]
    kept = repeats.kept(lead, block=arm)
    assert kept.user_attrs["changed"] == {"block": arm}
    assert "difference" not in kept.user_attrs, "it is no repeat of the same"
    assert kept.intermediate_values == follower.intermediate_values
    for name in (*SAME_RUN, *SAME_NETWORK):
        assert kept.user_attrs[name] == follower.user_attrs[name], name
    fingerprints = {
        weights_fingerprint(build(Architecture.from_json(t.user_attrs["architecture"]), t.user_attrs["seed"]))
        for t in (lead, kept)
    }
    assert len(fingerprints) == 1


class Impatient(Listener):
    """Wants to stop at once."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def began(self, *told: Any) -> None:
        self.events.append("began")

    def epoch_ended(self, result: EpochResult) -> bool:
        self.events.append(f"epoch {result.epoch}")
        return True

    def ended(self, end: Ended) -> dict[str, Any]:
        self.events.append(f"ended {len(end.result.epochs)}")
        return {"weights": "its own"}

    def close(self) -> None:
        self.events.append("close")


def test_a_repeat_is_trained_to_its_end_whatever_a_listener_wishes(repeats: Repeats) -> None:
    listener = Impatient()
    again, _ = repeats.again(repeats.trials[0], [listener])
    assert listener.events == ["began", "epoch 1", "epoch 2", "epoch 3", "ended 3", "close"]
    assert again.attributes["outcome"] == "complete"
    assert again.attributes["weights"] == "its own"
    assert again.value == repeats.trials[0].value


def test_listeners_are_closed_though_it_fails(repeats: Repeats, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(repetition, "train", fails)
    listener = Impatient()
    with pytest.raises(torch.OutOfMemoryError):
        repeats.again(repeats.trials[0], [listener])
    assert listener.events == ["began", "close"]


def test_on_a_cpu_it_takes_one_thread_as_a_search_does(repeats: Repeats) -> None:
    torch.set_num_threads(2)
    repeats.again(repeats.trials[0])
    assert torch.get_num_threads() == 1


# repeats of repeats


def test_a_repeat_of_a_repeat_trains_the_same_network_in_the_same_way(repeats: Repeats) -> None:
    origin = repeats.trials[0]
    first = repeats.kept(origin, depth="+4", seed=77, settings={"epochs": 2, "clip": 0.5, "norm": "none"})
    assert (first.user_attrs["depth"], first.user_attrs["seed"]) == (origin.user_attrs["depth"] + 4, 77)
    second = repeats.kept(first, of="s-repeat")
    assert second.user_attrs["difference"].startswith("identical: all 2 epochs")
    assert second.params == first.params
    for name in (*SAME_RUN, *SAME_NETWORK):
        assert second.user_attrs[name] == first.user_attrs[name], name


def test_a_study_of_repeats_takes_an_arm_that_is_newer(repeats: Repeats) -> None:
    """Optuna lets no choice be added to a study: the arm is told by its attributes."""
    origin = repeats.trials[0]
    repeats.kept(origin)
    with installed(Halved):
        newer = repeats.kept(origin, block="halved")
        assert "block" not in newer.params
        assert newer.user_attrs["arm"] == "halved"
        assert newer.user_attrs["changed"] == {"block": "halved"}
        assert Architecture.from_json(newer.user_attrs["architecture"]).block == "halved"
        again = repeats.kept(newer, of="s-repeat")
        assert again.user_attrs["difference"].startswith("identical")
        for name in (*SAME_RUN, *SAME_NETWORK):
            assert again.user_attrs[name] == newer.user_attrs[name], name
    older = repeats.kept(origin, block="plain")
    assert older.params["block"] == "plain", "the others keep theirs"
    assert [trial.number for trial in repeats.stored()] == [0, 1, 2]


def test_repeats_of_any_size_fit_into_one_study(repeats: Repeats) -> None:
    origin = repeats.trials[0]
    repeats.kept(origin)
    wide = repeats.kept(origin, settings={"width_1": 33, "warmup": 0.31, "weight_decay": 0.0})
    deep = repeats.kept(origin, depth="31")
    rate = f"lr_{origin.params['optimizer']}"
    tuned = repeats.kept(origin, settings={rate: 1e-7})
    assert (wide.params["width_1"], wide.params["warmup"], wide.params["weight_decay"]) == (33, 0.31, 0.0)
    assert deep.params["blocks_1"] == 15
    assert tuned.params[rate] == 1e-7


def test_the_split_of_a_confirmations_run_stays_with_its_repeat(repeats: Repeats) -> None:
    origin = repeats.trials[0]
    assert "data_seed" not in repeats.kept(origin).user_attrs
    origin.user_attrs["data_seed"] = 99
    assert repeats.kept(origin).user_attrs["data_seed"] == 99


# what a recipe is made of


def test_a_recipe_is_read_from_what_is_stored(tiny: StudySpec) -> None:
    fixed = replace(tiny, space=replace(tiny.space, warmup=(0.25,)))
    trial = made(5, "preact", seed=123)
    trial.params |= {"blocks_1": 2, "width_1": 6, "lr_sgd": 0.02}
    recipe = recipe_of(TrialRecord(trial), fixed)
    assert (recipe.seed, recipe.train) == (123, tiny.train)
    assert recipe.values["block"] == "preact"
    assert (recipe.values["blocks_1"], recipe.values["lr_sgd"]) == (2, 0.02)
    assert recipe.values["warmup"] == 0.25, "what is fixed is not stored"


def test_the_arm_is_the_one_that_was_trained(tiny: StudySpec) -> None:
    """A trial whose arm has no place among its parameters."""
    trial = made(5, "preact", seed=123)
    trial.params["block"] = "plain"
    assert recipe_of(TrialRecord(trial), tiny).values["block"] == "preact"


def test_a_trial_without_a_seed_is_none_of_ours(tiny: StudySpec) -> None:
    with pytest.raises(SpecError, match="trial 5 has no seed: it was not trained by archsearch"):
        recipe_of(TrialRecord(made(5, "plain")), tiny)


def test_a_network_that_cannot_be_is_told(repeats: Repeats) -> None:
    recipe = recipe_of(TrialRecord(repeats.trials[0]), repeats.spec)
    impossible = replace(recipe, values=recipe.values | {"width_1": 0})
    with pytest.raises(SpecError, match="there is no such network: "):
        repetition.repeat(impossible, repeats.spec, load(repeats.spec.data), "cpu", [])


# what is said


def repetition_of(epochs: int = 5, **attributes: Any) -> Repetition:
    values = {"outcome": "complete", "train_accuracy": 0.605, "val_loss": 3.5} | attributes
    return Repetition(Recipe({}, None, 0), result(epochs=epochs), 0.254, values)  # type: ignore[arg-type]


def stored(epochs: int = 5, value: float = 0.254, **attributes: Any) -> FrozenTrial:
    values = {"outcome": "complete", "train_accuracy": 0.605, "val_loss": 3.5} | attributes
    state = TrialState.PRUNED if values["outcome"] == "pruned" else TrialState.COMPLETE
    trial = made(7, "plain", value, state=state, **values)
    trial.intermediate_values = {number: epoch(number).val_accuracy for number in range(1, epochs + 1)}
    return trial


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        (stored(), "identical: all 5 epochs, training accuracy and loss, to the last bit"),
        (
            stored(3, outcome="pruned", train_accuracy=0.1),
            "identical in the 3 epochs that it had; trained to the end it reaches 25.4 %",
        ),
        (
            stored(value=0.244, train_accuracy=0.606),
            "not identical: differs in the end, validation accuracy by +1.00 points",
        ),
        (
            stored(value=0.264, val_loss=3.6),
            "not identical: differs in the end, validation accuracy by -1.00 points",
        ),
        (
            stored(outcome="diverged"),
            "not identical: differs in the end, validation accuracy by +0.00 points",
        ),
        (stored(6), "not identical: differs in the end, validation accuracy by +0.00 points"),
        (
            stored(members=3, val_loss=3.6),
            "not identical: differs in the end, validation accuracy by +0.00 points; it was one of 3 runs in "
            "one network, whose sums round otherwise",
        ),
        (stored(members=3), "identical: all 5 epochs, training accuracy and loss, to the last bit"),
    ],
)
def test_what_an_unchanged_repeat_shows(origin: FrozenTrial, says: str) -> None:
    assert difference(TrialRecord(origin), repetition_of()) == says


def test_the_first_epoch_that_differs_is_told() -> None:
    for first in (1, 4):
        origin = stored()
        for number in range(first, 6):
            origin.intermediate_values[number] += 0.125
        says = f"not identical: differs from epoch {first} on, validation accuracy by +0.00 points"
        assert difference(TrialRecord(origin), repetition_of()) == says
    pruned = stored(3, outcome="pruned")
    pruned.intermediate_values[2] = 0.5
    assert difference(TrialRecord(pruned), repetition_of()) == "not identical: differs from epoch 2 on"
