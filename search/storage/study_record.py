"""A study's stored attributes, as a value with types. No other module knows their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optuna.study import Study

from search.spec.tables import DEFAULT_BASELINE
from search.storage.attributes import Attribute, Stored

PUBLISHED = "archsearch:published"
"""System attribute of a study: number of finished trials that its page tells of."""
REPEATS = "collection of repeats"
KINDS = {"search": "run", "confirmation": "confirm", REPEATS: "repeat"}
"""Kinds of studies, with the command that each belongs to."""


@dataclass(frozen=True)
class StudyRecord(Stored):
    """The attributes of a study, as they were when they were read."""

    read: dict[str, Any]

    kind = Attribute[str]("search")
    """One of KINDS."""
    key = Attribute[str]("")
    """16 random hex digits, which tell apart studies of one name."""
    versions = Attribute[dict[str, str]]({})
    spec = Attribute[dict[str, Any] | None](None)
    """The canonical spec; None for a study that is not ours."""
    confirm = Attribute[dict[str, Any] | None](None)
    """[confirm] of the file that last went on with the search; None for studies made before it was kept."""
    spec_fingerprint = Attribute[str]("")
    data_fingerprint = Attribute[str]("")
    budget = Attribute[int](0)
    """Trials that it may hold."""
    plan = Attribute[dict[str, Any] | None](None, "confirmation")
    """What a confirmation trains and tests; None for other studies."""
    test_reads = Attribute[int](0)
    """Number of times that a network was evaluated on test images."""

    @property
    def stored(self) -> dict[str, Any]:
        return self.read

    @property
    def baseline(self) -> str:
        """The arm that the others are held against."""
        baseline: str = (self.spec or {}).get("search", {}).get("baseline", DEFAULT_BASELINE)
        return baseline

    @property
    def checkpoint_key(self) -> str:
        """Key that tells its checkpoints from those of other studies of its name."""
        return self.key or self.spec_fingerprint


def record_of_study(study: Study) -> StudyRecord:
    """The attributes of a study as they are now: one query."""
    return StudyRecord(study.user_attrs)
