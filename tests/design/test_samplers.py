"""The design that makes arms comparable, on a real database, without training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from search.design.groups import LeadNotDrawn, arm_view
from search.design.pruners import make_pruner
from search.design.samplers import make_sampler
from search.design.seeds import training_seed
from search.design.space import suggest, suggested_names
from search.spec.study import StudySpec
from search.storage.claim_storage import ClaimStorage
from search.storage.connections import join_study
from search.storage.studies import open_study

optuna.logging.set_verbosity(optuna.logging.ERROR)
ARMS = ("plain", "residual", "preact")


def joined(
    folder: Path, spec: StudySpec, worker: str = "a", budget: int = 1000
) -> tuple[optuna.Study, ClaimStorage]:
    url = f"sqlite:///{folder}/arms.db"
    open_study(url, "s", spec, "data", budget)
    study, claims = join_study(url, "s", worker, budget)
    study.sampler = make_sampler(spec, suggested_names(spec.space))
    study.pruner = make_pruner(spec)
    return study, claims


def search(
    study: optuna.Study, claims: ClaimStorage, spec: StudySpec, count: int
) -> list[optuna.trial.FrozenTrial]:
    """Trials whose score is a function of their parameters: wide and plain is best, the rest noise-free."""
    for _ in range(count):
        trial = study.ask()
        values = suggest(trial, spec.space)
        score = values["width_1"] - abs(np.log10(values["lr_sgd"]) + 1.5) - (values["block"] != "plain") * 5
        claims.finish(trial._trial_id, TrialState.COMPLETE, float(score), {})
    return study.get_trials(deepcopy=False)


def test_every_draw_is_trained_as_every_arm(tmp_path: Path, tiny: StudySpec) -> None:
    trials = search(*joined(tmp_path, tiny), tiny, 30)
    for group in range(10):
        members = trials[3 * group : 3 * group + 3]
        places = [place_of(trial, ARMS) for trial in members]
        assert {place.arm for place in places if place} == set(ARMS)
        assert [trial.params["block"] for trial in members] == [place.arm for place in places if place]
        rest = [{k: v for k, v in trial.params.items() if k != "block"} for trial in members]
        assert rest[0] == rest[1] == rest[2]
        assert len({training_seed(tiny, trial) for trial in members}) == 1
    assert len({training_seed(tiny, trial) for trial in trials}) == 10
    assert len({tuple(trial.params.items()) for trial in trials}) == 30


def test_the_leads_arm_rotates(tmp_path: Path, tiny: StudySpec) -> None:
    trials = search(*joined(tmp_path, tiny), tiny, 18)
    leads = [trial.params["block"] for trial in trials[::3]]
    assert leads == [*ARMS, *ARMS]


def test_arms_have_equal_shares_however_well_one_does(tmp_path: Path, tiny: StudySpec) -> None:
    """Stock TPE gives the arm that looks best nearly all trials; here the score favours plain by far."""
    trials = search(*joined(tmp_path, tiny), tiny, 60)
    assert Counter(trial.params["block"] for trial in trials) == dict.fromkeys(ARMS, 20)


def test_leads_learn_from_their_own_arm(tmp_path: Path, tiny: StudySpec) -> None:
    """An arm's view holds that arm alone, and late draws are better than the random ones at the start."""
    study, claims = joined(tmp_path, tiny)
    trials = search(study, claims, tiny, 120)
    for arm in ARMS:
        view = arm_view(study, arm)
        assert {trial.params["block"] for trial in view.get_trials()} == {arm}
        assert len(view.get_trials()) == 40
    plain = [trial.value or 0 for trial in trials if trial.params["block"] == "plain"]
    assert np.mean(plain[-15:]) > np.mean(plain[:10])


