from __future__ import annotations

import re
from dataclasses import replace

import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from search.analysis.accounts import Account
from search.analysis.evidence import Evidence, gather
from search.views.tables import (
    TextTable,
    account_table,
    cause_table,
    duel_table,
    failure_table,
    level_table,
    style_of,
    verdict_in,
    winner_table,
)
from tests.support.made_trials import deep_pairs, made, records, study_of

PRUNED, FAIL = TrialState.PRUNED, TrialState.FAIL
TABLE = TextTable("A | title [bold]", ("arm", "n", "share (unequal)"), (("a|b", "1", "[red]"),), words=1)


def of(trials: list[FrozenTrial], baseline: str = "plain") -> Evidence:
    return gather(records(trials), baseline)


def printed(table: TextTable) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table.terminal(160))
    return captured.get()


def test_a_table_is_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "**A | title [bold]**",
        "",
        "| arm | n | share (unequal) |",
        "| --- | ---: | ---: |",
        "| a/b | 1 | [red] |",
    ]


def test_a_table_is_printed_and_trusts_no_name() -> None:
    text = printed(TABLE)
    assert "A | title [bold]" in text
    assert re.search(r"arm +n +\(unequal\)", text)
    assert re.search(r"a\|b +1 + \[red\]", text)


def test_a_narrow_terminal_is_given_the_most_telling_columns() -> None:
    """Of a default search every line fits 80 characters, and no cell is cut."""
    evidence = of(study_of(60) + deep_pairs(14, first=60))
    for table in (duel_table(evidence), winner_table(evidence)):
        console = Console(width=80)
        with console.capture() as captured:
            console.print(table.terminal(80, details=False))
        text = captured.get()
        assert "…" not in text
        shown = [i for i, name in enumerate(table.columns) if name in table.brief]
        assert len(shown) == len(table.brief) < len(table.columns)
        assert 0 < len(table.minor) < len(table.rows)
        for number, row in enumerate(table.rows):
            found = re.search(r" +".join(re.escape(row[i].strip()) for i in shown), text)
            assert bool(found) == (number not in table.minor), row


def test_all_columns_of_a_narrow_terminal_are_in_parts_that_fit_it() -> None:
    """Every part says what its rows are about, no cell is cut, and none is left out."""
    table = winner_table(of(study_of(60) + deep_pairs(14, first=60)))
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table.terminal(80))
    lines = [line.strip() for line in captured.get().splitlines()]
    for row in table.rows:
        told = [line for line in lines if line.split()[:1] == [row[0]]]
        assert len(told) > 1
        assert " ".join(" ".join(told).split()).replace(f" {row[0]} ", " ").split() == " ".join(row).split()
    assert "…" not in captured.get()


def test_verdicts_have_colours_and_other_words_have_none() -> None:
    assert [verdict_in(cell) for cell in ("beats", "undecided ~4", "beaten", "", "+3")] == [
        "beats", "undecided", "", "", "",
    ]  # fmt: skip
    assert (style_of("beats"), style_of("plain")) == ("bold green", "")


def test_columns_to_be_looked_at_are_marked() -> None:
    assert TABLE.marked == ["share (unequal)"]


def test_levels_score_final_values_and_count_the_pruned() -> None:
    trials = [
        made(0, "plain", 0.5, train_accuracy=0.55),
        made(1, "plain", 0.7, train_accuracy=0.85),
        made(2, "plain", 0.99, state=PRUNED),
        made(3, "plain", 0.1, blocks=20, outcome="diverged", train_accuracy=0.3),
        made(4, "preact", 0.8, train_accuracy=None),
    ]
    table = level_table(of(trials))
    assert table.columns == ("arm", "convs", "trials", "to the end", "best val", "median val", "median train")
    assert table.rows == (
        ("plain", "1-8", "3", "2", "70.0", "60.0", "70.0"),
        ("plain", "33-44", "1", "1", "10.0", "10.0", "30.0"),
        ("pre-activation", "1-8", "1", "1", "80.0", "80.0", "-"),
    )


def test_pairs_are_compared_within_groups_and_never_with_a_pruned_score() -> None:
    trials = [
        made(0, "plain", 0.50, group=0), made(1, "residual", 0.90, group=0),
        made(2, "plain", 0.91, group=1), made(3, "residual", 0.915, group=1),
        made(4, "plain", 0.80, group=2), made(5, "residual", 0.30, group=2),
        made(6, "plain", 0.10, group=3, state=PRUNED), made(7, "residual", 0.99, group=3),
        made(8, "plain", 0.60, group=4), made(9, "residual", group=4, state=TrialState.RUNNING),
    ]  # fmt: skip
    for trial, value in ((trials[6], 0.2), (trials[7], 0.1)):
        trial.intermediate_values = {1: value}
    [row] = duel_table(of(trials)).rows
    assert row[:2] == ("residual", "1-20")
    assert row[3] == "−3.2", "40, 0.5 and −50 points"
    assert row[5:] == ("3", "1/1/1", "+8.0", "+8.0", "0/0/1")


