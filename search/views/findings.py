"""A study as a person reads it, wherever it is shown: a sentence, tables, figures, how to read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from optuna.study import Study

from search.analysis.evidence import Evidence, gather
from search.analysis.verdicts import Verdicts, judge_study
from search.design.plan import Plan
from search.storage.studies import confirmation_of, needs_file
from search.storage.study_record import REPEATS, record_of_study
from search.storage.trial_record import TrialRecord, records_of
from search.views.confirmation_tables import confirmation_tables, confirmed, spent
from search.views.failures import failed_lines
from search.views.reading import REPEATS_READING, confirmation_reading, search_reading
from search.views.sentence import confirmable, cut_short, sentence
from search.views.tables import TextTable, search_tables
from search.views.words import command_line, percent

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

VERSION = 4
"""Version of the JSON; a change of its schema raises it."""


@dataclass(frozen=True)
class Section:
    """All that is to be said of a search, of a confirmation, or of repeats."""

    title: str
    sentence: str
    tables: Sequence[TextTable]
    notes: Sequence[str]
    """Lines below the tables."""
    reading: str
    """A guide to reading it, in Markdown."""
    figures: Callable[[], dict[str, go.Figure]]
    """Figures by name, in the order in which they are to be read. Drawn when asked for."""
    next: str = ""
    """The command that comes next; empty where there is none."""


@dataclass(frozen=True)
class Findings:
    """A study's evidence and verdicts, as far as it has them, and the sections that tell of them."""

    study: str
    evidence: Evidence | None
    verdicts: Verdicts | None
    sections: tuple[Section, ...]

    def to_json(self) -> str:
        """The JSON that `python -m search.report --json` prints."""
        first, search = self.sections[0], None
        if self.evidence:
            search = {"sentence": first.sentence, "next": first.next, **asdict(self.evidence)}
        values: dict[str, Any] = {
            "version": VERSION,
            "study": self.study,
            "search": search,
            "confirmation": self.verdicts.to_json() if self.verdicts else None,
        }
        return json.dumps(values, indent=1, allow_nan=False)


def findings_of(study: Study, storage: str | None = None) -> Findings:
    """The findings of a study from any storage; a search brings its confirmation along. `storage`: as it was
    typed, for the command that comes next."""
    stored, name = record_of_study(study), study.study_name
    if stored.plan:
        verdicts, section = _confirmation(study, Plan.from_json(stored.plan))
        return Findings(name, None, verdicts, (section,))
    if stored.kind == REPEATS:
        return Findings(name, None, None, (_repeats(study),))
    trials, other = records_of(study), confirmation_of(study)
    evidence = gather(trials, stored.baseline)
    if other is None:
        section = _search(name, evidence, trials, sentence(evidence))
        file = ["--study", "FILE"] if needs_file(stored) else []
        line = command_line("confirm", [*file, "--name", name], storage)
        then = line if confirmable(evidence) else ""
        return Findings(name, evidence, None, (replace(section, next=then),))
    verdicts, section = _confirmation(other, Plan.from_json(record_of_study(other).plan or {}))
    search = _search(name, evidence, trials, f"{sentence(evidence)} {section.sentence}")
    return Findings(name, evidence, verdicts, (search, section))


def _search(name: str, evidence: Evidence, trials: Sequence[TrialRecord], said: str) -> Section:
    def draw() -> dict[str, go.Figure]:
        from search.views.search_figures import search_figures

        return search_figures(evidence, trials, said)

    notes = [text] if (text := cut_short(evidence.duels)) else []
    if evidence.noise is not None:
        notes.append(f"Seeds alone: standard deviation {evidence.noise.sd:.2f} points.")
    notes += failed_lines(trials)
    return Section(
        title=f"{name}: {evidence.finished:,} trials, {evidence.to_the_end:,} trained to the end",
        sentence=said,
        tables=search_tables(evidence),
        notes=notes,
        reading=search_reading(evidence.baseline),
        figures=draw,
    )


def _confirmation(study: Study, plan: Plan) -> tuple[Verdicts, Section]:
    trials = records_of(study)
    verdicts = judge_study(study, plan)

    def draw() -> dict[str, go.Figure]:
        from search.views.confirmation_figures import confirmation_figures

        return confirmation_figures(verdicts, plan, trials)

    return verdicts, Section(
        title=f"{study.study_name}: {verdicts.finished:,} of {verdicts.planned:,} runs",
        sentence=confirmed(verdicts),
        tables=confirmation_tables(verdicts),
        notes=[spent(verdicts), *failed_lines(trials)],
        reading=confirmation_reading(plan.baseline, plan.rivals[0]),
        figures=draw,
    )


def _repeats(study: Study) -> Section:
    rows = tuple(
        (
            str(trial.number),
            f"#{trial.origin}",
            ", ".join(f"{name} = {value}" for name, value in trial.changed.items()) or "nothing",
            percent(trial.score),
            percent(trial.train_accuracy),
            trial.difference or "-",
        )
        for trial in records_of(study)
    )
    columns = ("repeat", "of trial", "changed", "val, %", "train, %", "difference")
    return Section(
        title=study.study_name,
        sentence=f"{len(rows)} repeats of trials of {study.study_name.removesuffix('-repeat')}.",
        tables=[TextTable("Trials trained again", columns, rows, words=3)],
        notes=(),
        reading=REPEATS_READING,
        figures=dict,
    )
