"""What the next trial is, over searches of any number of workers in which anything may be late or die."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from search.design.groups import Position
from search.design.places import Places
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.storage.rows import Placed

DIGITS = load_spec(find_study("digits"))
RUNNING, COMPLETE, PRUNED, FAIL = TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


class Crew:
    """Workers that take places, and trials that are decided and end in any order. A lead goes on by chance;
    a trial may be lost, and a killed worker's is run by another: that changes no place."""

    def __init__(self, spec: StudySpec, workers: int, budget: int, seed: int, fails: float = 0.0) -> None:
        self.places, self.workers, self.budget = Places(spec), workers, budget
        self.rng, self.fails = random.Random(seed), fails
        self.trials: list[Placed] = []
        self.idle = 0
        """Times that a worker found nothing to do before the budget was spent."""

    def run(self, until: int | None = None) -> list[Placed]:
        """Until the budget is spent and all has ended, or so many trials have begun."""
        while True:
            running = [i for i, trial in enumerate(self.trials) if trial.state == RUNNING]
            more = len(self.trials) < (until or self.budget)
            if not running and not more:
                return self.trials
            place = None
            if more and len(running) < self.workers:
                place = self.places(self.trials, self.budget - len(self.trials))
                self.idle += place is None
            if place is not None:
                self.trials.append(Placed(place, RUNNING, goes_on=False))
            else:
                assert running, "all is decided, and yet there is no place"
                self._step(self.rng.choice(running))

    def _step(self, i: int) -> None:
        """A lead decides, or a trial ends."""
        trial = self.trials[i]
        if self.rng.random() < self.fails:
            self.trials[i] = trial._replace(state=FAIL)
        elif trial.place["lead"] and not trial.goes_on:
            goes_on = self.rng.random() < 0.5
            self.trials[i] = trial._replace(goes_on=goes_on, state=RUNNING if goes_on else PRUNED)
        else:
            self.trials[i] = trial._replace(state=COMPLETE)


def groups_of(trials: list[Placed]) -> dict[int, list[Placed]]:
    found: dict[int, list[Placed]] = defaultdict(list)
    for trial in trials:
        found[trial.place["group"]].append(trial)
    return found


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 20, 100, 101, 102])
@pytest.mark.parametrize("workers", [1, 2, 8, 40])
def test_the_budget_is_exact_and_a_group_is_whole_or_its_lead_alone(workers: int, budget: int) -> None:
    for seed in range(5):
        trials = Crew(DIGITS, workers, budget, seed).run()
        assert len(trials) == budget
        alone = 0
        for number, members in groups_of(trials).items():
            [lead] = [trial for trial in members if trial.place["lead"]]
            arms = Counter(trial.place["arm"] for trial in members)
            assert set(arms.values()) == {1}, number
            assert {trial.place["stratum"] for trial in members} == {lead.place["stratum"]}
            if not lead.goes_on:
                assert len(members) == 1, "followers of a lead that was stopped"
            alone += lead.goes_on and len(members) < 3
        assert alone <= 2, "but for what was left over in the end"


@pytest.mark.parametrize("workers", [1, 2, 8, 40])
def test_any_prefix_is_balanced_over_strata(workers: int) -> None:
    trials = Crew(DIGITS, workers, 100, 3).run()
    groups: list[int] = []
    counts: Counter[int] = Counter()
    for trial in trials:
        if trial.place["lead"]:
            groups.append(trial.place["group"])
            counts[trial.place["stratum"]] += 1
            assert max(counts.values()) - min(counts[i] for i in range(4)) <= 1
    assert groups == sorted(groups)


def test_a_group_that_goes_on_is_completed_before_another_begins_the_baseline_first() -> None:
    places = Places(DIGITS)
    first = Position(**(places([], 100) or {}))
    assert (first.group, first.lead) == (0, True)
    lead = Placed(first.stored(), RUNNING, goes_on=True)
    trials = [lead]
    for _ in range(2):
        place = Position(**(places(trials, 100 - len(trials)) or {}))
        assert (place.group, place.lead, place.stratum) == (0, False, first.stratum)
        trials.append(Placed(place.stored(), RUNNING, goes_on=False))
    followers = [trial.place["arm"] for trial in trials[1:]]
    assert {first.arm, *followers} == {"plain", "residual", "preact"}
    assert first.arm == "plain" or followers[0] == "plain"
    assert (places(trials, 97) or {})["group"] == 1


def test_another_group_begins_while_a_lead_is_undecided_if_both_could_be_completed() -> None:
    places = Places(DIGITS)
    undecided = [Placed(places.lead_of(0).stored(), RUNNING, goes_on=False)]
    assert (places(undecided, 5) or {})["group"] == 1, "two followers, and a group of three"
    assert places(undecided, 4) is None
    stopped = [undecided[0]._replace(state=PRUNED)]
    assert (places(stopped, 1) or {})["group"] == 1, "what is left over goes to a lead"
    on = [undecided[0]._replace(goes_on=True)]
    assert not (places(on, 1) or {})["lead"]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_budget_that_grows_goes_on_where_it_ended(workers: int) -> None:
    """Leads that were alone for want of a budget get their followers."""
    for seed in range(5):
        crew = Crew(DIGITS, workers, 50, seed)
        crew.run()
        crew.budget = 100
        trials = crew.run()
        assert len(trials) == 100
        members = groups_of(trials)
        early = [group for group in members if members[group][0] in trials[:50]]
        for group in early:
            [lead] = [trial for trial in members[group] if trial.place["lead"]]
            assert len(members[group]) == (3 if lead.goes_on else 1)


def test_failures_cut_no_other_group_and_take_no_others_place() -> None:
    for seed in range(10):
        trials = Crew(DIGITS, 4, 100, seed, fails=0.1).run()
        assert len(trials) == 100
        assert len({(t.place["group"], t.place["arm"]) for t in trials}) == 100
        for members in groups_of(trials).values():
            [lead] = [trial for trial in members if trial.place["lead"]]
            assert lead.goes_on or len(members) == 1


def test_workers_are_idle_only_while_leads_decide_the_rest_of_the_budget() -> None:
    assert Crew(DIGITS, 1, 100, 0).idle == 0
    crew = Crew(DIGITS, 2, 100, 0)
    crew.run(until=90)
    assert crew.idle == 0


@pytest.mark.parametrize(("pruner", "epochs"), [("none", 15), ("lead", 1)])
def test_where_no_lead_decides_all_groups_are_whole(pruner: str, epochs: int) -> None:
    spec = replace(
        DIGITS, search=replace(DIGITS.search, pruner=pruner), train=replace(DIGITS.train, epochs=epochs)
    )
    places, trials = Places(spec), list[Placed]()
    for left in range(30, 0, -1):
        place = places(trials, left)
        assert place is not None
        trials.append(Placed(place, RUNNING, goes_on=False))
    assert [len(members) for members in groups_of(trials).values()] == [3] * 10
    pruned = [Placed(places.lead_of(0).stored(), PRUNED, goes_on=False)]
    assert (places(pruned, 9) or {})["group"] == 1, "a lead that could not be trained has no followers"


def test_two_arms_and_another_baseline() -> None:
    spec = replace(
        DIGITS,
        space=replace(DIGITS.space, block=("residual", "preact", "plain")),
        search=replace(DIGITS.search, baseline="preact"),
    )
    places = Places(spec)
    assert places.followers[0] == "preact"
    assert sorted(places.followers) == ["plain", "preact", "residual"]
