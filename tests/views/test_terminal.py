from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from search.analysis.evidence import gather
from search.analysis.verdicts import judge
from search.design.plan import Plan
from search.storage.trial_record import TrialRecord
from search.views.terminal import (
    answer,
    best_lines,
    progress_line,
    recipe_line,
    running_line,
    say,
    show_confirmation,
    show_findings,
    show_plan,
    show_search,
    spent_line,
    terminal,
    warn,
)
from tests.support.made_trials import deep_pairs, findings, made, records, study_of
from tests.support.plans import RATES, choice, ended_runs, plan

PRUNED, FAIL, RUNNING = TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
PLAN = plan([choice(arm, depth, lr) for depth in (9, 21, 45) for arm, lr in RATES.items()], seeds=(10,))


def shown(show: Callable[..., None], *values: Any, width: int = 160) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        show(console, *values)
    return captured.get()


def search_shown(trials: list[FrozenTrial], baseline: str = "plain") -> str:
    return shown(show_search, gather(records(trials), baseline), records(trials))


def answered(trials: list[FrozenTrial]) -> str:
    return shown(answer, gather(records(trials), "plain"), width=100)


def best(trials: list[FrozenTrial]) -> list[str]:
    return best_lines(gather(records(trials), "plain"), records(trials))


def line(trial: FrozenTrial) -> str:
    return progress_line(TrialRecord(trial))


def test_a_log_is_wide_and_a_terminal_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert terminal().width == 140
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal().width == 77


def test_the_end_of_a_search_has_its_tables_the_best_and_the_price() -> None:
    trials = [made(0, "plain", 0.5), made(1, "residual", 0.9), made(2, "preact", 0.8)]
    text = search_shown(trials)
    order = [
        "Against plain, points within pairs (exploratory)",
        "Architectures that beat their plain twin, best of each depth (exploratory)",
        "Best plain, #0: 50.0 %, 7 convs, 16×3, none",
        "Best residual, #1: 90.0 %, 7 convs, 16×3, none",
        "Best pre-activation, #2: 80.0 %, 7 convs, 16×3, none",
        "Spent: 3 trials (3 complete), 45 epochs, 6 s of training.",
    ]
    text = " ".join(text.split())
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert text.lower().count("exploratory") == 2
    assert "#1 residual 7 16×3, none 90.0 +40" in text


def test_the_answer_is_a_sentence() -> None:
    [line] = answered(deep_pairs(12)).splitlines()
    assert line.startswith("Exploratory, 24 trials: from 21 convs on pre-activation beats plain by 30")


def test_trials_that_failed_are_counted_with_their_reasons() -> None:
    failed = made(0, "plain", state=FAIL, outcome="error", error="Traceback\nValueError: no such thing\n")
    text = search_shown([failed, made(1, "plain")])
    assert text.endswith("1 trial ended with error: ValueError: no such thing (#0)\n")
    assert "1 trial ended" not in search_shown([made(1, "plain")])


def test_a_trial_that_failed_says_why_in_its_line() -> None:
    failed = made(0, "plain", state=FAIL, outcome="error", error="Traceback\nValueError: no such thing\n")
    assert line(failed) == "#0   plain      7 convs error: ValueError: no such thing"


def test_a_trial_that_runs_says_how_far_it_is() -> None:
    trial = made(3, "residual", state=RUNNING)
    trial.intermediate_values = {1: 0.5, 2: 0.625}
    trial.datetime_start = datetime(2026, 1, 1, 12, 0)
    now = datetime(2026, 1, 1, 12, 1)
    record = TrialRecord(trial)
    assert running_line(record, 10, now) == "#3   residual   7 convs  epoch 2/10  62.5 %  ~4:00 left"
    assert running_line(record, None, now) == "#3   residual   7 convs  epoch 2  62.5 %"
    trial.intermediate_values = {}
    assert running_line(record, 10, now) == "#3   residual   7 convs  epoch 0/10"
    trial.user_attrs = {}
    assert running_line(record, 10, now) == "#3   is being drawn"


def test_another_baseline_is_named() -> None:
    text = " ".join(search_shown([made(0, "plain", 0.5), made(1, "residual", 0.9)], "residual").split())
    assert "Against residual, points within pairs" in text
    assert "Against plain" not in text


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [made(0, "plain", state=FAIL)],
        [made(0, "plain", state=RUNNING)],
        [made(0, "residual", state=PRUNED)],
    ],
    ids=["empty", "failed", "running", "pruned"],
)
def test_a_search_in_any_state_has_an_end(trials: list[FrozenTrial]) -> None:
    text = search_shown(trials)
    assert "Spent: " in text
    assert "Best" not in text
    assert "1 conv" not in answered(trials)


def test_a_trial_lost_before_it_was_described_breaks_nothing() -> None:
    lost = made(0, "plain", state=FAIL)
    lost.user_attrs = {"worker": "x", "attempt": 3, "outcome": "lost"}
    assert "1 lost" in search_shown([lost, made(1, "plain")])
    assert " ".join(line(lost).split()) == "#0 ? ? convs lost: given up after 3 attempts"


def test_of_equal_trials_of_an_arm_the_first_is_the_best() -> None:
    [text] = best([made(3, "plain", 0.7), made(1, "plain", 0.7, group=1), made(0, "plain", 0.6, group=2)])
    assert text.startswith("Best plain, #1: 70.0 %")


def test_the_best_of_an_arm_is_no_pruned_one() -> None:
    trials = [made(0, "plain", 0.5), made(1, "plain", 0.9, state=PRUNED)]
    [text] = best(trials)
    assert text.startswith("Best plain, #0: 50.0 %, ")


