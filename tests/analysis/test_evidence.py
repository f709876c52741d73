from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.analysis.evidence import Evidence, Leader, Middle, gather, middle
from search.views.findings import VERSION
from tests.support.made_trials import deep_pairs, made, records, shape_of, study_of
from tests.support.made_up import Halved, installed

PRUNED, RUNNING, FAIL = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL


def evidence_of(trials: list[FrozenTrial], baseline: str = "plain") -> Evidence:
    return gather(records(trials), baseline)


def trained(arm: str, blocks: int, train: float, count: int = 3) -> list[FrozenTrial]:
    """Runs that validate alike, however they train."""
    return [made(i, arm, 0.5, blocks=blocks, train_accuracy=train) for i in range(count)]


def test_levels_tell_best_and_median_of_runs_to_the_end_and_count_the_others() -> None:
    trials = [
        made(0, "plain", 0.5, train_accuracy=0.9, cause="slow"),
        made(1, "plain", 0.7, train_accuracy=0.6, cause="fine"),
        made(2, "plain", 0.6, train_accuracy=0.7, cause="fine"),
        made(3, "plain", 0.99, state=PRUNED, cause="vanished"),
        made(4, "plain", 0.1, blocks=20),
        made(5, "preact", 0.8, train_accuracy=None),
    ]
    first, deep, other = evidence_of(trials).levels
    assert (first.arm, first.band, first.trials, first.to_the_end, first.best) == ("plain", "1-8", 4, 3, 70.0)
    assert (first.val, first.train) == (middle([50, 60, 70]), middle([60, 70, 90]))
    assert first.causes == {"slow": 1, "fine": 2, "vanished": 1}
    assert (deep.arm, deep.band, deep.causes) == ("plain", "33-44", {"unknown": 1})
    assert (other.arm, other.band, other.best, other.train) == ("preact", "1-8", 80.0, None)


def test_leaders_are_the_best_of_each_arm() -> None:
    trials = [
        made(0, "residual", 0.8),
        made(1, "plain", 0.5, train_accuracy=0.99),
        made(2, "plain", 0.7, blocks=20, train_accuracy=0.6),
        made(3, "plain", 0.7, blocks=5),
        made(4, "plain", 0.99, state=PRUNED),
        made(5, "preact", 0.9, state=PRUNED),
    ]
    assert evidence_of(trials).leaders == (Leader("plain", 2, 70, 41), Leader("residual", 0, 80, 7))


def test_counts_are_of_all_that_ended_and_of_what_ran_to_the_end() -> None:
    lost = made(4, "plain", state=FAIL)
    lost.user_attrs = {"outcome": "lost"}
    trials = [
        made(0, "plain"),
        made(1, "preact", state=RUNNING),
        made(2, "plain", state=PRUNED),
        made(3, "plain"),
    ]
    evidence = evidence_of([*trials, lost])
    assert (evidence.finished, evidence.to_the_end, evidence.exploratory) == (4, 2, True)
    assert evidence.arms == ("plain",)


@pytest.mark.parametrize("arm", ["plain", "residual"])
def test_the_baseline_turns_down_where_it_trains_worse_for_good(arm: str) -> None:
    """Training accuracy decides: the scores of these runs are all the same."""

    def turned(trials: list[FrozenTrial]) -> int | None:
        return evidence_of(trials, arm).baseline_turns_down_at

    def runs(blocks: int, train: float, count: int = 3) -> list[FrozenTrial]:
        return trained(arm, blocks, train, count)

    down = runs(3, 0.99) + runs(5, 0.98) + runs(8, 0.8) + runs(13, 0.3)
    assert turned(down) == 15
    other = trained("preact", 3, 0.99) + trained("preact", 4, 0.2)
    assert turned(other + down) == 15, "the others' depths do not count"
    assert turned(other) is None
    assert turned(runs(3, 0.99) + runs(8, 0.5) + runs(13, 0.99)) is None, "it recovers"
    assert turned(runs(3, 0.99) + runs(13, 0.3, count=2)) is None, "too few"
    cut = [made(90 + i, arm, 0.2, group=90, blocks=13, state=TrialState.PRUNED) for i in range(3)]
    assert turned(runs(3, 0.99) + runs(13, 0.3, count=2) + cut) is None, "those that were pruned do not count"
    assert turned(runs(3, 0.1)) is None
    assert turned(runs(3, 0.75) + runs(8, 0.70)) is None, "five points are not more than five"
    assert turned(runs(3, 0.75) + runs(8, 0.69)) == 15


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([1.0] * 5, Middle(1.0, None, None)),
        ([1, 2, 3, 4, 5], Middle(3, None, None)),
        ([6, 2, 3, 4, 5, 1], Middle(3.5, 1, 6)),
        (range(1, 11), Middle(5.5, 2, 9)),
    ],
)
def test_the_interval_of_a_median_needs_six_runs(values: Sequence[float], expected: Middle | None) -> None:
    assert middle(values) == expected


