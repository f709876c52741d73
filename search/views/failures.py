"""Why trials failed, in lines that a person reads without opening a traceback."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from search.storage.trial_record import TrialRecord
from search.views.words import listed, plural

FAILED = ("error", "lost", "oom", "infeasible")
"""Outcomes of trials that were not trained, or not to an end that says something."""
NAMED = 3
"""Trials that are named of those that failed for one reason."""
_LONGEST = 160
"""Characters of a reason."""


def why_failed(trial: TrialRecord) -> str:
    """Why a trial failed; empty where it did not."""
    last = [line.strip() for line in (trial.error or "").splitlines() if line.strip()][-1:]
    text = {
        "error": last[0] if last else "no reason is known",
        "lost": f"given up after {plural(trial.attempt, 'attempt')}" + "".join(f": {line}" for line in last),
        "oom": "too little memory",
        "infeasible": "more parameters than space.max_params",
    }.get(trial.outcome or "", "")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def failed_lines(trials: Sequence[TrialRecord]) -> list[str]:
    """A line for every reason for which trials failed, the most frequent one first."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for trial in trials:
        if trial.outcome in FAILED:
            found[trial.outcome, why_failed(trial)].append(trial.number)
    return [
        f"{plural(len(numbers), 'trial')} ended with {outcome}: {why} ({_named(numbers)})"
        for (outcome, why), numbers in sorted(found.items(), key=lambda item: (-len(item[1]), item[1]))
    ]


def _named(numbers: Sequence[int]) -> str:
    shown = [f"#{number}" for number in numbers[:NAMED]]
    return ", ".join([*shown, "…"]) if len(numbers) > NAMED else listed(shown)
