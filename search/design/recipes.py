"""The best recipe of each arm near a depth, as a search found it, and the same at exactly that depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.cost import measure_cost
from search.data.images import Parts
from search.data.splits import steps_per_epoch
from search.design.depths import NEAR, distance, nearest_depths, reachable_depths, share_out
from search.design.plan import Choice, Plan
from search.design.space import Values, block_names, dimensions, make_architecture, values_of
from search.design.strata import Stratum, strata_of_spec
from search.errors import SpecError
from search.spec.domains import is_fixed
from search.spec.study import StudySpec
from search.spec.study_file import check_one_depth
from search.spec.tables import Space
from search.storage.trial_record import TrialRecord, finished

USUAL_DEPTHS = (8, 14, 20, 32, 44)
"""Depths, in convs, at which searches without strata are confirmed that name none."""
LEAST = 3
"""Runs to choose from; where fewer are near, the next ones in depth are taken as well."""


def make_plan(search: str, trials: Sequence[TrialRecord], spec: StudySpec, parts: Parts) -> Plan:
    """The plan that the trials of a search lead to. Raises SpecError when they cannot answer the question."""
    space, settings, baseline = spec.space, spec.confirm, spec.search.baseline
    if baseline not in space.block or len(space.block) < 2:
        raise SpecError(
            f"space.block must have {baseline} and another arm to compare, got {list(space.block)}"
        )
    check_one_depth(space, "a search of arms of several depths cannot be confirmed")
    choices = [
        choice
        for depth, stratum in confirmed_depths(spec).items()
        for arm in space.block
        if (choice := choose(trials, spec, arm, depth, parts.image_shape, parts.classes, stratum))
    ]
    for arm in space.block:
        if not any(choice.arm == arm for choice in choices):
            raise SpecError(
                f"no {arm} trial of {search!r} was trained to the end yet: search on before you confirm"
            )
    epochs = spec.train.epochs
    return Plan(
        search=search,
        trials=finished(trials),
        margin=settings.margin,
        seeds=(settings.seeds,),
        epochs=epochs,
        steps=epochs * steps_per_epoch(len(parts.train.labels_N), spec.train.batch_size),
        choices=tuple(choices),
        baseline=baseline,
    )


def confirmed_depths(spec: StudySpec) -> dict[int, Stratum | None]:
    """The depths at which a search is confirmed, each with the stratum that its recipes come from: one in
    the middle of every stratum, unless depths are given. Raises SpecError where those are far from the
    space's."""
    space, given = spec.space, spec.confirm.depths
    strata = strata_of_spec(spec)
    if given is None and strata:
        return {stratum.middle(space): stratum for stratum in strata}
    wanted = USUAL_DEPTHS if given is None else given
    depths = nearest_depths(space, wanted)
    if not depths:
        reachable = reachable_depths(space)
        raise SpecError(
            f"confirm.depths must be near depths of the space, {reachable[0]} to {reachable[-1]} convs, "
            f"got {list(wanted)}"
        )
    return dict.fromkeys(depths)


def choose(
    trials: Sequence[TrialRecord],
    spec: StudySpec,
    arm: str,
    depth: int,
    image_shape: tuple[int, int, int],
    classes: int,
    stratum: Stratum | None = None,
) -> Choice | None:
    """The best of the arm's runs to the end in the stratum, or near `depth`, a reachable one, where none is
    there or no stratum is given; None where the arm has none that stays below max_params at that depth."""
    space = spec.space
    ends = [trial for trial in trials if trial.ran_to_the_end and trial.arm == arm]
    inside = [trial for trial in ends if stratum is not None and stratum.has(trial.depth)]
    candidates = inside or _near(ends, depth)
    for trial in sorted(candidates, key=lambda trial: (-trial.score, trial.number)):
        values = _values_at(trial, space, depth)
        architecture = make_architecture(values | {"block": arm}, space, image_shape, classes)
        if space.max_params is not None and measure_cost(architecture).params > space.max_params:
            continue
        drawn = [name for name, domain in dimensions(space).items() if not is_fixed(domain)]
        return Choice(
            arm=arm,
            depth=depth,
            trial=trial.number,
            trial_depth=trial.depth,
            val_accuracy=trial.score,
            candidates=len(candidates),
            params={name: values[name] for name in drawn if name != "block"},
            seconds=_seconds(trial, spec.train.epochs, depth),
        )
    return None


def _near(ends: Sequence[TrialRecord], depth: int) -> list[TrialRecord]:
    """Those within a factor of NEAR; where they are fewer than LEAST, the next ones in depth as well."""
    far = sorted(distance(trial.depth, depth) for trial in ends)
    reach = max(math.log(NEAR), far[min(LEAST, len(far)) - 1] if far else 0.0)  # all of a depth, or none
    return [trial for trial in ends if distance(trial.depth, depth) <= reach]


def _seconds(trial: TrialRecord, epochs: int, depth: int) -> float:
    """Seconds of a run of so many epochs at another depth, if it is as fast as the trial was."""
    return (trial.train_seconds or 0.0) / max(1, trial.epochs) * epochs * depth / trial.depth


def _values_at(trial: TrialRecord, space: Space, depth: int) -> Values:
    """The trial's values, its blocks shared out over the stages in the same proportions."""
    values, names = values_of(trial.drawn, space), block_names(space)
    return values | dict(zip(names, share_out([values[name] for name in names], space, depth), strict=True))
