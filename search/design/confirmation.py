"""A confirmation as a study: its plan stored, all of its runs queued."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.design.plan import Plan
from search.design.seeds import confirmation_seed
from search.errors import SpecError
from search.spec.study import StudySpec
from search.storage.connections import claims_of
from search.storage.internals import QUEUED_PARAMS, study_id_of
from search.storage.studies import open_study, set_attributes
from search.storage.study_record import record_of_study
from search.storage.trial_record import TrialRecord


def templates(plan: Plan, search_seed: int) -> list[FrozenTrial]:
    """The plan's runs as queued trials, in order."""
    return [
        create_trial(
            state=TrialState.WAITING,
            system_attrs={QUEUED_PARAMS: {"block": run.arm, **run.params}},
            user_attrs=TrialRecord.attributes(
                group=run.twins,
                replicate=run.replicate,
                best_of=list(run.best_of),
                seed=confirmation_seed(search_seed, run.replicate),
            ),
        )
        for run in plan.runs()
    ]


def open_confirmation(
    url: str, name: str, spec: StudySpec, data_fingerprint: str, plan: Plan
) -> tuple[Study, Plan, int]:
    """The study, the plan that holds (whoever was first decides, seeds may be added), how many runs it has.
    All of them are queued. Raises what `open_study` raises, and SpecError where another plan was first."""

    def agree(stored: dict[str, Any] | None) -> dict[str, Any]:
        return (Plan.from_json(stored).with_seeds(plan.seeds[-1]) if stored else plan).to_json()

    study = open_study(url, name, spec, data_fingerprint, 0, "confirmation", agree)
    agreed = Plan.from_json(record_of_study(study).plan or {})
    if replace(agreed, seeds=plan.seeds) != plan:
        raise SpecError(
            f"another command began {name!r} meanwhile, at {agreed.depths} convs with a margin of "
            f"{agreed.margin:g}: the same line joins it if you leave out --depths and --margin"
        )
    queue = templates(agreed, spec.search.seed)
    claims_of(study).fill(study_id_of(study), queue)
    set_attributes(study, budget=len(queue))
    return study, agreed, len(queue)
