"""Pruners on studies in memory: nothing is trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.design.pruners import MAKERS, LeadDecides, PeerPruner, in_better_half, make_pruner
from search.design.space import suggest
from search.spec.domains import Domain
from search.spec.study import StudySpec
from search.spec.tables import LEAD, PRUNERS
from search.storage.trial_record import PLACE, TrialRecord
from tests.support.made_up import Bottleneck, installed

optuna.logging.set_verbosity(optuna.logging.ERROR)


def with_pruner(
    spec: StudySpec, pruner: str, arms: tuple[str, ...], blocks: Domain | None = None, epochs: int = 15
) -> StudySpec:
    return replace(
        spec,
        train=replace(spec.train, epochs=epochs),
        space=replace(spec.space, block=arms, blocks=blocks or spec.space.blocks),
        search=replace(spec.search, pruner=pruner),
    )


def study_of(spec: StudySpec) -> Study:
    """Its name is given: Hyperband deals trials out by a hash of it."""
    sampler, pruner = optuna.samplers.RandomSampler(seed=0), make_pruner(spec)
    return optuna.create_study(study_name="s", direction="maximize", sampler=sampler, pruner=pruner)


def trained(study: Study, trial: optuna.Trial, accuracies: Iterable[float]) -> int | None:
    """Reports the accuracies of the epochs; the one at which the trial was pruned, if it was."""
    level = 0.0
    for epoch, level in enumerate(accuracies, start=1):
        trial.report(level, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, level)
    return None


class Watch(BasePruner):
    """Notes the numbers of the trials that it is shown, and prunes none. It looks through the study's cache,
    as some of Optuna's samplers do."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        self.seen.append([other.number for other in study._get_trials(deepcopy=False, use_cache=True)])
        return False


def drawn(study: Study, arm: str, **blocks: int) -> optuna.Trial:
    study.enqueue_trial({"block": arm, **blocks})
    trial = study.ask()
    trial.suggest_categorical("block", ["plain", "preact"])
    for name in blocks:
        trial.suggest_int(name, 1, 50)
    return trial