def test_failures_causes_noise_and_the_ledger() -> None:
    trials = [
        made(0, "plain", 0.1, outcome="diverged", train_accuracy=0.9, cause="diverged", macs=100),
        made(1, "plain", 0.9, cause="fine", macs=100, fingerprint="b", group=1),
        made(2, "plain", 0.92, cause="fine", macs=100, fingerprint="b", replicate_of=1, group=2),
        made(3, "residual", 0.9, macs=300, fingerprint="c"),
    ]  # fmt: skip
    evidence = evidence_of(trials)
    assert [(f.arm, f.failed, f.to_the_end, f.p_against_baseline) for f in evidence.failures] == [
        ("plain", 1, 3, None), ("residual", 0, 1, 1.0),
    ]  # fmt: skip
    assert evidence.failures[0].outcomes == {"diverged": 1, "complete": 2}
    assert evidence.noise is not None
    assert evidence.noise.sd == pytest.approx(2**0.5)
    assert [(a.arm, a.trials) for a in evidence.ledger] == [("plain", 3), ("residual", 1)]
    assert evidence.unequal == ("trials", "epochs", "seconds", "mean_macs")


def test_chance_is_that_of_the_images_classes() -> None:
    """A pruned trial counts as chance in the budget, a diverged one in the failures."""
    hundred = json.dumps(json.loads(made(0, "plain").user_attrs["architecture"]) | {"classes": 100})
    trials = [
        made(0, "plain", 0.5, architecture=hundred),
        made(1, "plain", 0.9, architecture=hundred, state=PRUNED),
    ]
    [budget] = evidence_of(trials).budgets
    assert budget.expected == (25.5, 50.0)
    learned = made(2, "plain", 0.1, architecture=hundred)
    assert [f.failed for f in evidence_of([learned]).failures] == [0]


def test_another_baseline_is_the_one_that_all_is_held_against() -> None:
    trials = [
        made(i, arm, value + i * i / 10000, group=i // 3)
        for i, (arm, value) in enumerate([("plain", 0.1), ("residual", 0.7), ("preact", 0.9)] * 10)
    ]
    evidence = evidence_of(trials, "residual")
    assert evidence.baseline == "residual"
    assert [(duel.arm, duel.word) for duel in evidence.duels] == [("plain", "loses"), ("preact", "beats")]
    assert [(f.arm, f.p_against_baseline is None) for f in evidence.failures] == [
        ("plain", False), ("residual", True), ("preact", False),
    ]  # fmt: skip
    assert evidence.failures[0].p_against_baseline == pytest.approx(1.1e-5, rel=0.02)


def test_an_arm_that_is_not_installed_here_is_told_of_like_any_other() -> None:
    with installed(Halved):
        trials = [made(i, arm, 0.5 + i / 100, group=i // 2) for i, arm in enumerate(["halved", "plain"] * 6)]
        here = evidence_of(trials)
    assert evidence_of(trials) == here
    assert here.arms == ("plain", "halved")
    assert [duel.arm for duel in here.duels] == ["halved"]
    as_baseline = evidence_of(trials, "halved")
    assert [duel.arm for duel in as_baseline.duels] == ["plain"]


def test_a_study_in_any_state_is_evidence() -> None:
    states = [
        [],
        [made(0, "plain", state=RUNNING)],
        [made(0, "plain", state=FAIL), made(1, "preact")],
        [made(0, "plain", state=PRUNED), made(1, "preact", state=PRUNED)],
        deep_pairs(1),
    ]
    for trials in states:
        json.dumps(dataclasses.asdict(evidence_of(trials)), allow_nan=False)


def test_trials_that_lack_attributes_break_nothing() -> None:
    bare = made(0, "plain")
    bare.user_attrs = {"arm": "plain", "depth": 7}
    lost = made(1, "plain", state=FAIL)
    lost.user_attrs = {"outcome": "lost"}
    assert evidence_of([bare, lost, made(2, "preact")]).finished == 3


def test_the_schema_is_frozen() -> None:
    """A change here is a change for whoever reads `--json`: raise VERSION."""
    score = dict.fromkeys(("pairs", "wins", "ties", "losses", "mean", "median"))
    median = dict.fromkeys(("median", "low", "high"))
    duel = dict.fromkeys(
        ("arm", "band", "half", "gain", "low", "high", "holm_p", "word", "more_pairs", "best",
         "best_baseline", "ahead_of_best_baseline", "ahead_of_any_baseline")
    )  # fmt: skip
    level = dict.fromkeys(("arm", "band", "trials", "to_the_end", "best"))
    evidence = dataclasses.asdict(evidence_of(study_of(60)))
    winner = dict.fromkeys(
        ("arm", "trial", "depth", "band", "architecture", "outline", "val", "twin", "twin_val", "difference",
         "params", "macs", "weights")
    )  # fmt: skip
    assert VERSION == 5
    assert shape_of(evidence) == {
        **dict.fromkeys(("exploratory", "finished", "to_the_end", "baseline", "grouped", "noise")),
        "arms": [None],
        "baseline_turns_down_at": None,
        "halves": [None],
        "winners": [winner],
        "duels": [duel | {"final": score, "cut_short": score}],
        "levels": [level | {"val": median, "train": median, "causes": {"fine": None}}],
        "leaders": [dict.fromkeys(("arm", "trial", "val", "depth"))],
        "failures": [
            dict.fromkeys(("arm", "failed", "to_the_end", "p_against_baseline"))
            | {"outcomes": {"complete": None, "pruned": None}}
        ],
        "budgets": [{"arm": None} | {key: [None] for key in ("trials", "expected", "low", "high")}],
        "ledger": [
            dict.fromkeys(("arm", "trials", "to_the_end", "epochs", "seconds", "mean_params", "mean_macs"))
        ],
        "unequal": shape_of(evidence["unequal"]),
    }
