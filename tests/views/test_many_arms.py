"""What a person sees of a study with arms that the product does not have, while they are installed and when
they are gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import plotly.graph_objects as go
import pytest
from rich.console import Console

from models.arms.arm import look
from search.analysis.evidence import gather
from search.storage.trial_record import TrialRecord, records_of
from search.views.findings import Findings, Section, findings_of
from search.views.terminal import progress_line, show_findings, show_plan, show_search
from tests.support.figures import legend, named, outside, texts
from tests.support.many_arms import FIVE, LABELS, five_arms, plan_of_five, study_of_five

pytestmark = pytest.mark.slow

NAMES = {
    "gone": dict(zip(FIVE, ("plain", "residual", "pre-activation", "gated", "halved"), strict=True)),
    "installed": dict(zip(FIVE, LABELS, strict=True)),
}
"""What the arms are called: one that is not installed has its stored name alone."""
WITHOUT_BASELINE = {"Against", "The same under one recipe"}
"""Beginnings of the titles of tables that have no row for the baseline."""


@dataclass(frozen=True)
class Seen:
    """All that there is to be seen, drawn while the arms are installed or after."""

    labels: list[str]
    baseline: str
    findings: Findings
    figures: list[dict[str, go.Figure]]
    trials: list[TrialRecord]

    @property
    def sections(self) -> tuple[Section, ...]:
        return self.findings.sections


@pytest.fixture(scope="module", params=["installed-plain", "installed-residual", "gone-plain"])
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    state, _, baseline = request.param.partition("-")
    study = study_of_five(baseline)
    with ExitStack() as stack:
        if state == "installed":
            stack.enter_context(five_arms())
        found = findings_of(study)
        drawn = [section.figures() for section in found.sections]
        labels = [NAMES[state][arm] for arm in FIVE]
        yield Seen(labels, look(baseline).label, found, drawn, records_of(study))


def rivals(seen: Seen) -> list[str]:
    return [label for label in seen.labels if label != seen.baseline]


def test_every_rival_has_its_clause_in_the_sentence(seen: Seen) -> None:
    for section in seen.sections:
        for label in rivals(seen):
            assert f"{label} " in section.sentence.replace("Pre-", "pre-"), section.name
        assert re.search(rf" {seen.baseline} (at \d+ convs )?by ", section.sentence)


def test_every_arm_is_in_every_table(seen: Seen) -> None:
    for section in seen.sections:
        for table in section.tables:
            if table.title.startswith("Architectures that beat"):  # those that do
                continue
            held = any(table.title.startswith(words) for words in WITHOUT_BASELINE)
            there = {row[0] for row in table.rows}
            assert there == set(rivals(seen) if held else seen.labels), table.title


def test_every_arm_is_in_every_figure(seen: Seen) -> None:
    held = ("beats", "verdicts", "differences", "twins", "pairs")
    for figures in seen.figures:
        for name, figure in figures.items():
            if name.endswith(("curves", "conv-gradients")):  # of a draw that may lack some
                continue
            for label in rivals(seen) if name.endswith(held) else seen.labels:
                assert label in texts(figure), f"{name}: {label}"


def test_no_point_lies_beyond_its_axis(seen: Seen) -> None:
    for figures in seen.figures:
        assert {name: outside(figure) for name, figure in figures.items()} == {name: [] for name in figures}


def test_a_legend_names_each_arm_once(seen: Seen) -> None:
    for figures in seen.figures:
        for name, figure in figures.items():
            entries = legend(figure)
            assert len(set(entries)) == len(entries), name
            for label in seen.labels:
                assert sum(entry.partition(",")[0] == label for entry in entries) <= 1, f"{name}: {label}"


def test_arms_differ_in_colour_and_symbol_and_keep_them(seen: Seen) -> None:
    inks: dict[str, set[str]] = {label: set() for label in seen.labels}
    symbols: dict[str, set[str]] = {label: set() for label in seen.labels}
    for figures in seen.figures:
        for name, figure in figures.items():
            for key, trace in named(figure).items():
                label = key.partition(",")[0]
                if label in inks and not name.endswith("gradients"):
                    inks[label].add(trace.line.color or trace.marker.color)
                if label in inks and trace.marker.symbol:
                    symbols[label].add(trace.marker.symbol)
    assert {len(found) for found in (*inks.values(), *symbols.values())} == {1}
    if "gated residual" in seen.labels:
        assert len(set.union(*inks.values())) == len(set.union(*symbols.values())) == len(FIVE)


def test_figures_of_five_arms_fit_the_dashboard(seen: Seen) -> None:
    for figures in seen.figures:
        for name, figure in figures.items():
            assert len(figure.to_json()) < 50_000, name


def test_the_terminal_names_every_arm(seen: Seen) -> None:
    console = Console(width=200)
    plan = plan_of_five("residual" if seen.baseline == "residual" else "plain")
    with console.capture() as captured:
        show_search(console, gather(seen.trials, plan.baseline), seen.trials)
        show_plan(console, plan, 10, 2)
    text = captured.get()
    for arm, label in zip(FIVE, seen.labels, strict=True):
        assert f"Best {label}, #" in text
        assert f" {label} " in text
        assert arm in "".join(map(progress_line, seen.trials))
    with console.capture() as captured:
        show_findings(console, seen.findings, True)
    for label in seen.labels:
        assert f"\n {label} " in captured.get()


def test_the_baseline_is_named_wherever_arms_are_held_against_it(seen: Seen) -> None:
    other = "residual" if seen.baseline == "plain" else "plain"
    confirmation, search = seen.figures
    tables = seen.sections[1].tables
    against = f"gainst {seen.baseline}"
    assert [table.title.split(",")[0] for table in tables if against in table.title] == [
        f"Against {seen.baseline}"
    ]
    assert any(against in column for table in tables for column in table.columns)
    told = [
        texts(search["archsearch-2-beats"]), texts(search["archsearch-3-pairs"]),
        texts(confirmation["archsearch-2-verdicts"]), texts(confirmation["archsearch-3-differences"]),
        *(section.reading for section in seen.sections),
    ]  # fmt: skip
    for text in told:
        assert seen.baseline in text.lower()
        assert f"gainst {other}" not in text
        assert f"from {other}" not in text
    for section in seen.sections:
        for phrase in (f"beats {other}", f"loses to {other}", f"equals {other}", f"gainst {other}"):
            assert phrase not in section.sentence
            assert not any(phrase in table.title for table in section.tables)