def frozen(study: Study, trial: optuna.Trial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def test_every_pruner_of_a_study_file_can_be_made() -> None:
    assert (LEAD, *MAKERS) == PRUNERS
    assert isinstance(MAKERS["none"](15), NopPruner)


def test_a_free_design_is_left_to_optuna(tiny: StudySpec) -> None:
    free = replace(tiny, search=replace(tiny.search, design="free", pruner="hyperband"))
    assert isinstance(make_pruner(free), HyperbandPruner)
    assert isinstance(make_pruner(replace(tiny, search=replace(tiny.search, pruner="hyperband"))), PeerPruner)


def test_peers_have_the_arm_and_about_the_depth_of_a_trial(tiny: StudySpec) -> None:
    """Depths are near by their factor: 17 to 27 convs to 21."""
    watch, study = Watch(), optuna.create_study()
    pruner = PeerPruner(lambda: watch, tiny.space)
    trials = [drawn(study, "plain", blocks_1=blocks) for blocks in (10, 8, 13, 6, 15)]
    trials.append(drawn(study, "preact", blocks_1=10))
    pruner.prune(study, frozen(study, trials[0]))
    assert watch.seen == [[0, 1, 2]]
    pruner.prune(study, frozen(study, trials[5]))
    assert watch.seen[1:] == [[5]]


def test_a_trial_that_was_seen_while_it_was_drawn_is_a_peer_once_it_is_drawn(tiny: StudySpec) -> None:
    """Several workers draw and prune at once: its blocks come after its arm, one stage after another."""
    space = replace(tiny.space, widths=((4,), (4,)), transition="pool")
    watch, study = Watch(), optuna.create_study()
    pruner = PeerPruner(lambda: watch, space)
    first = drawn(study, "plain", blocks_1=4, blocks_2=4)
    study.enqueue_trial({"block": "plain", "blocks_1": 3, "blocks_2": 4})
    other = study.ask()
    for suggested in ("", "block", "blocks_1", "blocks_2"):
        if suggested == "block":
            other.suggest_categorical("block", ["plain", "preact"])
        elif suggested:
            other.suggest_int(suggested, 1, 50)
        pruner.prune(study, frozen(study, first))
    assert watch.seen == [[0], [0], [0], [0, 1]]


def test_there_is_a_pruner_for_each_arm_and_depth(tiny: StudySpec) -> None:
    made: list[Watch] = []

    def make() -> BasePruner:
        made.append(Watch())
        return made[-1]

    study = optuna.create_study()
    pruner = PeerPruner(make, tiny.space)
    for arm, blocks in (("plain", 1), ("plain", 3), ("preact", 1), ("plain", 1)):
        pruner.prune(study, frozen(study, drawn(study, arm, blocks_1=blocks)))
    assert [len(watch.seen) for watch in made] == [2, 1, 1]


def test_depths_are_those_of_the_arms_blocks(tiny: StudySpec) -> None:
    """Blocks of three convolutions make 4, 7, 10 and 13 convs, of which the last two are near."""
    with installed(Bottleneck):
        space = replace(tiny.space, block=("bottleneck",))
        watch, study = Watch(), optuna.create_study()
        pruner = PeerPruner(lambda: watch, space)
        trials = [drawn(study, "plain", blocks_1=blocks) for blocks in (1, 2, 3, 4)]
        pruner.prune(study, frozen(study, trials[3]))
    assert watch.seen == [[2, 3]]


@pytest.mark.parametrize("pruner", ["hyperband", "halving", "median"])
def test_a_plain_trial_competes_with_plain_trials_only(tiny: StudySpec, pruner: str) -> None:
    """Plain at 20 %, residual at 90 %: judged together every plain trial is pruned, judged apart they are
    equals. A plain trial below its own arm is pruned all the same."""
    arms = ("plain", "residual")
    spec = with_pruner(tiny, pruner, arms)
    study = study_of(spec)
    pruned: Counter[str] = Counter()
    for number in range(80):
        study.enqueue_trial({"block": arms[number % 2]})
        trial = study.ask()
        arm = suggest(trial, spec.space)["block"]
        good = number % 8 < 6  # of both arms alike
        level = {"plain": 0.2, "residual": 0.9}[arm] * (1 if good else 0.5)
        if trained(study, trial, [level + 0.001 * (number % 7)] * 15):
            pruned[f"{arm} {'good' if good else 'bad'}"] += 1
    assert pruned["plain bad"] >= 6
    assert pruned["plain good"] <= 20
    assert abs(pruned["plain good"] - pruned["residual good"]) <= 6


@pytest.mark.parametrize("pruner", ["hyperband", "halving", "median"])
def test_a_deep_trial_competes_with_deep_trials_only(tiny: StudySpec, pruner: str) -> None:
    """Nets of 40 blocks at 20 %, of 4 at 90 %: judged together hardly a deep trial would run to its end."""
    spec = with_pruner(tiny, pruner, ("plain",), (4, 40))
    study = study_of(spec)
    pruned: Counter[str] = Counter()
    drawn: Counter[int] = Counter()
    for _ in range(80):
        trial = study.ask()
        blocks = suggest(trial, spec.space)["blocks_1"]
        drawn[blocks] += 1
        good = drawn[blocks] % 8 < 6  # of both depths alike
        level = {4: 0.9, 40: 0.2}[blocks] * (1 if good else 0.5)
        if trained(study, trial, [level + 0.001 * (drawn[blocks] % 7)] * 15):
            pruned[f"{blocks} {'good' if good else 'bad'}"] += 1
    ended = {depth: drawn[depth] - pruned[f"{depth} good"] - pruned[f"{depth} bad"] for depth in (4, 40)}
    assert pruned["40 bad"] >= 4
    assert ended[40] >= ended[4] / 2


def test_blocks_that_are_fixed_are_no_parameter_and_pruned_all_the_same(tiny: StudySpec) -> None:
    spec = with_pruner(tiny, "halving", ("plain",), (2,))
    study = study_of(spec)
    ends = []
    for number in range(12):
        trial = study.ask()
        suggest(trial, spec.space)
        assert "blocks_1" not in trial.params
        trial.report(1 / (1 + number), 3)
        ends.append(trial.should_prune())
        study.tell(trial, state=TrialState.PRUNED)
    assert ends == [False] + [True] * 11


@pytest.mark.parametrize(
    ("pruner", "epochs", "rungs"),
    [
        ("hyperband", 30, {2, 4, 8, 16}),
        ("hyperband", 10, {1, 2, 4, 8}),
        ("halving", 30, {7, 14, 28}),
        ("median", 30, {10}),
        ("none", 30, set()),
    ],
)
def test_rungs_are_epochs_done(tiny: StudySpec, pruner: str, epochs: int, rungs: set[int]) -> None:
    """Hyperband begins at a fifteenth of the epochs, halving at a quarter, the median at a third. Each trial
    is worse than the one before from one epoch on, so that every rung stops some."""
    spec = with_pruner(tiny, pruner, ("plain",), epochs=epochs)
    study = study_of(spec)
    stopped: set[int | None] = set()
    for number in range(60):
        trial = study.ask()
        suggest(trial, spec.space)
        worse = number % epochs
        stopped.add(trained(study, trial, [1.0] * worse + [1 / (1 + number)] * (epochs - worse)))
    assert stopped - {None} == rungs


@pytest.mark.parametrize(
    ("value", "peers", "inside"),
    [
        (0.1, [], True),
        (0.2, [0.1], True),
        (0.1, [0.2], False),
        (0.2, [0.1, 0.3], False),
        (0.3, [0.1, 0.2], True),
        (0.2, [0.1, 0.2, 0.3], True),
        (0.2, [0.2, 0.2, 0.2], True),
        (math.nan, [0.1], False),
        (math.nan, [], False),
    ],
)
def test_the_better_half_is_of_the_peers_and_oneself(value: float, peers: list[float], inside: bool) -> None:
    assert in_better_half(value, peers) == inside


def placed(study: Study, group: int, arm: str, lead: bool, stratum: int = 0) -> optuna.Trial:
    trial = drawn(study, arm)
    place = {"group": group, "arm": arm, "lead": lead, "stratum": stratum}
    study._storage.set_trial_system_attr(trial._trial_id, PLACE, place)
    return trial


def decided(study: Study, trial: optuna.Trial) -> bool:
    """Whether it was written down that the trial goes on."""
    return TrialRecord(frozen(study, trial)).goes_on


@pytest.fixture
def leading(tiny: StudySpec) -> Study:
    """A study in which leads decide after three epochs of 15."""
    search = replace(tiny.search, design="stratified", pruner=LEAD)
    spec = replace(tiny, search=search, train=replace(tiny.train, epochs=15))
    pruner = make_pruner(spec)
    assert isinstance(pruner, LeadDecides)
    assert pruner.rung == 3
    return optuna.create_study(direction="maximize", pruner=pruner)


def test_a_lead_goes_on_in_the_better_half_of_its_arm_and_stratum(leading: Study) -> None:
    """Others of the arm count, be they leads or followers; other arms and strata do not."""
    for i, (arm, lead, stratum, level, stopped) in enumerate(
        [
            ("plain", True, 0, 0.5, False),
            ("plain", True, 1, 0.1, False),
            ("preact", False, 0, 0.2, False),
            ("preact", True, 0, 0.1, True),
            ("preact", True, 0, 0.3, False),
            ("plain", False, 0, 0.9, False),
            ("plain", True, 0, 0.7, True),
            ("plain", True, 0, 0.8, False),
        ]
    ):
        trial = placed(leading, i, arm, lead, stratum)
        assert trained(leading, trial, [level] * 15) == (3 if stopped else None)
        assert decided(leading, trial) == (lead and not stopped)


def test_a_follower_is_never_stopped(leading: Study) -> None:
    assert trained(leading, placed(leading, 0, "plain", lead=True), [0.9] * 15) is None
    for group in range(1, 5):
        follower = placed(leading, group, "plain", lead=False)
        assert trained(leading, follower, [0.1] * 15) is None
        assert not decided(leading, follower)


def test_a_lead_decides_once(leading: Study) -> None:
    """What was decided stays, whoever comes later, and also where a worker went on with it."""
    first = placed(leading, 0, "plain", lead=True)
    for epoch in (1, 2, 3):
        first.report(0.2, epoch)
        assert not first.should_prune()
    assert decided(leading, first)
    assert trained(leading, placed(leading, 1, "plain", lead=True), [0.9] * 15) is None
    first.report(0.2, 4)
    assert not first.should_prune()


def test_a_diverged_one_is_the_worst_of_its_peers(leading: Study) -> None:
    assert trained(leading, placed(leading, 0, "plain", lead=True), [0.1, 0.1, math.nan]) == 3
    assert trained(leading, placed(leading, 1, "plain", lead=True), [0.1] * 15) is None


def test_with_one_epoch_there_is_nothing_to_decide_by(tiny: StudySpec) -> None:
    search = replace(tiny.search, design="stratified", pruner=LEAD)
    spec = replace(tiny, search=search, train=replace(tiny.train, epochs=1))
    assert isinstance(make_pruner(spec), NopPruner)
