"""What is told of searches, on trials that are made up."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest

from benchmarks import searches
from benchmarks.crowd import crowds, simulate
from benchmarks.curves import Curve
from benchmarks.processes import Search
from benchmarks.search_quality import after, below, both, each, goals, right, selected, stock, together
from benchmarks.searches import DIGITS, FREE, KINDS, MATCHED, Outcome, outcome_of, whole_groups
from benchmarks.selection import completed
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from tests.support.made_trials import deep_pairs, made, records
from tests.support.studies import TINY


@pytest.fixture
def outcome() -> Outcome:
    study = optuna.create_study(direction="maximize")
    study.add_trials(deep_pairs(14, blocks=16))
    return outcome_of(DIGITS, 1, study, 12.5)


def test_an_outcome_is_what_the_search_says(outcome: Outcome) -> None:
    assert outcome.sentence.startswith("Exploratory, 28 trials: from 21 convs on pre-activation beats plain")
    deep = outcome.duel("preact", upper=True)
    assert deep is not None
    assert (deep["word"], deep["pairs"], deep["band"]) == ("beats", 14, "21+")
    assert outcome.duel("preact", upper=False) is None
    assert outcome.duel("residual", upper=True) is None
    assert (outcome.to_the_end, outcome.trials) == ({"plain": 14, "preact": 14},) * 2
    assert outcome.best_deep_plain == outcome.best["plain"] < outcome.best["preact"]
    assert (outcome.epochs, outcome.seconds) == (28 * 15, 28 * 2.0)
    assert Outcome(**json.loads(json.dumps(asdict(outcome)))) == outcome


def test_groups_are_whole_where_every_arm_ran_to_the_end() -> None:
    def group(number: int, depth: int, *states: optuna.trial.TrialState) -> list[optuna.trial.FrozenTrial]:
        arms = ("plain", "residual", "preact")
        return [
            made(3 * number + i, arm, group=number, depth=depth, state=state)
            for i, (arm, state) in enumerate(zip(arms, states, strict=False))
        ]

    end, cut = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    trials = [
        *group(0, 9, end, end, end), *group(1, 57, end, end, end), *group(2, 37, end, end, end),
        *group(3, 15, end, cut, end), *group(4, 23, end, end), *group(5, 23, cut),
    ]  # fmt: skip
    assert whole_groups(records(trials)) == {"9-13": 1, "15-21": 0, "23-35": 0, "37-57": 2}


def said(outcome: Outcome, residual: str, preact: str, shallow: str = "undecided") -> Outcome:
    def duel(arm: str, word: str, upper: bool) -> dict[str, object]:
        return {"arm": arm, "band": "x", "upper": upper, "word": word, "gain": 3.0, "low": None, "high": None,
                "pairs": 9, "wins": 9, "losses": 0}  # fmt: skip

    arms = ("residual", "preact")
    deep = [duel(arm, word, True) for arm, word in zip(arms, (residual, preact), strict=True)]
    return replace(outcome, duels=[*deep, *(duel(arm, shallow, False) for arm in arms)])


def test_a_search_is_right_if_it_says_beats_of_both_rivals_when_deep(outcome: Outcome) -> None:
    group = [
        said(outcome, "beats", "beats", "leads"), said(outcome, "beats", "leads"),
        said(outcome, "loses", "beats", "beats"),
    ]  # fmt: skip
    assert right(group, "residual") == [True, True, False]
    assert both(group) == [True, False, False]
    assert below(group, "leads") == [True, True, False, False, False, False]
    rows = {row[0]: row[1:] for row in together({"ours": group, "theirs": []}).rows}
    assert rows["both do"] == ("1 of 3", "0 of 0")
    assert rows["a rival loses or trails"] == ("1 of 3", "0 of 0")
    assert rows['"beats" below, of both rivals'] == ("2 of 6", "0 of 0")
    assert rows["CPU seconds"] == ("12.5 ± 0.0", "-")
    assert all(len(row) == 10 - 1 for row in each(group).rows)
    assert [row[0] for row in stock(group).rows] == ["1", "1", "1"]


def test_what_was_known_sooner_is_of_the_trials_that_had_ended() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials(deep_pairs(40, blocks=16))
    found = outcome_of(DIGITS, 1, study, None)
    assert list(found.sooner) == ["40", "50", "60", "70", "80"]
    assert found.sooner["40"] == {"preact": "beats", "seconds": 80.0}
    few = [one | {"residual": "leads"} for one in found.sooner.values()]
    half = replace(found, sooner=dict(zip(found.sooner, few, strict=True)))
    assert after({"a": [found, half], "b": []}).rows[0] == (
        "40",
        "0 of 2",
        "1 of 2",
        "80",
        "0 of 0",
        "0 of 0",
        "-",
    )


def test_goals_that_are_missed_are_said(outcome: Outcome) -> None:
    good = replace(
        said(outcome, "beats", "beats"),
        whole={"9-13": 5, "15-21": 5, "23-35": 5, "37-57": 6}, cpu_seconds=130.0,
    )  # fmt: skip
    before = [replace(outcome, cpu_seconds=100.0)]
    assert [goal.met for goal in goals([good], before)] == [True] * 4
    bad = replace(said(outcome, "leads", "beats"), whole=dict.fromkeys(good.whole, 4), cpu_seconds=140.0)
    assert [goal.met for goal in goals([good, bad], before)] == [False, False, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_the_study_files_differ_in_their_design_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(searches.digits(("seed = 0\n", f"seed = 3\n{KINDS[kind]}")))
    spec, default = load_spec(path), load_spec(find_study("digits"))
    design = {DIGITS: ("stratified", "lead"), MATCHED: ("matched", "hyperband"), FREE: ("free", "median")}[
        kind
    ]
    assert (spec.search.design, spec.search.pruner, spec.search.seed) == (*design, 3)
    assert (spec.data, spec.space, spec.train) == (default.data, default.space, default.train)


class Ends:
    """A recorder whose runs come to what their arm does."""

    chance = 0.1
    spec = load_spec(find_study("digits"))

    def run(self, values: dict[str, object], seed: int) -> Curve:
        end = {"plain": 0.2, "residual": 0.9, "preact": 0.8}[str(values["block"])]
        return Curve((end, end, end + seed / 100), "complete")


def test_stopped_groups_are_trained_to_see_what_was_selected() -> None:
    trials = [
        made(0, "plain", 0.5, depth=41), made(1, "residual", 0.7, depth=41), made(2, "preact", 0.6, depth=41),
        made(3, "preact", 0.1, depth=27, group=1, seed=0, state=optuna.trial.TrialState.PRUNED),
        made(4, "residual", 0.9, depth=9, group=2, seed=0),
    ]  # fmt: skip
    rows = {(row["arm"], row["upper"]): row for row in completed(records(trials), Ends())}  # type: ignore[arg-type]
    deep = rows["residual", True]
    assert (deep["groups"], deep["of"]) == (1, 2)
    assert (deep["whole"], deep["every"]) == pytest.approx((20, (20 + 70) / 2))
    assert rows["preact", True]["every"] == pytest.approx((10 + 60) / 2)
    shallow = rows["residual", False]
    assert (shallow["whole"], shallow["groups"], shallow["of"]) == (None, 0, 1)
    assert shallow["every"] == pytest.approx(70)


def test_selection_is_told_of_searches_that_have_it(outcome: Outcome) -> None:
    row = {"arm": "preact", "upper": True, "whole": 30.0, "groups": 9, "every": 34.5, "of": 14}
    known = replace(outcome, selection=[row, row | {"whole": None, "groups": 0}])
    assert [found[3:] for found in selected([outcome, known]).rows] == [
        ("+30.0 of 9", "+34.5 of 14", "-4.5"), ("- of 0", "+34.5 of 14", "-"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.process
def test_a_search_is_run_once_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny one, in a database of its own."""
    monkeypatch.setattr(searches, "POOL", tmp_path)
    monkeypatch.setattr(searches, "DATABASE", f"sqlite:///{tmp_path}/searches.db")
    monkeypatch.setattr(searches, "OUTCOMES", tmp_path / "searches.jsonl")
    monkeypatch.setattr(searches, "TRIALS", 6)
    monkeypatch.setattr(searches, "digits", lambda *changes: TINY)
    words = Search.words
    monkeypatch.setattr(Search, "words", lambda self, trials, workers: words(self, trials - 2, workers))
    with pytest.raises(RuntimeError, match="digits-1 was stopped after 4 of 6 trials"):
        searches.search(DIGITS, 1)
    assert searches.outcomes() == []
    monkeypatch.setattr(Search, "words", words)
    first = searches.search(DIGITS, 1)
    assert (first.kind, first.seed, sum(first.trials.values())) == (DIGITS, 1, 6)
    assert first.cpu_seconds is None  # of the whole search it is not known
    assert (searches.search(DIGITS, 2).cpu_seconds or 0) > first.seconds / 2
    monkeypatch.setattr(searches, "Search", None)
    assert searches.search(DIGITS, 1) == first
    assert [outcome.seed for outcome in searches.searches(DIGITS, 2)] == [1, 2], "those that are on file"
    monkeypatch.setattr(searches, "search", lambda kind, seed: replace(first, seed=seed))
    assert [outcome.seed for outcome in searches.searches(DIGITS, 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [1, 2, 8, 40])
def test_a_crowd_keeps_the_budget_and_cuts_nothing(workers: int) -> None:
    spec: StudySpec = load_spec(find_study("digits"))
    found = simulate(spec, workers, 100, seed=1)
    assert found == simulate(spec, workers, 100, seed=1)
    assert found.trials == 100
    assert found.cut <= 2
    assert 20 <= found.whole <= 33
    assert 0 <= found.idle < 0.15
    assert workers > 1 or (found.idle, found.straggling) == (0, 0)


def test_crowds_are_a_table() -> None:
    assert [row[:2] for row in crowds(load_spec(find_study("digits")), 2).rows] == [
        ("1", "100"), ("2", "100"), ("8", "100"), ("40", "100"),
    ]  # fmt: skip
