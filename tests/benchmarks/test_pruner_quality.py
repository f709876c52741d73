"""Replays spend what they say, and what a pruner killed is counted right, on curves that are made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from benchmarks import coverage, pruner_quality
from benchmarks.coverage import whole_pairs
from benchmarks.curves import Curve, Recorder, random_draws, whole
from benchmarks.judging import best_at, epochs_to, kept_by_half, kills, rank_correlation, steps_of
from benchmarks.pools import PRUNERS, Pool
from benchmarks.replay import Tried, free_trials, matched_trials, search, seeded, shuffled
from search.design.pruners import make_pruner
from search.design.samplers import make_sampler
from search.design.space import suggested_names
from search.spec.study import StudySpec

optuna.logging.set_verbosity(optuna.logging.ERROR)
ARMS = ("plain", "residual", "preact")
EPOCHS = 15


class MadeUp:
    """Curves that rise to a level which the seed decides, the plain ones late."""

    chance = 0.1

    def run(
        self, values: Mapping[str, Any], seed: int, on_epoch: Callable[[int, float], bool] = lambda *_: False
    ) -> Curve:
        level, late = 0.5 + seed % 97 / 200, 6 if values["block"] == "plain" else 1
        accuracies = [level * min(1.0, epoch / late) for epoch in range(1, EPOCHS + 1)]
        for epoch, accuracy in enumerate(accuracies, start=1):
            if on_epoch(epoch, accuracy):
                return Curve(tuple(accuracies[:epoch]), "stopped")
        return Curve(tuple(accuracies), "complete")


class Every(BasePruner):
    """Prunes all trials of an arm at an epoch."""

    def __init__(self, arm: str, epoch: int) -> None:
        self.arm, self.epoch = arm, epoch

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return trial.params["block"] == self.arm and trial.last_step == self.epoch


@pytest.fixture
def spec(tiny: StudySpec) -> StudySpec:
    return replace(tiny, train=replace(tiny.train, epochs=EPOCHS))


def replayed(spec: StudySpec, pruner: BasePruner, groups: int) -> list[Tried]:
    given = matched_trials(random_draws(spec, groups), ARMS)
    return search(
        spec, RandomSampler(seed=0), pruner, given, lambda tried: len(tried) == 3 * groups, MadeUp()
    )


def test_without_a_pruner_every_trial_takes_all_its_epochs(spec: StudySpec) -> None:
    tried = replayed(spec, NopPruner(), 8)
    assert sum(trial.epochs for trial in tried) == 8 * 3 * EPOCHS
    assert not any(trial.pruned for trial in tried)
    assert all(trial.value == MadeUp().run(trial.values, trial.seed).value(0.1) for trial in tried)


def test_a_pruner_is_asked_after_every_epoch_but_the_last(spec: StudySpec) -> None:
    tried = replayed(spec, Every("plain", 4), 8)
    assert {trial.epochs for trial in tried if trial.arm == "plain"} == {4}
    assert {trial.epochs for trial in tried if trial.arm != "plain"} == {EPOCHS}
    assert not any(trial.pruned for trial in replayed(spec, Every("plain", EPOCHS), 8))


def test_the_default_pruner_replays_as_it_searches(spec: StudySpec) -> None:
    """Rungs from a fifteenth of the epochs on; a trial of each arm survives."""
    tried = replayed(spec, make_pruner(seeded(spec, 0, pruner="hyperband")), 20)
    assert {trial.epochs for trial in tried} == {1, 2, 4, 8, EPOCHS}
    assert {trial.arm for trial in tried if not trial.pruned} == set(ARMS)


def test_given_draws_come_first_in_matched_places_then_the_samplers(spec: StudySpec) -> None:
    draws = random_draws(spec, 4)
    names = suggested_names(spec.space)
    given = matched_trials(draws, ARMS)
    tried = search(
        spec, make_sampler(spec, names), NopPruner(), given, lambda done: len(done) == 18, MadeUp()
    )
    assert [(trial.values, trial.seed) for trial in tried[:12]] == given
    for group in range(6):
        members = tried[3 * group : 3 * group + 3]
        assert sorted(trial.arm for trial in members) == sorted(ARMS)
        assert members[0].arm == ARMS[group % 3]
        assert len({trial.seed for trial in members}) == 1
        assert len({str({**trial.values, "block": ""}) for trial in members}) == 1
    assert len({trial.seed for trial in tried}) == 6


def test_orders_are_other_searches_of_the_same_draws(spec: StudySpec) -> None:
    draws = random_draws(spec, 12)
    orders = [shuffled(draws, seed) for seed in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert all(sorted(draw.seed for draw in order) == sorted(draw.seed for draw in draws) for order in orders)
    assert {values["block"] for values, _ in free_trials(draws, ARMS, 0)} == set(ARMS)


def trial(arm: str, value: float, epochs: int = EPOCHS, pruned: bool = False) -> Tried:
    return Tried({"block": arm}, 0, epochs, pruned, value)


def test_false_kills_are_counted_by_how_pruned_trials_would_have_ended() -> None:
    tried = [
        trial("plain", 0.90),
        trial("plain", 0.30, epochs=3, pruned=True),  # would have been the best
        trial("plain", 0.40, epochs=3, pruned=True),  # in the best quarter, not the best of those left
        trial("plain", 0.20, epochs=6, pruned=True),  # rightly pruned
        *(trial("plain", 0.5) for _ in range(8)),
    ]
    ends = [0.90, 0.95, 0.80, 0.30, *[0.5] * 8]
    found = kills(tried, ends, [EPOCHS] * 12, chance=0.1)
    assert (found.pruned, found.of_top_quarter, found.better_than_best) == (3, 2, 1)
    assert found.lost == pytest.approx(0.05)
    assert found.epochs_saved == pytest.approx((12 + 12 + 9) / (12 * EPOCHS))


def test_an_arm_that_is_pruned_to_the_last_is_left_at_chance() -> None:
    found = kills([trial("plain", 0.3, epochs=1, pruned=True)], [0.9], [EPOCHS], chance=0.1)
    assert found.lost == pytest.approx(0.8)
    assert found.better_than_best == 1


def test_what_an_early_epoch_tells_is_between_all_and_nothing() -> None:
    ends = [0.1 * i for i in range(8)]
    assert rank_correlation(ends, ends) == pytest.approx(1)
    assert rank_correlation(ends[::-1], ends) == pytest.approx(-1)
    assert rank_correlation([0.5] * 8, ends) == 0
    assert kept_by_half(ends, ends) == 1
    assert kept_by_half(ends[::-1], ends) == 0


def test_pairs_are_draws_that_ended_as_plain_and_as_residual() -> None:
    def of(arm: str, seed: int, pruned: bool = False) -> Tried:
        return Tried({"block": arm}, seed, EPOCHS, pruned, 0.9)

    tried = [
        of("plain", 1),
        of("residual", 1),
        of("plain", 2),
        of("residual", 2, pruned=True),
        of("preact", 2),
    ]
    assert whole_pairs(tried) == 1


def test_choices_are_dated_by_the_epochs_of_all_arms() -> None:
    tried = [
        trial("plain", 0.5),
        trial("preact", 0.9),
        trial("plain", 0.99, 3, pruned=True),
        trial("plain", 0.6),
    ]
    steps = steps_of(tried, "plain")
    assert [(step.epochs, step.best.value) for step in steps] == [(15, 0.5), (48, 0.6)]
    assert best_at(steps, 14) is None
    assert best_at(steps, 47) is tried[0]
    assert epochs_to(steps, 0.55, lambda chosen: chosen.value) == 48
    assert epochs_to(steps, 0.7, lambda chosen: chosen.value) == float("inf")


@pytest.mark.slow
def test_a_recorded_curve_stands_for_the_run(tmp_path: Any, tiny: StudySpec) -> None:
    """The run is trained once, cut where asked, gone on with bit for bit, and read again from the file."""
    recorder = Recorder(tiny, tmp_path)
    draw = random_draws(tiny, 1)[0]
    epochs = tiny.train.epochs
    assert epochs > 1
    cut = recorder.run(draw.of("plain"), draw.seed, lambda epoch, accuracy: epoch == 1)
    seen: list[int] = []
    whole = recorder.run(draw.of("plain"), draw.seed, lambda epoch, accuracy: bool(seen.append(epoch)))
    assert (cut.outcome, whole.outcome) == ("stopped", "complete")
    assert cut.accuracies == whole.accuracies[:1]
    assert seen == list(range(1, epochs + 1))
    late = Recorder(tiny, tmp_path, until=0.0)  # nothing may be trained
    assert late.run(draw.of("plain"), draw.seed) == whole
    assert late.run(draw.of("plain"), draw.seed, lambda epoch, accuracy: epoch == 1) == cut


@pytest.mark.slow
def test_every_table_is_made(tmp_path: Any, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool has four draws, each of a few digits."""
    for module in (pruner_quality, coverage):
        monkeypatch.setattr(module, "ORDERS", 1)
    monkeypatch.setitem(pruner_quality.SEEDS, tiny.name, 1)
    monkeypatch.setattr("benchmarks.pools.STARTS", 2)
    recorder = Recorder(tiny, tmp_path)
    pool = Pool(recorder, whole(recorder, random_draws(tiny, 4)))
    audited = pruner_quality.audit(pool)
    assert [row[0] for row in audited.rows] == list(PRUNERS)[1:]
    assert len(coverage.coverage(pool).rows) == len(coverage.SHOWN)
    found = pruner_quality.searches(pool)
    kinds = len(pruner_quality.RACED) + len(pruner_quality.kinds(pool))
    assert len(pruner_quality.race(pool, found, "again", pool.quality).rows) == kinds * len(pool.arms)
    name = next(iter(pruner_quality.kinds(pool)))
    assert "of its own proposals" in pruner_quality.finished_anyway(pool, name, found[name])


def test_what_a_person_wrote_stays(tmp_path: Any) -> None:
    page = tmp_path / "PRUNERS.md"
    assert pruner_quality.by_hand(page) == ""
    page.write_text("# title\n\n<!-- by hand -->\nwords\n<!-- by hand -->\n\n## table\n")
    assert pruner_quality.by_hand(page) == "<!-- by hand -->\nwords\n<!-- by hand -->\n\n"