def test_a_follower_waits_for_its_leads_draw_and_survives_its_worker(tmp_path: Path, tiny: StudySpec) -> None:
    first, _ = joined(tmp_path, tiny)
    second, claims = joined(tmp_path, tiny, worker="b")
    lead = first.ask()
    with pytest.raises(LeadNotDrawn) as caught:
        second.ask()
    claims.release(caught.value.trial_id)
    values = suggest(lead, tiny.space)
    follower = second.ask()
    copied = suggest(follower, tiny.space)
    assert follower.number == 1
    assert copied == values | {"block": "residual"}
    # the lead's worker dies after the draw: the third member needs nothing of it
    third = suggest(second.ask(), tiny.space)
    assert third == values | {"block": "preact"}


def test_a_group_cut_by_the_budget_is_completed_when_the_budget_grows(
    tmp_path: Path, tiny: StudySpec
) -> None:
    search(*joined(tmp_path, tiny, budget=4), tiny, 4)
    trials = search(*joined(tmp_path, tiny, worker="b", budget=6), tiny, 2)
    assert [trial.params["block"] for trial in trials[3:]] == ["residual", "preact", "plain"]
    assert len({trial.params["lr_sgd"] for trial in trials[3:]}) == 1


def test_queued_trials_stand_outside_groups(tmp_path: Path, tiny: StudySpec) -> None:
    study, claims = joined(tmp_path, tiny)
    study.enqueue_trial({"block": "preact", "width_1": 6})
    trials = search(study, claims, tiny, 7)
    assert place_of(trials[0], ARMS) is None
    assert (trials[0].params["block"], trials[0].params["width_1"]) == ("preact", 6)
    groups = [place.group for trial in trials[1:] if (place := place_of(trial, ARMS))]
    assert groups == [0, 0, 0, 1, 1, 1]


def test_two_workers_never_draw_alike_and_a_restart_never_repeats(tmp_path: Path, tiny: StudySpec) -> None:
    """Stock samplers with one seed propose the same start-up points, in all workers and after restarts."""
    spec = replace(tiny, search=replace(tiny.search, design="free"))
    draws = []
    for worker in ("a", "b"):
        study, claims = joined(tmp_path, spec, worker=worker)
        draws += [trial.params["lr_sgd"] for trial in search(study, claims, spec, 8)]
    assert len(set(draws)) == 16