def test_a_recipe_names_the_network_its_optimizer_and_that_ones_rate() -> None:
    trial = made(0, "residual")
    trial.params = {"optimizer": "adamw", "lr_sgd": 0.1, "lr_adamw": 0.00234}
    network = str(TrialRecord(trial).architecture)
    assert recipe_line(TrialRecord(trial)) == f"{network}, adamw lr 0.0023"
    del trial.params["optimizer"]
    assert recipe_line(TrialRecord(trial)) == network, "a fixed one is not drawn"
    trial.user_attrs["architecture"] = "{}"
    assert recipe_line(TrialRecord(trial)) == "residual, 7 convs", "what cannot be built here has a name"


def test_what_was_spent_counts_the_finished_and_how_they_ended() -> None:
    trials = [
        made(0, "plain", epochs=15, train_seconds=2.4),
        made(1, "plain", state=PRUNED, epochs=3, train_seconds=1.2),
        made(2, "plain", outcome="diverged", epochs=1, train_seconds=None),
        made(3, "plain", state=RUNNING, epochs=2),
        made(4, "plain", state=FAIL, outcome="oom", epochs=0, train_seconds=0.0),
    ]
    assert spent_line(records(trials)) == (
        "Spent: 4 trials (1 complete, 1 pruned, 1 diverged, 1 oom), 21 epochs, 6 s of training."
    )
    assert spent_line([]) == "Spent: 0 trials (none), 0 epochs, 0 s of training."


def test_a_trial_in_a_line() -> None:
    text = line(made(12, "residual", 0.972, replicate_of=3, train_accuracy=0.5))
    expected = "#12 residual 7 convs 16 1,234 params 97.2 % complete 2.0 s replicate of 3"
    assert " ".join(text.split()) == expected
    assert line(made(1, "plain", state=PRUNED, epochs=4, train_seconds=None)).rstrip().endswith("pruned at 4")


def test_the_columns_of_a_line_never_touch() -> None:
    trial = made(12345, "plain", 1.0, state=PRUNED, params=123_456_789, epochs=15, depth=1234)
    trial.user_attrs["arm"] = "bottleneck"
    trial.user_attrs["architecture"] = trial.user_attrs["architecture"].replace(
        '"stages": [', '"stages": [{"width": 16, "blocks": 1}, {"width": 16, "blocks": 1}, '
    )
    assert line(trial).split() == [
        "#12345", "bottleneck", "1234", "convs", "16-16-16", "123,456,789", "params", "100.0", "%", "pruned",
        "at", "15", "2.0", "s",
    ]  # fmt: skip


def test_lines_of_trials_are_columns() -> None:
    lines = [line(made(1, "plain", 0.5)), line(made(23, "residual", 1.0, epochs=3, state=PRUNED, depth=109))]
    for word in ("convs", "params", "%", "s"):
        assert len({text.index(f" {word}") for text in lines}) == 1, word


def test_the_plan_is_shown_with_its_hypotheses_and_its_price() -> None:
    text = shown(show_plan, PLAN, 210, 2)
    assert "Recipes of digits, by validation accuracy among 99 trials" in text
    assert "#45, 45 convs, 90.0 %, best of 3" in text
    words = " ".join(text.split())
    for hypothesis in PLAN.hypotheses().values():
        assert f"- {hypothesis}" in words
    assert words.endswith("210 runs of 240 steps; 10 seeds; about 4 minutes with 2 workers.")
    assert "warning" not in text


@pytest.mark.parametrize(
    ("left", "workers", "says"),
    [
        (210, 1, "210 runs of 240 steps; 10 seeds; about 7 minutes with 1 worker."),
        (45, 1, "210 runs of 240 steps, 165 of them done; 10 seeds; about 2 minutes"),
        (44, 1, "about 88 seconds with 1 worker."),
        (0, 3, "210 runs of 240 steps, 210 of them done; 10 seeds; about 0 seconds with 3 workers."),
    ],
)
def test_what_is_left_has_a_price(left: int, workers: int, says: str) -> None:
    text = " ".join(shown(show_plan, PLAN, left, workers).split())
    assert says in text


def test_too_few_seeds_for_any_verdict_are_warned_of() -> None:
    few: Plan = replace(PLAN, seeds=(3, 6))
    least = few.least_seeds()
    text = shown(show_plan, few, 1, 1)
    assert f"warning: no verdict is possible with fewer than {least} seeds at 3 depths" in text
    assert "warning" not in shown(show_plan, replace(PLAN, seeds=(3, least)), 1, 1)


def test_lines_are_not_wrapped_and_no_markup() -> None:
    assert shown(say, "a [bold] line " * 9, width=20) == "a [bold] line " * 9 + "\n"
    assert shown(warn, "mind") == "warning: mind\n"


def test_the_end_of_a_confirmation_has_its_tables_and_the_sentence() -> None:
    verdicts = judge(PLAN, records(ended_runs(PLAN, lambda run: 0.5 + 0.2 * (run.arm == "preact"))), 0)
    text = shown(show_confirmation, verdicts, [])
    order = ["Against plain on test images", "Architectures that beat the best plain", "Confirmed (test"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_a_report_shows_all_but_the_figures() -> None:
    found = findings(study_of(60) + deep_pairs(12, first=60))
    text = " ".join(shown(show_findings, found, True, width=400).split())
    section = found.sections[0]
    for table in section.tables:
        assert table.title in text
        for row in table.rows:
            assert " ".join(" ".join(row).split()) in text
    assert section.sentence in text
    assert text.endswith(f"Next: {section.next}")
    assert section.notes
    for note in section.notes:
        assert note in text
    brief = " ".join(shown(show_findings, found, False, width=400).split())
    assert all(table.title in brief for table in section.answer)
    assert not any(table.title in brief for table in section.details)
