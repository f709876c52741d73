"""A search of arms that do not differ says "beats" of none, in 95 of 100 at least: the design and the words
together, over many searches of made up curves."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.duels import duels_of
from search.design.places import Places
from search.design.pruners import in_better_half
from search.design.strata import strata_of_spec
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.storage.rows import Placed
from tests.support.made_trials import made, records

SEARCHES, TRIALS, CHANCE = 60, 100, 0.1
Run = Callable[[random.Random, str, float], tuple[float, float]]
"""The accuracy of an arm under a draw of some quality at the rung, and in the end."""


def equal(rng: random.Random, arm: str, quality: float) -> tuple[float, float]:
    """Seeds move a good net little, a bad one much."""
    end = min(1.0, max(CHANCE, quality + rng.gauss(0, 0.005 + 0.2 * (1 - quality) ** 2)))
    return end * rng.uniform(0.5, 0.9), end


def late(rng: random.Random, arm: str, quality: float) -> tuple[float, float]:
    """Plain stacks start two epochs late: of three, one has shown, more or less of it."""
    early, end = equal(rng, arm, quality)
    return (CHANCE + (early - CHANCE) * rng.uniform(0, 0.67) if arm == "plain" else early), end


def collapsing(rng: random.Random, arm: str, quality: float) -> tuple[float, float]:
    """One run in ten falls to chance, whatever it looked like at first."""
    early, end = equal(rng, arm, quality)
    return early, CHANCE if rng.random() < 0.1 else end


def ahead(rng: random.Random, arm: str, quality: float) -> tuple[float, float]:
    """Shortcuts gain most of what is lacking."""
    return equal(rng, arm, quality if arm == "plain" else quality + 0.8 * (0.99 - quality))


def search_of(spec: StudySpec, run: Run, seed: int) -> list[FrozenTrial]:
    """The trials of a search, each placed and decided as the design does it."""
    rng, places, strata = random.Random(seed), Places(spec), strata_of_spec(spec)
    trials: list[FrozenTrial] = []
    placed: list[Placed] = []
    drawn: dict[int, tuple[int, float]] = {}
    seen: dict[tuple[str, int], list[float]] = defaultdict(list)
    while len(trials) < TRIALS:
        place = places(placed, TRIALS - len(trials))
        assert place is not None, "nothing runs, so all is decided"
        group, arm, stratum = place["group"], place["arm"], strata[place["stratum"]]
        if place["lead"]:
            depth = rng.randrange(stratum.low, stratum.high + 1, 2)
            spread = rng.random() ** 2 if depth > 21 else 0.2 * rng.random()  # deep ones may fail altogether
            drawn[group] = depth, 0.99 - 0.89 * spread
        depth, quality = drawn[group]
        early, end = run(rng, arm, quality)
        cell = seen[arm, place["stratum"]]
        stopped = place["lead"] and not in_better_half(early, cell)
        cell.append(early)
        state = TrialState.PRUNED if stopped else TrialState.COMPLETE
        placed.append(Placed(place, state, goes_on=place["lead"] and not stopped))
        trials.append(
            made(len(trials), arm, early if stopped else end, group=group, blocks=(depth - 1) // 2,
                 state=state, stratum=stratum.name)
        )  # fmt: skip
    return trials


def share(run: Run, word: str, arms: tuple[str, ...] = ("residual", "preact")) -> float:
    """The share of searches that say the word of one of the arms at any depth."""
    spec, said = load_spec(find_study("digits")), 0
    for seed in range(SEARCHES):
        duels = duels_of(records(search_of(spec, run, seed)), "plain")
        said += any(duel.word == word for duel in duels if duel.arm in arms)
    return said / SEARCHES


@pytest.mark.slow
@pytest.mark.parametrize("run", [equal, late, collapsing], ids=lambda run: run.__name__)
def test_arms_that_do_not_differ_beat_each_other_in_one_search_of_twenty_at_most(run: Run) -> None:
    assert share(run, "beats") <= 0.05


@pytest.mark.slow
def test_arms_that_do_differ_are_found() -> None:
    assert share(ahead, "beats", ("preact",)) >= 0.9
