"""Note and figures on the study's own page of the dashboard, kept up to date while a search runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from optuna.study import Study

from search.storage.connections import claims_of
from search.storage.internals import storage_of, study_id_of
from search.storage.studies import beside
from search.storage.study_record import PUBLISHED, record_of_study
from search.storage.trial_record import TrialRecord, finished, records_of
from search.views.findings import Findings, findings_of
from search.views.trial_section import families, trial_note

LEAST_SECONDS = 15.0
"""Least time between two publications."""
TRIALS, SHARE = 3, 0.02
"""Least number of newly finished trials between them, and the same as a share of all."""
IDLE = 20
"""Rest after a publication, in times that it took: no more than a twentieth of a core goes into them."""
TRIES = 5
"""Times that a page is written anew because it was changed meanwhile."""
OUR_FIGURES = "archsearch-"
"""Beginning of the names of our figures; others are a person's own."""
MARK = "*Written by the search and renewed; what stands below this line is yours and stays.*"


class _Draft:
    """Takes the rows that optuna-dashboard writes one by one, so that they can be written at once."""

    def __init__(self, study: Study) -> None:
        self._storage, self._study_id = storage_of(study), study_id_of(study)
        self.stored: dict[str, Any] = self._storage.get_study_system_attrs(self._study_id)
        self.rows: dict[str, Any] = {}
        self.study = Study(study_name=study.study_name, storage=self)  # type: ignore[arg-type]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.stored | self.rows

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.rows[key] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def changed(self) -> dict[str, Any]:
        return {key: value for key, value in sorted(self.rows.items()) if self.stored.get(key) != value}

    def gone(self, beginning: str) -> list[str]:
        """Rows that begin so and were not written again: figures that there are no more."""
        return [key for key in self.stored if key.startswith(beginning) and key not in self.rows]


def publish(study: Study) -> None:
    """Writes a study's page in one transaction: whoever looks meanwhile sees the old page or the new one,
    never half a figure. A page of more trials, which another command wrote meanwhile, stays.
    Raises RuntimeError where others change the page again and again."""
    if not any(_is_published(study) for _ in range(TRIES)):
        raise RuntimeError(f"others changed the page {TRIES} times meanwhile")


def _is_published(study: Study) -> bool:
    """Publishes unless somebody, a command or a person, changed the page since it was read: then rows of two
    pages would be mixed, and False is returned."""
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object  # type: ignore[import-untyped]

    from search.web.dashboard_internals import FIGURE_PREFIX, note_of, note_rows

    trials = records_of(study)
    count, stored = finished(trials), record_of_study(study)
    findings = findings_of(study)
    draft = _Draft(study)
    before = get_note(draft.study)
    body = with_theirs(note(findings), before)
    if body != before:
        save_note(draft.study, body)
    for trial_id, text in trial_notes(trials, stored.baseline, study).items():
        before = note_of(draft.stored, trial_id)
        if (body := with_theirs(text, before)) != before:
            draft.rows |= note_rows(draft.stored, trial_id, body)
    for name, figure in findings.own.figures().items():
        save_plotly_graph_object(draft.study, figure, graph_object_id=name)
    values = {**draft.changed(), PUBLISHED: count}
    was = {key: draft.stored[key] for key in values if key in draft.stored}
    now = dict[str, Any]()

    def must_not(stored: dict[str, Any]) -> bool:
        now.clear()
        now.update(stored)
        return stored != was or stored.get(PUBLISHED, 0) > count

    claims_of(study).replace_system_attributes(
        study_id_of(study), values, draft.gone(f"{FIGURE_PREFIX}{OUR_FIGURES}"), must_not
    )
    return now == was or now.get(PUBLISHED, 0) > count


def note(findings: Findings) -> str:
    """The note of a study in Markdown: all sentences, the confirmed one first, then its own tables."""
    section = findings.own
    body = [
        *(f"**{each.sentence}**" for each in findings.sections),
        *([f"Next: `{section.next}`"] if section.next else []),
        *(table.markdown() for table in section.tables),
        *section.notes,
        section.reading,
    ]
    return "\n\n".join(body)


def trial_notes(trials: Sequence[TrialRecord], baseline: str, study: Study) -> dict[int, str]:
    """The notes of finished trials in Markdown, by their keys."""
    name, study_id = study.study_name, study_id_of(study)
    return {
        trial.trial_id: trial_note(trial, twins, baseline, name, study_id)
        for twins in families(trials)
        for trial in twins
        if trial.is_finished
    }


def with_theirs(body: str, before: str) -> str:
    """A note that is renewed: of the one before, what stands below the mark is kept, or all where there is no
    mark."""
    theirs = before.partition(MARK)[2] if MARK in before else f"\n\n{before}" if before else ""
    return f"{body}\n\n{MARK}{theirs}"


class Publisher:
    """Publishes now and then from a thread of its own, and a last time when a search ends well and nobody
    waits for its end.

    A failure, as of the database, is told of once: the search goes on, and so does this.
    """

    def __init__(
        self, study: Study, say: Callable[[str], None], in_a_hurry: Callable[[], bool] = lambda: False
    ) -> None:
        self.study, self.say, self.in_a_hurry = study, say, in_a_hurry
        self.at_start = self.published = finished(records_of(study))
        self.told = False
        self.pause = LEAST_SECONDS
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, name="publisher", daemon=True)

    def __enter__(self) -> Publisher:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if kind is None and not self.in_a_hurry():
            self.thread.join()
            self._publish(least=1)
            self._publish_search()

    def _work(self) -> None:
        while not self.over.wait(self.pause):
            self._publish(TRIALS)

    def _publish(self, least: int) -> None:
        started = time.monotonic()
        try:
            count = finished(records_of(self.study))
            share = SHARE * count if least > 1 else 0
            if count - max(self.published, self._elsewhere()) >= max(least, share):
                publish(self.study)
                self.published = count
        except Exception as error:  # of the database, most likely; no figure is worth a search
            self._tell(error)
        self.pause = max(LEAST_SECONDS, IDLE * (time.monotonic() - started))

    def _elsewhere(self) -> int:
        """Finished trials that the page tells of: of several commands on one study, one writes for all."""
        attrs = storage_of(self.study).get_study_system_attrs(study_id_of(self.study))
        return int(attrs.get(PUBLISHED, 0))

    def _publish_search(self) -> None:
        """A confirmation is told of on the page of its search as well."""
        plan = record_of_study(self.study).plan
        if plan is not None and self.published > self.at_start:
            try:
                publish(beside(self.study, plan["search"]))
            except Exception as error:
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self.told:
            self.told = True
            reason = str(error.__cause__ or error).strip().splitlines()
            self.say(f"the dashboard's figures could not be written: {reason[0] if reason else 'no reason'}")
