"""A worker's job, as a value: it travels to the worker's process."""

from __future__ import annotations

from dataclasses import dataclass

from search.spec.study import StudySpec

POLL_SECONDS = 0.5
"""Seconds between two looks of the command at its workers."""


@dataclass(frozen=True)
class Job:
    """A study to work on, and how."""

    spec: StudySpec
    url: str
    study: str
    trials: int
    """Trials that the study may hold in all."""
    device: str
    data_fingerprint: str
    confirms: bool = False
    """Whether the study is a confirmation, all of whose trials are queued."""
    per_gpu: int = 1
    """Workers that share its GPU's memory."""
