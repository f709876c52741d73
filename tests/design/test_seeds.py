"""Seeds are numbers of stored studies: whoever goes on with one draws and trains as was begun."""

from __future__ import annotations

from dataclasses import replace

from optuna.trial import create_trial

from search.design.seeds import confirmation_seed, draw_seed, training_seed
from search.spec.study import StudySpec
from search.storage.trial_record import TURN


def of(spec: StudySpec, number: int, turn: int | None) -> int:
    trial = create_trial(value=0.0, system_attrs={} if turn is None else {TURN: turn})
    trial.number = number
    return training_seed(spec, trial)


def seeded(spec: StudySpec, seed: int, design: str = "matched") -> StudySpec:
    return replace(spec, search=replace(spec.search, seed=seed, design=design))


def test_seeds_are_the_recorded_ones(tiny: StudySpec) -> None:
    assert [draw_seed(0, 0), draw_seed(0, 1), draw_seed(7, 3)] == [1484405855, 1915600865, 1675799474]
    assert [confirmation_seed(0, 0), confirmation_seed(0, 1), confirmation_seed(7, 3)] == [
        1306511473, 1839634470, 1902038212,
    ]  # fmt: skip
    assert [of(tiny, 40, turn=2), of(tiny, 40, turn=3)] == [1982462498, 450621607], "of groups 0 and 1"
    assert of(seeded(tiny, 7), 40, turn=9) == 958477807
    free = seeded(tiny, 0, "free")
    assert of(free, 0, turn=9) == of(tiny, 0, turn=None) == 1570558271
    assert of(seeded(tiny, 7, "free"), 3, turn=9) == 2116986732


def test_one_seed_per_group_and_one_per_trial_outside_groups(tiny: StudySpec) -> None:
    """Turns 0 to 2 of three arms are a group, whatever the trials' numbers are."""
    assert len({of(tiny, number, turn) for number, turn in ((5, 0), (1, 1), (9, 2))}) == 1
    assert len({of(tiny, 0, turn) for turn in range(30)}) == 10
    assert len({of(tiny, number, None) for number in range(30)}) == 30
    assert len({of(seeded(tiny, 0, "free"), number, turn=0) for number in range(30)}) == 30


def test_no_two_purposes_share_a_seed(tiny: StudySpec) -> None:
    """A search draws none of the splits and weights of its confirmation."""
    count = range(50)
    seeds = [draw_seed(0, n) for n in count] + [confirmation_seed(0, n) for n in count]
    seeds += [of(tiny, 0, turn=3 * n) for n in count] + [of(tiny, n, turn=None) for n in count]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
