"""What a command says at its end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from search import confirm, run
from search.cli.endings import tell_confirmation, tell_search
from search.cli.launch import Launch
from search.spec.study import StudySpec
from search.storage.studies import open_study
from tests.support.confirmations import TINY_PLAN, opened
from tests.support.made_trials import made
from tests.support.made_up import Bottleneck, installed

URL = "postgresql+psycopg://me:secret@host/x"
optuna.logging.set_verbosity(optuna.logging.ERROR)
DONE = Launch(0, stopped=False, seconds=12.4)


def said(tell: Any, parse: Any, words: list[str], *told: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    tell(parse(words), console, *told)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "secret" not in text
    return text.splitlines()


@pytest.fixture
def study(tmp_path: Path, tiny: StudySpec) -> Study:
    study = open_study(f"sqlite:///{tmp_path}/x.db", "[b]tiny[/b]", tiny, "data", 9)
    study.add_trials([made(number, ("plain", "preact")[number % 2]) for number in range(4)])
    study.add_trial(made(4, "plain", state=TrialState.WAITING))
    return study


def search_says(study: Study, words: list[str], ended: Launch = DONE) -> list[str]:
    return said(tell_search, run.parse, words, study, ended)


def test_a_search_ends_with_what_was_done_and_what_to_do_next(study: Study) -> None:
    lines = search_says(study, ["--name=a b", "--trials=3", "--storage", URL, "--workers=2", "--seed=5"])
    shown = "postgresql+psycopg://me:***@host/x"
    assert lines[-6:] == [
        "[b]tiny[/b]: 4 of 4 trials done in 12 s",
        "(it holds more than the 3 asked for)",
        f"look at it:  python -m search.dashboard --open --storage '{shown}'",
        f"go on:       python -m search.run '--name=a b' --trials=8 --seed=5 --workers=2 --storage '{shown}'",
        "Exploratory, 4 trials: up to 20 convs pre-activation is undecided (0.0 points in 1 pair).",
        f"Next: python -m search.confirm '--name=a b' --storage '{shown}'",
    ]


def test_going_on_asks_for_no_less_than_before(study: Study) -> None:
    lines = search_says(study, ["--trials=100"])
    assert "[b]tiny[/b]: 4 of 100 trials done in 12 s" in lines
    assert "go on:       python -m search.run --trials=100" in lines
    assert not any("more than" in line for line in lines)


def test_where_nothing_was_left_to_do_no_time_is_told(study: Study) -> None:
    assert "[b]tiny[/b]: 4 of 4 trials done" in search_says(study, ["--trials=4"], Launch(0, False, None))


def test_a_search_that_was_stopped_says_how_to_go_on_and_nothing_else(study: Study) -> None:
    lines = search_says(study, ["--study=x.toml", "--trials=9", "--quiet"], Launch(130, True, 3.0))
    assert lines[-1] == (
        "stopped; nothing is lost. To continue: python -m search.run --study=x.toml --trials=9 --quiet"
    )
    assert not any(line.startswith(("look at it", "go on", "Next")) for line in lines)


def test_there_is_nothing_to_prove_without_the_baseline_and_another_arm(
    tmp_path: Path, tiny: StudySpec
) -> None:
    for arm in ("plain", "preact"):
        study = open_study(f"sqlite:///{tmp_path}/x.db", arm, tiny, "data", 9)
        study.add_trial(made(0, arm))
        assert not any(line.startswith("Next") for line in search_says(study, ["--trials=1"]))


def test_arms_of_several_depths_cannot_be_confirmed(tmp_path: Path, tiny: StudySpec) -> None:
    with installed(Bottleneck):
        study = open_study(f"sqlite:///{tmp_path}/x.db", "x", tiny, "data", 9)
        study.add_trials([made(0, "plain"), made(1, "bottleneck")])
        assert not any(line.startswith("Next") for line in search_says(study, ["--trials=9"]))


def confirmation_says(url: str, tiny: StudySpec, words: list[str], ended: Launch = DONE) -> list[str]:
    study, plan, _ = opened(url, tiny, TINY_PLAN)
    return said(tell_confirmation, confirm.parse, words, study, plan, ended)


def test_a_confirmation_ends_with_where_to_look(tmp_path: Path, tiny: StudySpec) -> None:
    lines = confirmation_says(f"sqlite:///{tmp_path}/x.db", tiny, ["--study=tiny", "--as=other"])
    assert lines[-2:] == [
        "look at it:  python -m search.dashboard --open",
        "a page:      python -m search.report --name=tiny-confirm --html=tiny-confirm.html",
    ]
    assert any("Against plain on test images" in line for line in lines)


def test_a_confirmation_that_was_stopped_says_how_to_go_on(tmp_path: Path, tiny: StudySpec) -> None:
    words = ["--study=tiny", "--as=other", "--workers=3", "--storage", URL]
    lines = confirmation_says(f"sqlite:///{tmp_path}/x.db", tiny, words, Launch(0, True, 3.0))
    assert lines[-1] == (
        "stopped; nothing is lost. To continue: python -m search.confirm --study=tiny --as=other --workers=3 "
        "--storage 'postgresql+psycopg://me:***@host/x'"
    )


def test_the_name_of_a_page_is_that_of_a_file(
    tmp_path: Path, tiny: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.confirmations.NAME", "a/b c")
    lines = confirmation_says(f"sqlite:///{tmp_path}/x.db", tiny, [])
    assert lines[-1] == "a page:      python -m search.report '--name=a/b c' --html=a_b_c.html"
