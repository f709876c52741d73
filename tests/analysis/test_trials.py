from __future__ import annotations

import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, RenderableType
from search.summary import arm_table, pair_table, summary

from search.analysis.bands import depth_band


def text(renderable: RenderableType | None) -> str:
    assert renderable is not None
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(renderable)
    console.file.close()
    return console.export_text()


def rows(renderable: RenderableType | None) -> list[list[str]]:
    lines = [line for line in text(renderable).splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.parametrize(
    ("depth", "band"), [(1, "1-8"), (8, "1-8"), (9, "9-14"), (32, "21-32"), (110, "57-110"), (111, "111+")]
)
def test_depth_bands(depth: int, band: str) -> None:
    assert depth_band(depth) == band


def test_arms_by_depth_score_final_values_and_count_the_pruned() -> None:
    trials = [
        made(0, "plain", 0.5),
        made(1, "plain", 0.7),
        made(2, "plain", 0.99, state=TrialState.PRUNED),
        made(3, "plain", 0.1, blocks=20, outcome="diverged"),
        made(4, "preact", 0.8),
    ]
    assert rows(arm_table(trials)) == [
        ["plain", "1-8", "3", "2", "70.0", "60.0", "60.0"],
        ["", "33-44", "1", "1", "10.0", "10.0", "10.0"],
        ["preact", "1-8", "1", "1", "80.0", "80.0", "80.0"],
    ]


def test_pairs_are_compared_within_groups_and_never_with_a_pruned_score() -> None:
    trials = [
        made(0, "plain", 0.50, group=0), made(1, "residual", 0.90, group=0),
        made(2, "plain", 0.90, group=1), made(3, "residual", 0.905, group=1),
        made(4, "plain", 0.90, group=2), made(5, "residual", 0.30, group=2),
        made(6, "plain", 0.10, group=3, state=TrialState.PRUNED), made(7, "residual", 0.99, group=3),
        made(8, "plain", 0.60, group=4), made(9, "residual", group=4, state=TrialState.RUNNING),
    ]  # fmt: skip
    assert rows(pair_table(trials)) == [["residual", "3", "1", "1", "1", "+0.5", "1"]]
    assert [sorted(group) for group in groups_of(trials)] == [["plain", "residual"]] * 5


def test_a_pair_with_an_accuracy_of_zero_is_a_pair() -> None:
    trials = [made(0, "plain", 0.0), made(1, "preact", 0.4)]
    assert rows(pair_table(trials)) == [["preact", "1", "1", "0", "0", "+40.0", "0"]]


def test_the_summary_names_the_best_and_what_was_spent() -> None:
    shown = text(summary([made(0, "plain", 0.5), made(1, "residual", 0.9), made(2, "preact", 0.8)]))
    assert "Best residual: trial 1, 90.0 % (best of all): residual, 7 convs [16×3]" in shown
    assert "Spent: 3 trials (3 complete), 45 epochs, 6 s of training." in shown
    assert shown.lower().count("exploratory") == 3


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [made(0, "plain", state=TrialState.FAIL)],
        [made(0, "plain", state=TrialState.RUNNING)],
        [made(0, "residual", state=TrialState.PRUNED)],
    ],
    ids=["empty", "failed", "running", "pruned"],
)
def test_a_study_in_any_state_has_a_summary(trials: list[FrozenTrial]) -> None:
    assert "Spent: " in text(summary(trials))


def test_a_trial_lost_before_it_was_described_breaks_nothing() -> None:
    lost = made(0, "plain", state=TrialState.FAIL)
    lost.user_attrs = {"worker": "x", "attempt": 3, "outcome": "lost"}
    assert "1 lost" in text(summary([lost, made(1, "plain")]))
    assert "lost" in trial_line(lost)


def test_a_trial_in_a_line() -> None:
    line = trial_line(made(12, "residual", 0.972, replicate_of=3))
    expected = "#12 residual 7 convs 16 1,234 params 97.2 % complete 2.0 s replicate of 3"
    assert " ".join(line.split()) == expected
    assert "pruned at 15" in trial_line(made(1, "plain", state=TrialState.PRUNED))
