"""The command that trains a stored trial again, on a real database."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.repeat import main
from search.spec.study import StudySpec
from search.spec.study_file import load_spec
from tests.support.confirmations import NAME, Worker
from tests.support.repeats import Repeats
from tests.support.studies import TINY

pytestmark = pytest.mark.slow

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Desk:
    """A search of four trials, and the command on it."""

    def __init__(self, folder: Path, spec: StudySpec, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.searched = Repeats(folder, spec, trials=4)
        self.trials = self.searched.trials

    def __call__(self, *words: str, name: str = "s", code: int = 0) -> str:
        """What is said, of what went wrong where `code` is not 0."""
        study = ["--study", str(self.folder / "tiny.toml"), "--storage", self.searched.url, "--name", name]
        assert main([*words, *study]) == code
        shown = self.capsys.readouterr()
        assert not (shown.out if code else shown.err)
        return shown.err if code else shown.out

    def kept(self, name: str = "s-repeat") -> list[FrozenTrial]:
        return self.searched.stored(name)


@pytest.fixture
def repeat(tmp_path: Path, tiny: StudySpec, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, tiny, capsys)


def test_nothing_changed_is_identical_to_the_last_bit(repeat: Desk) -> None:
    for number in (0, 3):
        out = repeat(str(number))
        assert f"trial {number} of s: " in out
        assert "identical: all 3 epochs, training accuracy and loss, to the last bit" in out
    for number, kept in zip((0, 3), repeat.kept(), strict=True):
        origin = repeat.trials[number]
        assert (kept.user_attrs["origin"], kept.user_attrs["changed"]) == (number, {})
        assert kept.user_attrs["difference"].startswith("identical")
        assert (kept.intermediate_values, kept.value) == (origin.intermediate_values, origin.value)
    assert "kept as trial 2 of the study s-repeat" in repeat("0", "--quiet")


def test_each_epoch_is_shown_beside_that_of_then_unless_it_is_to_be_quiet(repeat: Desk) -> None:
    out = repeat("1", "--set", "epochs=4")
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == [f"epoch {number}/4" for number in (1, 2, 3, 4)]
    then = [100 * value for value in repeat.trials[1].intermediate_values.values()]
    assert [line.partition(", then ")[2] for line in lines] == [*(f"{value:.1f} %" for value in then), ""]
    assert "epoch 2/" not in repeat("1", "--quiet")


def test_what_differs_is_told(repeat: Desk) -> None:
    """The stored trial is changed as if it had been trained elsewhere."""
    repeat.searched.rewrite(
        "UPDATE trial_intermediate_values SET intermediate_value = 0.05 WHERE trial_id = 1 AND step = 2",
        "UPDATE trial_user_attributes SET value_json = '\"cuda\"' WHERE trial_id = 1 AND key = 'device'",
    )
    out = repeat("0")
    assert "not identical: differs from epoch 2 on, validation accuracy by +0.00 points" in out
    assert "then on cuda with torch" in out
    assert ", now on cpu with torch" in out


def test_a_pruned_trial_is_compared_where_it_ran_and_trained_to_the_end(repeat: Desk) -> None:
    repeat.searched.rewrite(
        "UPDATE trials SET state = 'PRUNED' WHERE trial_id = 1",
        "DELETE FROM trial_intermediate_values WHERE trial_id = 1 AND step > 1",
    )
    assert "identical in the 1 epochs that it had; trained to the end it reaches" in repeat("0", "--quiet")


def test_a_changed_trial_is_told_beside_the_one_of_then(repeat: Desk) -> None:
    follower = repeat.trials[1].user_attrs
    out = repeat("0", "--block", follower["arm"], "--quiet")
    assert f"changed: block = {follower['arm']}" in out
    [kept] = repeat.kept()
    then = repeat.trials[0].user_attrs
    for label, name, scale in (
        ("validation accuracy, %", "val_accuracy", 100),
        ("training accuracy, %", "train_accuracy", 100),
        ("log10 gradient ratio", "grad_ratio", 1),
        ("feature cosine", "feature_cosine", 1),
    ):
        now = kept.user_attrs[name]
        assert f"{label}: {scale * then[name]:,.4g} then, {scale * now:,.4g} now" in out
        assert now == follower[name]
    assert f"parameters: {then['params']:,} then, {kept.user_attrs['params']:,} now" in out
    assert f"ended: {then['cause']} then, {kept.user_attrs['cause']} now" in out


def test_depth_seed_and_settings(repeat: Desk) -> None:
    depth = repeat.trials[0].user_attrs["depth"]
    out = repeat("0", "--depth", "+6")
    assert f"depth, convs: {depth} then, {depth + 6} now" in out
    repeat("0", "--depth", "5", "--seed", "7", "--quiet")
    repeat("0", "--set", "epochs=2", "--set", "optimizer=adamw", "--set", "lr_adamw=0.004", "--quiet")
    deeper, other, short = repeat.kept()
    assert deeper.user_attrs["depth"] == depth + 6
    assert (other.user_attrs["depth"], other.user_attrs["seed"]) == (5, 7)
    assert short.user_attrs["epochs"] == 2
    assert (short.params["optimizer"], short.params["lr_adamw"]) == ("adamw", 0.004)
    assert short.user_attrs["changed"] | {"optimizer": "adamw"} == {
        "optimizer": "adamw", "lr_adamw": 0.004, "epochs": 2,
    }  # fmt: skip


def test_a_repeat_is_repeated_with_what_was_changed(repeat: Desk) -> None:
    repeat("0", "--set", "epochs=2", "--depth", "+2", "--quiet")
    out = repeat("0", "--quiet", name="s-repeat")
    assert "identical: all 2 epochs" in out
    assert "kept as trial 0 of the study s-repeat-repeat" in out


def test_a_run_of_a_confirmation_is_trained_on_its_own_split(
    tmp_path: Path, tiny: StudySpec, repeat: Desk
) -> None:
    worker = Worker(repeat.searched.url, tiny)
    runs = [worker.run() for _ in range(4)]
    assert len({run.user_attrs["data_seed"] for run in runs}) == 2
    for run in (runs[0], runs[3]):
        assert "identical: all 3 epochs" in repeat(str(run.number), "--quiet", name=NAME)
    assert "identical: all 3 epochs" in repeat("1", "--quiet", name=f"{NAME}-repeat")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["99"], "no trial 99 in the study 's': it has 0 to 3"),
        (["0", "--depth", "8"], "--depth must be a number of convs that blocks of 2 can make"),
        (["0", "--depth", "deep"], "got 'deep'"),
        (["0", "--set", "lr=1"], "--set lr is not a value of a trial: known are blocks_1, width_1, norm"),
        (["0", "--set", "epochs=many"], "--set epochs must be a whole number from 1 to 100000, got 'many'"),
        (["0", "--set", "width_1=0"], "--set width_1 must be a whole number from 1 to 4096, got 0"),
        (["0", "--set", "epochs"], "--set must be KEY=VALUE, got 'epochs'"),
        (["0", "--set", "optimizer=sgd", "--set", "lr_adamw=0.1"], "--set lr_adamw changes nothing"),
    ],
)
def test_mistakes_are_told(repeat: Desk, words: list[str], says: str) -> None:
    assert says in repeat(*words, code=2)
    assert "s-repeat" not in optuna.get_all_study_names(repeat.searched.url), "nothing is made"


def test_a_trial_that_never_ran_cannot_be_repeated(repeat: Desk) -> None:
    repeat.searched.study.enqueue_trial({"block": "plain"})
    assert "trial 4 of 's' has not been trained: repeat it when it has" in repeat("4", code=2)


def test_a_trial_that_still_runs_cannot_be_repeated(repeat: Desk) -> None:
    """What it will be is known by then."""
    running = repeat.searched.study.ask()
    for key, value in repeat.trials[0].user_attrs.items():
        running.set_user_attr(key, value)
    assert "trial 4 of 's' has not been trained: repeat it when it has" in repeat("4", code=2)


def test_another_study_file_is_refused(repeat: Desk) -> None:
    (repeat.folder / "tiny.toml").write_text(TINY.replace("batch_size = 32", "batch_size = 16"))
    assert "train.batch_size: 32 in the study, 16 now" in repeat("0", code=2)


def test_repeats_are_no_search(repeat: Desk) -> None:
    repeat("0", "--quiet")
    [kept] = repeat.kept()
    assert kept.state == TrialState.COMPLETE
    attrs = optuna.load_study(study_name="s-repeat", storage=repeat.searched.url).user_attrs
    assert attrs["kind"] == "collection of repeats"
    assert load_spec(repeat.folder / "tiny.toml").fingerprint() == attrs["spec_fingerprint"]
