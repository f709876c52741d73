"""The design that makes arms comparable, on a real database, without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from search.design.depths import depth_of
from search.design.groups import LeadNotDrawn, arm_view, position_of
from search.design.places import Places
from search.design.samplers import MAKERS, MatchedSampler, StratifiedSampler, make_sampler
from search.design.seeds import training_seed
from search.design.space import dimensions, suggest, suggested_names
from search.design.strata import strata_of_spec
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.spec.tables import SAMPLERS
from search.storage.connections import join_study
from search.storage.internals import trial_id_of
from search.storage.patience import PatientStorage
from search.storage.studies import open_study

optuna.logging.set_verbosity(optuna.logging.ERROR)
ARMS = ("plain", "residual", "preact")


def joined(
    folder: Path, spec: StudySpec, worker: str = "a", budget: int = 1000
) -> tuple[optuna.Study, PatientStorage]:
    url = f"sqlite:///{folder}/arms.db"
    open_study(url, "s", spec, "data", budget)
    study, claims = join_study(url, "s", worker, budget)
    study.sampler = make_sampler(spec, suggested_names(spec.space))
    return study, claims


def search(study: optuna.Study, claims: PatientStorage, spec: StudySpec, count: int) -> list[FrozenTrial]:
    """Trials whose score is a function of their parameters: wide and plain is best, the rest noise-free."""
    for _ in range(count):
        trial = study.ask()
        values = suggest(trial, spec.space)
        score = values["width_1"] - abs(np.log10(values["lr_sgd"]) + 1.5) - (values["block"] != "plain") * 5
        claims.finish(trial_id_of(trial), TrialState.COMPLETE, float(score), {})
    return study.get_trials(deepcopy=False)


def test_every_sampler_of_a_study_file_can_be_made(tiny: StudySpec) -> None:
    assert tuple(MAKERS) == SAMPLERS
    for name in SAMPLERS:
        free = replace(tiny, search=replace(tiny.search, design="free", sampler=name))
        study = optuna.create_study(sampler=make_sampler(free, suggested_names(free.space)))
        assert suggest(study.ask(), free.space).keys() == dimensions(free.space).keys()


def test_every_draw_is_trained_as_every_arm(tmp_path: Path, tiny: StudySpec) -> None:
    trials = search(*joined(tmp_path, tiny), tiny, 30)
    for group in range(10):
        members = trials[3 * group : 3 * group + 3]
        positions = [position_of(trial, ARMS) for trial in members]
        assert {position.arm for position in positions if position} == set(ARMS)
        assert [trial.params["block"] for trial in members] == [
            position.arm for position in positions if position
        ]
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


class Spy(optuna.samplers.RandomSampler):
    """Notes which arms it is shown, by what it is asked."""

    seen: set[tuple[str, str]]

    def look(self, study: optuna.Study, asked: str) -> None:
        self.seen |= {(asked, trial.params["block"]) for trial in study.get_trials() if trial.params}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.look(study, "before")

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self.look(study, "space")
        return {"warmup": CategoricalDistribution((0.0, 0.05, 0.1))}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self.look(study, "relative")
        return {"warmup": 0.05}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        self.look(study, "independent")
        return super().sample_independent(study, trial, name, distribution)


def test_a_sampler_is_shown_the_trials_of_its_own_arm_whatever_it_is_asked(
    tmp_path: Path, tiny: StudySpec
) -> None:
    study, claims = joined(tmp_path, tiny)
    by_lead: list[set[tuple[str, str]]] = []

    def make(seed: int) -> Spy:
        spy = Spy(seed)
        spy.seen = set()
        by_lead.append(spy.seen)
        return spy

    study.sampler = MatchedSampler(ARMS, suggested_names(tiny.space), make, 0)
    trials = search(study, claims, tiny, 12)
    asked = ("before", "space", "relative", "independent")
    leads = by_lead[1:][::3]  # the first is made with the sampler
    assert [trial.params["block"] for trial in trials[::3]] == [*ARMS, "plain"]
    for arm, seen in zip((*ARMS, "plain"), leads, strict=True):
        assert {shown for _, shown in seen} <= {arm}
    assert leads[3] == {(question, "plain") for question in asked}
    assert {trial.params["warmup"] for trial in trials} == {0.05}


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
    assert position_of(trials[0], ARMS) is None
    assert (trials[0].params["block"], trials[0].params["width_1"]) == ("preact", 6)
    groups = [position.group for trial in trials[1:] if (position := position_of(trial, ARMS))]
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


def test_the_free_design_leaves_it_to_optuna(tmp_path: Path, tiny: StudySpec) -> None:
    spec = replace(tiny, search=replace(tiny.search, design="free"))
    trials = search(*joined(tmp_path, spec), spec, 60)
    counts = Counter(trial.params["block"] for trial in trials)
    assert counts["plain"] > 30, "TPE takes to the arm that scores best"


def test_a_follower_of_a_lead_that_failed_copies_what_there_is(tmp_path: Path, tiny: StudySpec) -> None:
    """Else no group would go on behind it: the rest of the parameters is drawn."""
    study, claims = joined(tmp_path, tiny)
    lead = study.ask()
    drawn = {
        "block": lead.suggest_categorical("block", ARMS),
        "blocks_1": lead.suggest_int("blocks_1", 1, 3),
    }
    claims.finish(trial_id_of(lead), TrialState.FAIL, None, {})
    follower = suggest(study.ask(), tiny.space)
    assert follower["blocks_1"] == drawn["blocks_1"]
    assert follower["block"] == "residual"


def test_a_queued_trial_without_an_arm_gets_one_by_its_number(tmp_path: Path, tiny: StudySpec) -> None:
    study, claims = joined(tmp_path, tiny)
    for _ in range(5):
        study.enqueue_trial({"width_1": 6})
    trials = search(study, claims, tiny, 5)
    assert [trial.params["block"] for trial in trials] == [*ARMS, *ARMS[:2]]


def test_a_lead_is_found_by_its_turn_and_not_by_its_number(tmp_path: Path, tiny: StudySpec) -> None:
    """Queued trials shift the numbers, not the turns."""
    study, claims = joined(tmp_path, tiny)
    study.enqueue_trial({"block": "preact"})
    search(study, claims, tiny, 4)
    study.enqueue_trial({"block": "plain"})
    trials = search(study, claims, tiny, 4)
    second = [trial for trial in trials if (at := position_of(trial, ARMS)) and at.group == 1]
    assert [trial.number for trial in second] == [5, 6, 7]
    assert [trial.params["block"] for trial in second] == ["residual", "preact", "plain"]
    assert len({trial.params["lr_sgd"] for trial in second}) == 1


@pytest.mark.parametrize("design", ["matched", "free"])
def test_the_seed_of_the_study_decides_its_draws(tmp_path: Path, tiny: StudySpec, design: str) -> None:
    rates: list[list[float]] = []
    for seed in (0, 1, 0):
        spec = replace(tiny, search=replace(tiny.search, design=design, seed=seed))
        folder = tmp_path / f"{len(rates)}"
        folder.mkdir()
        rates.append([trial.params["lr_sgd"] for trial in search(*joined(folder, spec), spec, 3)])
    assert rates[0] == rates[2]
    assert not set(rates[0]) & set(rates[1])


def deep_spec(**search: object) -> StudySpec:
    """A space of 9 to 57 convs in a stratified design."""
    spec = load_spec(find_study("digits"))
    return replace(spec, search=replace(spec.search, design="stratified", pruner="none", **search))


def stratified(
    folder: Path, spec: StudySpec, count: int, score: Callable[[dict[str, Any]], float]
) -> list[FrozenTrial]:
    """Trials of a stratified study, run to their ends one after another."""
    study, claims = joined(folder, spec)
    claims.direct.next_place = Places(spec)
    for _ in range(count):
        trial = study.ask()
        values = suggest(trial, spec.space)
        claims.finish(trial_id_of(trial), TrialState.COMPLETE, score(values), {})
    return study.get_trials(deepcopy=False)


def depth(spec: StudySpec, trial: FrozenTrial) -> int:
    return depth_of(spec.space, sum(trial.params[f"blocks_{i}"] for i in (1, 2, 3)))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_leads_are_drawn_in_their_stratum_and_followers_copy_them(tmp_path: Path, sampler: str) -> None:
    """Also where the sampler wants to be elsewhere: here shallow nets are better by far."""
    spec = deep_spec(sampler=sampler)
    trials = stratified(tmp_path, spec, 60, lambda values: -sum(values[f"blocks_{i}"] for i in (1, 2, 3)))
    strata = strata_of_spec(spec)
    for group in range(20):
        members = trials[3 * group : 3 * group + 3]
        positions = [position for trial in members if (position := position_of(trial, ARMS))]
        assert {position.group for position in positions} == {group}
        assert [trial.params["block"] for trial in members] == [position.arm for position in positions]
        rest = [{k: v for k, v in trial.params.items() if k != "block"} for trial in members]
        assert rest[0] == rest[1] == rest[2]
        assert len({training_seed(spec, trial) for trial in members}) == 1
        assert strata[positions[0].stratum or 0].has(depth(spec, members[0]))
    assert len({tuple(trial.params.items()) for trial in trials}) == 60


def test_a_stratum_is_searched_for_what_is_good_in_it(tmp_path: Path) -> None:
    """Deep nets score less, whatever else they have; late draws have learnt what is good all the same: random
    ones are 1.1 away from it in the mean."""
    spec = deep_spec()

    def score(values: dict[str, Any]) -> float:
        deep = sum(values[f"blocks_{i}"] for i in (1, 2, 3))
        return float(-abs(np.log10(values["weight_decay"]) + 5.5) - deep)

    trials = stratified(tmp_path, spec, 150, score)
    far = [abs(np.log10(trial.params["weight_decay"]) + 5.5) for trial in trials]
    assert np.mean(far[-48:]) < 0.7
    late = [depth(spec, trial) for trial in trials[-48::3]]
    for stratum in strata_of_spec(spec):
        assert sum(map(stratum.has, late)) >= 3, "though shallow ones score more"


def test_a_draw_that_never_fits_is_moved_into_its_stratum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StratifiedSampler, "_depth", lambda self, drawn: 0)
    monkeypatch.setattr("search.design.samplers.MOST_DRAWS", 1)
    spec = deep_spec()
    trials = stratified(tmp_path, spec, 36, lambda values: 0.0)
    for trial in trials:
        position = position_of(trial, ARMS)
        assert position is not None
        assert strata_of_spec(spec)[position.stratum or 0].has(depth(spec, trial))
    assert len({depth(spec, trial) for trial in trials}) > 6


def test_a_stratified_study_can_be_repeated_from_its_seed(tmp_path: Path) -> None:
    spec, found = deep_spec(), []
    for name, parts in (("one", [45]), ("two", [20, 25])):
        folder = tmp_path / name
        folder.mkdir()
        for count in parts:
            trials = stratified(folder, spec, count, lambda values: values["weight_decay"])
        found.append([trial.params for trial in trials])
    assert found[0] == found[1]
    other = tmp_path / "other"
    other.mkdir()
    again = stratified(other, deep_spec(seed=1), 6, lambda values: values["weight_decay"])
    assert not {t.params["weight_decay"] for t in again} & {params["weight_decay"] for params in found[0]}


def test_what_a_space_fixes_is_no_parameter_of_a_stratified_draw(tmp_path: Path) -> None:
    spec = deep_spec()
    fixed = replace(spec, space=replace(spec.space, norm=("batch",), widths=((8,), (8,), (8, 16))))
    trials = stratified(tmp_path, fixed, 9, lambda values: 0.5)
    assert all("norm" not in trial.params and "width_1" not in trial.params for trial in trials)
    assert {trial.params["width_3"] for trial in trials} <= {8, 16}


def test_queued_trials_stand_outside_strata(tmp_path: Path) -> None:
    spec = deep_spec()
    study, _ = joined(tmp_path, spec)
    study.enqueue_trial({"block": "preact", "blocks_1": 9, "blocks_2": 9, "blocks_3": 9})
    trials = stratified(tmp_path, spec, 4, lambda values: 0.5)
    assert position_of(trials[0], ARMS) is None
    assert (trials[0].params["block"], depth(spec, trials[0])) == ("preact", 57)
    groups = [position.group for trial in trials[1:] if (position := position_of(trial, ARMS))]
    assert groups == [0, 0, 0]