def test_a_pair_with_an_accuracy_of_zero_is_a_pair() -> None:
    [row] = duel_table(of([made(0, "plain", 0.0), made(1, "preact", 0.4)])).rows
    assert (row[0], row[3], row[4], row[5]) == ("pre-activation", "+40", "-", "1")


def test_the_best_of_a_depth_is_set_against_the_baselines_there_and_anywhere() -> None:
    trials = [
        made(0, "plain", 0.5, blocks=13),
        made(1, "preact", 0.8, blocks=13),
        made(2, "plain", 0.93, group=1),
    ]
    table = duel_table(of(trials))
    [row] = table.rows
    ahead = dict(zip(table.columns, row, strict=True))
    assert (ahead["over plain's best here"], ahead["over plain's best"]) == ("+30", "−13")


@pytest.mark.parametrize(("pairs", "says"), [(5, "leads"), (14, "beats")])
def test_only_what_is_undecided_tells_how_many_pairs_it_lacks(pairs: int, says: str) -> None:
    assert [row[2] for row in duel_table(of(deep_pairs(pairs))).rows] == [says]
    mixed = deep_pairs(pairs) + deep_pairs(2, -0.05, first=90)
    [row] = duel_table(of(mixed)).rows
    assert re.fullmatch(r"undecided ~\d+" if pairs == 5 else "beats", row[2])


def test_pairs_that_were_cut_short_have_a_column_where_there_are_any() -> None:
    whole = duel_table(of(deep_pairs(9)))
    assert not any("cut short" in column for column in whole.columns)
    cut = [made(100, "plain", 0.2, group=99, state=PRUNED), made(101, "preact", 0.3, group=99)]
    for trial, value in zip(cut, (0.2, 0.1), strict=True):
        trial.intermediate_values = {1: value}
    both = duel_table(of(deep_pairs(9) + cut))
    assert both.columns == (*whole.columns, "cut short: w/t/l")
    assert [row[-1] for row in both.rows] == ["0/0/1", "-"]


def test_winners_have_their_twins_beside_them() -> None:
    trials = [made(0, "plain", 0.5), made(1, "preact", 0.9), made(2, "residual", 0.505)]
    [row] = winner_table(of(trials)).rows
    assert row == (
        "#1", "pre-activation", "7", "16×3, none", "90.0", "+40", "#0", "50.0", "1,234", "-", "-",
    )  # fmt: skip


def test_causes_that_occur_have_columns_in_their_order() -> None:
    trials = [
        made(0, "plain", cause="vanished"), made(1, "plain", cause="fine", group=1),
        made(2, "plain", cause="fine", group=2, state=PRUNED), made(3, "preact", cause="diverged"),
    ]  # fmt: skip
    table = cause_table(of(trials))
    assert table.columns == ("arm", "convs", "trials", "to the end", "fine", "vanished", "diverged")
    assert table.rows == (
        ("plain", "1-8", "3", "2", "2", "1", "-"),
        ("pre-activation", "1-8", "1", "1", "-", "-", "1"),
    )


def test_failures_are_told_with_what_became_of_all_trials() -> None:
    trials = [
        *(made(i, "plain", 0.1, group=i, train_accuracy=0.11) for i in range(4)),
        *(made(i, "preact", 0.9, group=i - 4) for i in range(4, 8)),
        made(8, "preact", group=9, state=PRUNED),
        made(9, "residual", group=9, state=FAIL),
    ]
    assert failure_table(of(trials)).rows == (
        ("plain", "4 of 4", "-", "4 complete"),
        ("residual", "0 of 0", "-", "1 error"),
        ("pre-activation", "0 of 4", "0.029", "4 complete, 1 pruned"),
    )


def test_what_each_arm_was_given_marks_what_differs() -> None:
    plain = Account(
        "plain", trials=3, to_the_end=2, epochs=45, seconds=61.26, mean_params=1234.5, mean_macs=9.5e6
    )
    ghost = replace(plain, arm="ghost", epochs=30, seconds=1200.4, mean_params=None)
    table = account_table([plain, ghost], ["epochs", "seconds"], ", of late")
    assert table.title == "What each arm was given, of late"
    assert table.columns == (
        "arm", "trials", "to the end", "epochs (unequal)", "training, s (unequal)", "mean parameters",
        "mean MACs",
    )  # fmt: skip
    assert table.rows == (
        ("plain", "3", "2", "45", "61.3", "1,234", "9,500,000"),
        ("ghost", "3", "2", "30", "1,200", "-", "9,500,000"),
    )
    assert table.marked == ["epochs (unequal)", "training, s (unequal)"]


def test_every_row_has_a_cell_for_each_column() -> None:
    evidence = of(study_of(60))
    makers = duel_table, winner_table, level_table, cause_table, failure_table
    for table in (make(evidence) for make in makers):
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
        assert 0 < table.words < len(table.columns)


def test_another_baseline_is_named_where_arms_are_held_against_it() -> None:
    evidence = of(study_of(60), "residual")
    assert duel_table(evidence).title == ("Against residual, points within pairs (exploratory)")
    assert "p against residual (Fisher)" in failure_table(evidence).columns
    assert {row[0] for row in duel_table(evidence).rows} == {"plain", "pre-activation"}
