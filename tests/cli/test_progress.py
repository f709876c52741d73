"""What a person sees while a search runs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from search.cli import progress
from search.cli.progress import QUIET_SECONDS, SHOWN, Progress
from search.views.words import minutes
from tests.support.made_trials import made


class Followed:
    """A study whose trials are given, or that is out of reach."""

    study_name = "tiny"

    def __init__(self, *trials: FrozenTrial) -> None:
        self.trials = list(trials)
        self.error: Exception | None = None

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]:
        if self.error:
            raise self.error
        return list(self.trials)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def console(terminal: bool = False) -> Console:
    # beside a real terminal: TERM of whoever runs the tests may be dumb
    return Console(file=io.StringIO(), width=120, force_terminal=terminal, _environ={"TERM": "xterm"})


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def follow(study: Followed, budget: int, **further: bool) -> tuple[Console, Progress]:
    screen = console()
    return screen, Progress(study, budget, screen, **further)  # type: ignore[arg-type]


def test_elsewhere_than_on_a_terminal_there_is_a_line_for_each_trial_that_ends(clock: Clock) -> None:
    study = Followed(made(0, "plain"), made(1, "preact", state=TrialState.RUNNING))
    screen, followed = follow(study, 10)
    followed.update()
    assert shown(screen) == [], "what was there before is not told"
    study.trials[1:] = [made(1, "preact", 0.5), made(2, "residual", 0.75, state=TrialState.RUNNING)]
    followed.update()
    followed.update()
    [line] = shown(screen)
    assert line.startswith("2/10 #1   preact")
    assert "50.0 %" in line


def test_trials_are_told_as_they_ended(clock: Clock) -> None:
    later, sooner = made(1, "plain"), made(2, "plain")
    later.datetime_complete = datetime(2026, 1, 1) + timedelta(seconds=9)
    study = Followed()
    screen, followed = follow(study, 3)
    study.trials = [made(0, "plain"), later, sooner]
    followed.update()
    assert [line.split()[:2] for line in shown(screen)] == [["1/3", "#0"], ["2/3", "#2"], ["3/3", "#1"]]


def test_the_time_that_is_left_is_judged_by_what_was_done_meanwhile(clock: Clock) -> None:
    study = Followed(*[made(number, "plain") for number in range(4)])
    screen, followed = follow(study, 10)
    clock.now = 60.0
    study.trials += [made(4, "plain"), made(5, "plain")]
    followed.update()
    assert [line.partition("  ~")[2] for line in shown(screen)] == ["5:00 left", "2:00 left"]
    study.trials += [made(number, "plain") for number in range(6, 10)]
    followed.update()
    assert "left" not in shown(screen)[-1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_times_are_clocks(seconds: float, text: str) -> None:
    assert minutes(seconds) == text


def test_quiet_tells_of_no_trial(clock: Clock) -> None:
    study = Followed()
    screen, followed = follow(study, 3, quiet=True)
    study.trials = [made(0, "plain")]
    followed.update()
    followed.say("but of what matters")
    assert shown(screen) == ["but of what matters"]


def test_a_database_that_is_away_stops_nothing(clock: Clock) -> None:
    study = Followed()
    screen, followed = follow(study, 3)
    study.trials, study.error = [made(0, "plain")], StorageInternalError("away")
    followed.update()
    assert shown(screen) == []
    study.error = None
    followed.update()
    assert len(shown(screen)) == 1


def screen_of(study: Followed, budget: int, change: Callable[[], None]) -> str:
    """The live screen after a change."""
    screen = console(terminal=True)
    with Progress(study, budget, screen) as followed:  # type: ignore[arg-type]
        assert followed.live is not None
        change()
        followed.update()
        with screen.capture() as captured:
            screen.print(followed._screen())
    return captured.get()


def test_on_a_terminal_the_screen_has_counts_the_last_trials_and_the_best() -> None:
    study = Followed(made(0, "plain", 0.4))

    def change() -> None:
        study.trials += [made(number, "preact", 0.5 + number / 100) for number in range(1, 11)]
        study.trials += [made(11, "plain", 0.45, blocks=7), made(12, "plain", state=TrialState.RUNNING)]

    text = screen_of(study, 20, change)
    assert "tiny: 12 of 20 trials" in text
    assert "12 complete; 1 running" in text
    told = [f"#{number} " for number in range(13) if f"#{number} " in text]
    assert told == [f"#{number} " for number in range(12 - SHOWN, 13)]
    assert "… #12  plain      7 convs  epoch 0" in text
    assert re.findall(r"★ (#\d+)", text) == ["#10", "#11"], "the best of each arm"
    assert "best: plain 45.0 % (15 convs, trial 11); preact 60.0 % (7 convs, trial 10)" in text


def test_a_log_is_told_of_trials_that_run_where_nothing_ends(clock: Clock) -> None:
    study = Followed(made(0, "plain", state=TrialState.RUNNING))
    screen, followed = follow(study, 3)
    for clock.now in (1.0, QUIET_SECONDS + 1, QUIET_SECONDS + 2):
        followed.update()
    assert shown(screen) == ["running: #0   plain      7 convs  epoch 0"]


def test_a_screen_without_a_trial_says_so() -> None:
    text = screen_of(Followed(), 20, lambda: None)
    assert "tiny: 0 of 20 trials" in text
    assert "none; 0 running" in text
    assert "best: -" in text


@pytest.mark.parametrize("quiet", [True, False])
def test_a_screen_is_live_on_a_terminal_that_nobody_wants_quiet(quiet: bool) -> None:
    study = Followed()
    followed = Progress(study, 3, console(terminal=True), quiet)  # type: ignore[arg-type]
    assert (followed.live is None) is quiet
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert Progress(study, 3, dumb).live is None  # type: ignore[arg-type]
