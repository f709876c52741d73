"""Trials trained again, on a real database."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from models.architecture import Architecture
from models.network import build, weights_fingerprint
from search.repeat import main
from search.spec.study import StudySpec
from search.spec.study_file import load_spec
from tests.support.bench import Bench
from tests.support.studies import TINY


class Repeats:
    """Six trials of the tiny study, and the command on it."""

    def __init__(self, folder: Path, spec: StudySpec, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        bench = Bench(folder, spec)
        for _ in range(6):
            bench.run()
        self.study, self.trials = bench.study, bench.study.get_trials()
        self.url = f"sqlite:///{folder}/objective.db"

    def __call__(self, *words: str, code: int = 0) -> str:
        path = self.folder / "tiny.toml"
        assert main([*words, "--study", str(path), "--name", "s", "--storage", self.url]) == code
        shown = self.capsys.readouterr()
        return shown.err if code else shown.out

    def kept(self) -> list[FrozenTrial]:
        return optuna.load_study(study_name="s-repeat", storage=self.url).get_trials()


@pytest.fixture
def repeats(tmp_path: Path, tiny: StudySpec, capsys: pytest.CaptureFixture[str]) -> Repeats:
    return Repeats(tmp_path, tiny, capsys)


def test_nothing_changed_is_identical_to_the_last_bit(repeats: Repeats) -> None:
    for number in (0, 4):
        out = repeats(str(number))
        assert "identical: all 3 epochs, training accuracy and loss, to the last bit" in out
    for number, kept in zip((0, 4), repeats.kept(), strict=True):
        origin = repeats.trials[number]
        assert (kept.user_attrs["origin"], kept.user_attrs["changed"]) == (number, {})
        assert kept.user_attrs["difference"].startswith("identical")
        assert kept.intermediate_values == origin.intermediate_values
        assert kept.value == origin.value


def test_what_differs_is_told(repeats: Repeats) -> None:
    """As if it had been trained elsewhere."""
    with repeats.study._storage._backend._transaction() as session:  # type: ignore[attr-defined]
        session.connection().exec_driver_sql(
            "UPDATE trial_intermediate_values SET intermediate_value = 0.05 WHERE trial_id = 1 AND step = 2"
        )
        session.connection().exec_driver_sql(
            "UPDATE trial_user_attributes SET value_json = '\"cuda\"' WHERE trial_id = 1 AND key = 'device'"
        )
    out = repeats("0")
    assert "not identical: differs from epoch 2 on, validation accuracy by +0.00 points" in out
    assert "then on cuda with torch" in out


def test_a_pruned_trial_is_compared_where_it_ran_and_trained_to_the_end(repeats: Repeats) -> None:
    with repeats.study._storage._backend._transaction() as session:  # type: ignore[attr-defined]
        session.connection().exec_driver_sql("UPDATE trials SET state = 'PRUNED' WHERE trial_id = 1")
        session.connection().exec_driver_sql(
            "DELETE FROM trial_intermediate_values WHERE trial_id = 1 AND step > 1"
        )
    assert "identical in the 1 epochs that it had; trained to the end it reaches" in repeats("0", "--quiet")


def test_a_twin_is_the_same_trial_with_another_block(repeats: Repeats) -> None:
    """And so is the follower that the search trained."""
    lead, follower = repeats.trials[0], repeats.trials[1]
    out = repeats("0", "--block", follower.user_attrs["arm"], "--quiet")
    assert f"changed: block = {follower.user_attrs['arm']}" in out
    [kept] = repeats.kept()
    assert kept.intermediate_values == follower.intermediate_values
    assert kept.user_attrs["changed"] == {"block": follower.user_attrs["arm"]}
    networks = [
        build(Architecture.from_json(t.user_attrs["architecture"]), t.user_attrs["seed"])
        for t in (lead, kept)
    ]
    assert weights_fingerprint(networks[0]) == weights_fingerprint(networks[1])
    assert not torch.equal(networks[0].stem.conv.weight, torch.zeros(1))


def test_depth_seed_and_settings(repeats: Repeats) -> None:
    depth = repeats.trials[0].user_attrs["depth"]
    out = repeats("0", "--depth", "+6")
    assert f"depth, convs: {depth} then, {depth + 6} now" in out
    repeats("0", "--depth", "5", "--seed", "7", "--quiet")
    out = repeats("0", "--set", "epochs=2", "--set", "optimizer=adamw", "--set", "lr_adamw=0.004", "--quiet")
    assert "ended: " in out
    deeper, other, short = repeats.kept()
    assert deeper.user_attrs["depth"] == depth + 6
    assert (other.user_attrs["depth"], other.user_attrs["seed"]) == (5, 7)
    assert short.user_attrs["epochs"] == 2
    assert (short.params["optimizer"], short.params["lr_adamw"]) == ("adamw", 0.004)
    assert short.user_attrs["changed"] | {"optimizer": "adamw"} == {
        "optimizer": "adamw", "lr_adamw": 0.004, "epochs": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["99"], "no trial 99 in the study 's': it has 0 to 5"),
        (["0", "--depth", "8"], "--depth must be a number of convs that blocks of two can make"),
        (["0", "--depth", "-60"], "--depth must be a number of convs"),
        (["0", "--depth", "deep"], "got 'deep'"),
        (["0", "--set", "lr=1"], "--set lr is not a value of a trial: known are blocks_1, width_1, norm"),
        (["0", "--set", "epochs=many"], "--set epochs must be a whole number from 1 to 100000, got 'many'"),
        (["0", "--set", "width_1=0"], "--set width_1 must be a whole number from 1 to 4096, got 0"),
        (["0", "--set", "epochs"], "--set must be KEY=VALUE, got 'epochs'"),
        (["0", "--set", "optimizer=sgd", "--set", "lr_adamw=0.1"], "--set lr_adamw changes nothing"),
    ],
)
def test_mistakes_are_told(repeats: Repeats, words: list[str], says: str) -> None:
    assert says in repeats(*words, code=2)
    assert "s-repeat" not in optuna.get_all_study_names(repeats.url), "nothing is made"


def test_a_trial_that_never_ran_cannot_be_repeated(repeats: Repeats) -> None:
    repeats.study.enqueue_trial({"block": "plain"})
    assert "has not been trained: repeat it when it has" in repeats("6", code=2)


def test_another_study_file_is_refused(repeats: Repeats) -> None:
    (repeats.folder / "tiny.toml").write_text(TINY.replace("batch_size = 32", "batch_size = 16"))
    assert "train.batch_size: 32 in the study, 16 now" in repeats("0", code=2)


def test_repeats_are_no_search(repeats: Repeats) -> None:
    repeats("0", "--quiet")
    kept: Study = optuna.load_study(study_name="s-repeat", storage=repeats.url)
    assert kept.user_attrs["kind"] == "collection of repeats"
    assert kept.trials[0].state == TrialState.COMPLETE
    assert load_spec(repeats.folder / "tiny.toml").fingerprint() == kept.user_attrs["spec_fingerprint"]
