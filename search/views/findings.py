"""A study as a person reads it, wherever it is shown: a sentence, tables, figures, how to read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from optuna.study import Study

from search.analysis.course import Course, course_of
from search.analysis.evidence import Evidence, gather
from search.analysis.verdicts import Verdicts, judge_study
from search.design.plan import Plan
from search.storage.studies import confirmation_of, needs_file
from search.storage.study_record import REPEATS, record_of_study
from search.storage.trial_record import TrialRecord, records_of
from search.views.confirmation_tables import (
    champion_table,
    confirmed,
    contrast_table,
    fairness_table,
    spent,
    standing_table,
    twin_table,
    verdict_table,
)
from search.views.failures import failed_lines
from search.views.reading import REPEATS_READING, confirmation_reading, search_reading
from search.views.sentence import confirmable, cut_short, sentence
from search.views.tables import (
    TextTable,
    account_table,
    cause_table,
    duel_table,
    failure_table,
    level_table,
    winner_table,
)
from search.views.words import command_line, percent, plural

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

VERSION = 5
"""Version of the JSON; a change of its schema raises it."""


@dataclass(frozen=True)
class Section:
    """All that is to be said of a search, of a confirmation, or of repeats."""

    kind: str
    """search, confirmation, repeats or trial."""
    name: str
    """The study that it tells of."""
    course: Course
    sentence: str
    answer: Sequence[TextTable]
    """The tables that answer: who beats the baseline, and which architectures do."""
    details: Sequence[TextTable]
    """All others."""
    notes: Sequence[str]
    """Lines below the tables."""
    reading: str
    """A guide to reading it, in Markdown."""
    figures: Callable[[], dict[str, go.Figure]]
    """Figures by name, in the order in which they are to be read. Drawn when they are first asked for."""
    next: str = ""
    """The command that comes next; empty where there is none."""
    origin: str = ""
    """The study whose trials the tables name; empty: its own."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Artifacts of the trial that it tells of, by their names: its key and theirs, as in 12/3f07…"""

    @property
    def tables(self) -> list[TextTable]:
        """All tables, in the order in which they are to be read."""
        return [*self.answer, *self.details]


@dataclass(frozen=True)
class Findings:
    """A study's evidence and verdicts, as far as it has them, and the sections that tell of them."""

    study: str
    evidence: Evidence | None
    verdicts: Verdicts | None
    sections: tuple[Section, ...]
    """A confirmation that decides anything stands before what a search suggests."""
    trial: int | None = None
    """The trial that they are about; None where they are about the study."""

    @property
    def own(self) -> Section:
        """The section of the study itself, whatever stands before it."""
        return next(section for section in self.sections if section.name == self.study)

    def to_json(self) -> str:
        """The JSON that `python -m search.report --json` prints."""
        search = confirmation = None
        if self.verdicts:
            said = next(section.sentence for section in self.sections if section.kind == "confirmation")
            confirmation = {"sentence": said, **self.verdicts.to_json()}
        if self.evidence:
            search = {"sentence": self.own.sentence, "next": self.own.next, **asdict(self.evidence)}
        values: dict[str, Any] = {
            "version": VERSION,
            "study": self.study,
            "search": search,
            "confirmation": confirmation,
        }
        return json.dumps(values, indent=1, allow_nan=False)


def findings_of(study: Study, storage: str | None = None) -> Findings:
    """The findings of a study from any storage; a search brings its confirmation along. `storage`: as it was
    typed, for the command that comes next."""
    stored, name = record_of_study(study), study.study_name
    if stored.plan:
        verdicts, section = _confirmation(study, Plan.from_json(stored.plan), storage)
        return Findings(name, None, verdicts, (section,))
    if stored.kind == REPEATS:
        return Findings(name, None, None, (_repeats(study),))
    trials, other = records_of(study), confirmation_of(study)
    evidence, course = gather(trials, stored.baseline), course_of(stored, trials)
    if other is None:
        section = _search(name, evidence, trials, course)
        file = ["--study", "FILE"] if needs_file(stored) else []
        line = command_line("confirm", [*file, "--name", name], storage)
        then = line if confirmable(evidence) and not course.running else ""
        return Findings(name, evidence, None, (replace(section, next=then),))
    verdicts, section = _confirmation(other, Plan.from_json(record_of_study(other).plan or {}), storage)
    search = _search(name, evidence, trials, course)
    return Findings(name, evidence, verdicts, (section, search) if verdicts.decided else (search, section))


def _search(name: str, evidence: Evidence, trials: Sequence[TrialRecord], course: Course) -> Section:
    said = sentence(evidence)

    @cache
    def draw() -> dict[str, go.Figure]:
        from search.views.search_figures import search_figures

        return search_figures(evidence, trials, said)

    notes = [text] if (text := cut_short(evidence.duels)) else []
    if evidence.noise is not None:
        notes.append(f"Seeds alone: standard deviation {evidence.noise.sd:.2f} points.")
    notes += failed_lines(trials)
    return Section(
        kind="search",
        name=name,
        course=course,
        sentence=said,
        answer=_filled(duel_table(evidence), winner_table(evidence)),
        details=_filled(
            level_table(evidence),
            cause_table(evidence),
            failure_table(evidence),
            account_table(evidence.ledger, evidence.unequal),
        ),
        notes=notes,
        reading=search_reading(evidence.baseline),
        figures=draw,
    )


def _confirmation(study: Study, plan: Plan, storage: str | None) -> tuple[Verdicts, Section]:
    trials = records_of(study)
    verdicts = judge_study(study, plan)

    @cache
    def draw() -> dict[str, go.Figure]:
        from search.views.confirmation_figures import confirmation_figures

        return confirmation_figures(verdicts, plan, trials)

    words = ["report", "--name", plan.search, "--html", f"{plan.search}.html"]
    then = command_line(words[0], words[1:], storage) if verdicts.complete else ""
    return verdicts, Section(
        kind="confirmation",
        name=study.study_name,
        course=course_of(record_of_study(study), trials),
        sentence=confirmed(verdicts),
        answer=_filled(verdict_table(verdicts), champion_table(verdicts)),
        details=_filled(
            twin_table(verdicts),
            standing_table(verdicts),
            contrast_table(verdicts),
            fairness_table(verdicts),
        ),
        notes=[spent(verdicts), *failed_lines(trials)],
        reading=confirmation_reading(plan.baseline, plan.rivals[0]),
        figures=draw,
        next=then,
        origin=plan.search,
    )


def _filled(*tables: TextTable) -> list[TextTable]:
    """The tables that are not empty."""
    return [table for table in tables if table.rows]


def _repeats(study: Study) -> Section:
    trials = records_of(study)
    rows = tuple(
        (
            str(trial.number),
            f"#{trial.origin}",
            ", ".join(f"{name} = {value}" for name, value in trial.changed.items()) or "nothing",
            percent(trial.score),
            percent(trial.train_accuracy),
            trial.difference or "-",
        )
        for trial in trials
    )
    origin = study.study_name.removesuffix("-repeat")
    columns = ("repeat", "of trial", "changed", "val, %", "train, %", "difference")
    return Section(
        kind="repeats",
        name=study.study_name,
        course=course_of(record_of_study(study), trials),
        sentence=f"{plural(len(rows), 'repeat')} of trials of {origin}.",
        answer=_filled(TextTable("Trials trained again", columns, rows, words=3)),
        details=(),
        notes=(),
        reading=REPEATS_READING,
        figures=dict,
        origin=origin,
    )