def test_a_study_can_be_repeated_from_its_seed(tmp_path: Path, tiny: StudySpec) -> None:
    """One worker, same seed: the same trials, whether in one go or restarted in between."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    whole = search(*joined(folders[0], tiny), tiny, 45)
    for _ in range(3):
        parts = search(*joined(folders[1], tiny), tiny, 15)
    assert [trial.params for trial in whole] == [trial.params for trial in parts]


@pytest.mark.parametrize("pruner", ["hyperband", "halving", "median"])
def test_a_plain_trial_competes_with_plain_trials_only(tmp_path: Path, tiny: StudySpec, pruner: str) -> None:
    """Plain at 20 %, residual at 90 %: judged together every plain trial is pruned, judged apart they are
    equals. A plain trial below its own arm is pruned all the same."""
    spec = replace(
        tiny,
        train=replace(tiny.train, epochs=15),
        space=replace(tiny.space, block=("plain", "residual")),
        search=replace(tiny.search, pruner=pruner),
    )
    study, claims = joined(tmp_path, spec)
    pruned: Counter[str] = Counter()
    for number in range(80):
        trial = study.ask()
        arm = suggest(trial, spec.space)["block"]
        good = number % 8 < 6  # of both arms alike
        level = {"plain": 0.2, "residual": 0.9}[arm] * (1 if good else 0.5)
        for epoch in range(1, 16):
            trial.report(level + 0.001 * (number % 7), epoch)
            if trial.should_prune():
                pruned[f"{arm} {'good' if good else 'bad'}"] += 1
                claims.finish(trial._trial_id, TrialState.PRUNED, level, {})
                break
        else:
            claims.finish(trial._trial_id, TrialState.COMPLETE, level, {})
    assert pruned["plain bad"] >= 6
    assert pruned["plain good"] <= 20
    assert abs(pruned["plain good"] - pruned["residual good"]) <= 6


@pytest.mark.parametrize("pruner", ["hyperband", "halving", "median"])
def test_a_deep_trial_competes_with_deep_trials_only(tmp_path: Path, tiny: StudySpec, pruner: str) -> None:
    """Nets of 40 blocks at 20 %, of 4 at 90 %: judged together hardly a deep trial would run to its end."""
    spec = replace(
        tiny,
        train=replace(tiny.train, epochs=15),
        space=replace(tiny.space, block=("plain",), blocks=(4, 40)),
        search=replace(tiny.search, pruner=pruner, sampler="random"),
    )
    study, claims = joined(tmp_path, spec)
    pruned: Counter[str] = Counter()
    drawn: Counter[int] = Counter()
    for _ in range(80):
        trial = study.ask()
        blocks = suggest(trial, spec.space)["blocks_1"]
        drawn[blocks] += 1
        good = drawn[blocks] % 8 < 6  # of both depths alike
        level = {4: 0.9, 40: 0.2}[blocks] * (1 if good else 0.5)
        for epoch in range(1, 16):
            trial.report(level + 0.001 * (drawn[blocks] % 7), epoch)
            if trial.should_prune():
                pruned[f"{blocks} {'good' if good else 'bad'}"] += 1
                claims.finish(trial._trial_id, TrialState.PRUNED, level, {})
                break
        else:
            claims.finish(trial._trial_id, TrialState.COMPLETE, level, {})
    ended = {depth: drawn[depth] - pruned[f"{depth} good"] - pruned[f"{depth} bad"] for depth in (4, 40)}
    assert pruned["40 bad"] >= 4
    assert ended[40] >= ended[4] / 2


def test_blocks_that_are_fixed_are_no_parameter_and_pruned_all_the_same(
    tmp_path: Path, tiny: StudySpec
) -> None:
    spec = replace(
        tiny,
        train=replace(tiny.train, epochs=15),
        space=replace(tiny.space, block=("plain",), blocks=(2,)),
        search=replace(tiny.search, pruner="halving"),
    )
    study, claims = joined(tmp_path, spec)
    ends = []
    for number in range(12):
        trial = study.ask()
        suggest(trial, spec.space)
        assert "blocks_1" not in trial.params
        trial.report(1 / (1 + number), 3)
        ends.append(trial.should_prune())
        claims.finish(trial._trial_id, TrialState.PRUNED, 0.0, {})
    assert ends == [False] + [True] * 11


def test_rungs_are_epochs_done(tmp_path: Path, tiny: StudySpec) -> None:
    """30 epochs: Hyperband with its first rung at a fifteenth of them stops at epochs 2, 4, 8 and 16."""
    spec = replace(
        tiny,
        train=replace(tiny.train, epochs=30),
        space=replace(tiny.space, block=("plain",)),
        search=replace(tiny.search, pruner="hyperband"),
    )
    study, claims = joined(tmp_path, spec)
    stopped = set()
    for number in range(60):
        trial = study.ask()
        suggest(trial, spec.space)
        for epoch in range(1, 31):
            trial.report(1 / (1 + number), epoch)
            if trial.should_prune():
                stopped.add(epoch)
                claims.finish(trial._trial_id, TrialState.PRUNED, 0.0, {})
                break
        else:
            claims.finish(trial._trial_id, TrialState.COMPLETE, 0.0, {})
    assert stopped == {2, 4, 8, 16}


def test_the_free_design_leaves_it_to_optuna(tmp_path: Path, tiny: StudySpec) -> None:
    spec = replace(tiny, search=replace(tiny.search, design="free"))
    trials = search(*joined(tmp_path, spec), spec, 60)
    counts = Counter(trial.params["block"] for trial in trials)
    assert counts["plain"] > 30, "TPE takes to the arm that scores best"
    assert isinstance(make_pruner(spec), BasePruner)
