"""The pages of all studies of a database, made by a thread of their own: whoever asks gets what there is."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from search.errors import SpecError
from search.storage.studies import confirmation_name, find
from search.storage.study_record import REPEATS, StudyRecord, record_of_study
from search.views.findings import findings_of
from search.views.trial_section import trial_findings
from search.web.page import Links, card, foreign_card, study_body, title_of
from search.web.publish import IDLE

LOOK_SECONDS = 3.0
"""Least time between two looks at the database."""
AWAKE_SECONDS = 60.0
"""Seconds after which nobody is taken to look any more: then the database is left alone."""
PATIENCE_SECONDS = 2.0
"""Seconds that one waits who asks first, or for old pages; then there is what there is."""


@dataclass(frozen=True)
class Page:
    """The page of a study, and its answer on a card."""

    name: str
    title: str
    card: str
    body: str


@dataclass(frozen=True)
class Seen:
    """A study as it was last looked at."""

    study_id: int
    counts: tuple[int, ...]
    """Trials that it may hold, and those that it has, by their states."""
    repeats: bool
    """Whether it holds repeats, which stand below all else."""
    latest: float
    """When its last trial began or ended, in seconds since 1970."""


def links_between(ids: dict[str, int]) -> Links:
    """Addresses on this site. `ids`: keys of studies by their names."""

    def link(beginning: str, name: str, end: str = "") -> str:
        return f"{beginning}/studies/{ids[name]}{end}" if name in ids else ""

    return Links(
        study=lambda name: link("", name),
        trial=lambda name, number: link("", name, f"/trials/{number}"),
        dashboard=lambda name, number: link(
            "/dashboard", name, "" if number is None else f"/trials?numbers={number}"
        ),
        file=lambda name, address: f"/artifacts/{ids[name]}/{address}" if name in ids else "",
    )


class Answers:
    """Renews pages while somebody looks at them."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage
        self.told: dict[str, tuple[Seen, Seen | None]] = {}
        """What pages tell of: the study, and its confirmation where it has one."""
        self.pages: dict[int, Page] = {}
        self.order: list[int] = []
        """Studies with a card of their own, the latest one first."""
        self.trouble = ""
        """Why the database could not be read, the last time."""
        self.ready, self.asked = threading.Event(), threading.Event()
        self.last_asked = 0.0
        threading.Thread(target=self._work, name="answers", daemon=True).start()

    def awake(self) -> None:
        """Says that somebody looks, or soon will."""
        self.last_asked = time.monotonic()
        self.asked.set()

    def wanted(self) -> bool:
        """Says that somebody looks; whether there are pages to show."""
        if not self.asked.is_set():  # nobody has looked for a while: pages are as old as that
            self.ready.clear()
        self.awake()
        return self.ready.wait(PATIENCE_SECONDS) or bool(self.pages)

    def _work(self) -> None:
        while True:
            self.asked.wait()
            if time.monotonic() - self.last_asked > AWAKE_SECONDS:
                self.asked.clear()
                continue
            first, before = not self.ready.is_set(), time.thread_time()
            try:
                self.look()
                self.trouble = ""
            except StorageInternalError as error:
                self.trouble = f"the database cannot be read: {error.__cause__ or error}"
            self.ready.set()
            # of the first look, imports and old pages are most, which the next one has not to do again
            rest = 0.0 if first else IDLE * (time.thread_time() - before)
            time.sleep(max(LOOK_SECONDS, rest))

    def look(self) -> None:
        """Makes the pages anew of which something has changed."""
        names = optuna.get_all_study_names(self.storage)
        ids = {name: self.storage.get_study_id_from_name(name) for name in names}
        seen = {name: self._seen(ids[name]) for name in names}
        for name in names:
            told = (seen[name], seen.get(confirmation_name(name)))
            if ids[name] not in self.pages or self.told.get(name) != told:
                self.pages[ids[name]] = self._page(name, ids)
            self.told[name] = told
        for gone in self.pages.keys() - ids.values():
            del self.pages[gone]
        confirmations = {confirmation_name(name) for name in names}
        own = [name for name in names if name not in confirmations]
        own.sort(key=lambda name: (seen[name].repeats, -seen[name].latest))
        self.order = [ids[name] for name in own]

    def _seen(self, study_id: int) -> Seen:
        trials = self.storage.get_all_trials(study_id, deepcopy=False)
        states = [sum(trial.state == state for trial in trials) for state in TrialState]
        times = [t for trial in trials for t in (trial.datetime_start, trial.datetime_complete) if t]
        stored = StudyRecord(self.storage.get_study_user_attrs(study_id))
        latest = max(times).timestamp() if times else 0.0
        return Seen(study_id, (stored.budget, *states), stored.kind == REPEATS, latest)

    def trial(self, study_id: int, number: int) -> tuple[str, str]:
        """Title and page of a trial, made when it is asked for. Raises SpecError where there is none."""
        try:
            name = self.storage.get_study_name_from_id(study_id)
        except KeyError:
            raise SpecError(f"there is no study {study_id} in this database") from None
        findings = trial_findings(find(self.storage, name), number)
        return title_of(findings), study_body(findings, links_between({name: study_id}))

    def _page(self, name: str, ids: dict[str, int]) -> Page:
        links = links_between(ids)
        study = find(self.storage, name)
        if record_of_study(study).spec is None:
            shown = foreign_card(name, len(study.get_trials(deepcopy=False)), links)
            return Page(name, name, shown, shown)
        findings = findings_of(study)
        return Page(name, title_of(findings), card(findings, links), study_body(findings, links))
