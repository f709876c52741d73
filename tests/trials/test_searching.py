"""The trials of a search: which seed each is trained with, and where it stands in its group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from models.architecture import Architecture
from models.network import build, weights_fingerprint
from search.design.seeds import training_seed
from search.spec.study import StudySpec
from search.trials.artifacts import KeepBest
from search.trials.listeners import Ended
from tests.support.bench import Bench, after

optuna.logging.set_verbosity(optuna.logging.ERROR)
ARMS = ("plain", "residual", "preact")


def fixed(spec: StudySpec) -> StudySpec:
    """A space of one point per arm: every group draws the same configuration."""
    space = replace(
        spec.space, blocks=(1,), widths=((4,),), norm=("batch",), init=("he",), zero_branch=(False,),
        optimizer=("sgd",), lr_sgd=(0.05,), lr_adamw=(0.01,), weight_decay=(0.0,), warmup=(0.0,),
    )  # fmt: skip
    return replace(spec, space=space)


@pytest.fixture
def bench(tmp_path: Path, tiny: StudySpec) -> Bench:
    return Bench(tmp_path, fixed(tiny))


def test_a_trial_stands_in_its_group_with_the_seed_of_the_group(tmp_path: Path, tiny: StudySpec) -> None:
    bench = Bench(tmp_path, tiny)
    trials = [bench.run() for _ in range(6)]
    attrs = [trial.user_attrs for trial in trials]
    assert [(a["group"], a["lead"]) for a in attrs] == [(g, i == 0) for g in (0, 1) for i in range(3)]
    assert [a["arm"] for a in attrs] == [*ARMS, *ARMS[1:], ARMS[0]], "the lead rotates"
    seeds = [a["seed"] for a in attrs]
    assert seeds == [training_seed(tiny, trials[0])] * 3 + [training_seed(tiny, trials[3])] * 3
    assert seeds[0] != seeds[3]


def test_a_free_search_has_no_groups_and_a_seed_for_each_trial(tmp_path: Path, tiny: StudySpec) -> None:
    free = replace(tiny, search=replace(tiny.search, design="free"))
    bench = Bench(tmp_path, free)
    attrs = [bench.run().user_attrs for _ in range(3)]
    assert not any({"group", "lead"} & a.keys() for a in attrs)
    assert len({a["seed"] for a in attrs}) == 3


def test_a_configuration_is_never_trained_twice_with_one_seed(bench: Bench) -> None:
    trials = [bench.run() for _ in range(9)]
    for arm in ARMS:
        same = [trial for trial in trials if trial.user_attrs["arm"] == arm]
        assert len({trial.user_attrs["fingerprint"] for trial in same}) == 1
        assert len({trial.user_attrs["seed"] for trial in same}) == 3
        assert [trial.user_attrs.get("replicate_of") for trial in same] == [None, *[same[0].number] * 2]
    assert [trial.user_attrs["group"] for trial in trials] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for group in range(3):
        assert len({trial.user_attrs["seed"] for trial in trials[3 * group : 3 * group + 3]}) == 1


def test_a_queued_trial_may_bring_its_seed_but_not_one_already_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[str] = []
    monkeypatch.setattr(KeepBest, "ended", lambda _, end: weights.append(_weights(end)) or {})
    for _ in range(2):
        bench.study.enqueue_trial({"block": "plain"}, user_attrs={"seed": 5})
    first, second = bench.run(), bench.run()
    assert first.user_attrs["seed"] == 5
    assert second.user_attrs["seed"] != 5
    assert second.user_attrs["replicate_of"] == 0
    assert "group" not in first.user_attrs, "it was drawn by nobody"
    assert weights[0] != weights[1], "it is trained with the seed that it is said to have"


def _weights(end: Ended) -> str:
    return weights_fingerprint(build(end.setup.architecture, end.setup.config.seed))


def test_a_seed_is_changed_until_nobody_has_had_it(bench: Bench) -> None:
    """That of the last is 5 as well, and 5 + 3 is taken by the second."""
    for seed in (5, 8, 5):
        bench.study.enqueue_trial({"block": "plain"}, user_attrs={"seed": seed})
    trials = [bench.run() for _ in range(3)]
    assert [trial.user_attrs["seed"] for trial in trials] == [5, 8, 11]
    assert [trial.user_attrs.get("replicate_of") for trial in trials] == [None, 0, 0]


def test_a_replicate_that_was_interrupted_keeps_its_seed(bench: Bench) -> None:
    for _ in range(2):
        bench.study.enqueue_trial({"block": "plain"}, user_attrs={"seed": 5})
    bench.run()
    begun = bench.run(after(2))
    bench.put_back(begun)
    ended = bench.run()
    assert ended.number == 1
    for name in ("seed", "replicate_of", "fingerprint"):
        assert ended.user_attrs[name] == begun.user_attrs[name], name


def test_a_trial_trains_what_is_stored_of_it(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Ended] = []
    monkeypatch.setattr(KeepBest, "ended", lambda _, end: ends.append(end) or {})
    bench = Bench(tmp_path, tiny)
    trials = [bench.run() for _ in range(4)]
    for trial, end in zip(trials, ends, strict=True):
        stored = Architecture.from_json(trial.user_attrs["architecture"])
        assert end.network.architecture == stored
        assert sum(p.numel() for p in end.network.parameters()) == trial.user_attrs["params"]
        assert end.setup.config.seed == trial.user_attrs["seed"]
        assert end.setup.config.epochs == tiny.train.epochs
        assert end.setup.config.lr == trial.params[f"lr_{trial.params['optimizer']}"]
