"""How each arm is trained best near a depth, as a search found, and the same recipe at exactly that depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from models.cost import measure_cost
from search.data import steps_per_epoch
from search.datasets import Parts
from search.errors import SpecError
from search.plan import Choice, Plan
from search.scores import final_score, ran_to_the_end
from search.space import Values, dimensions, is_fixed, make_architecture, values_of
from search.spec import NEAR, Range, Space, StudySpec, depth_of

LEAST = 3
"""Runs to choose from; where fewer are near, the next ones in depth are taken as well."""


def reachable_depths(space: Space) -> list[int]:
    """In convs, shallow first."""
    sums = {0}
    for _ in space.widths:
        sums = {total + blocks for total in sums for blocks in _block_choices(space)}
    return sorted(depth_of(space, total) for total in sums)


def ladder_of(space: Space, depths: Sequence[int]) -> list[int]:
    """The reachable depth nearest to each of `depths`, none twice; those far from all are left out."""
    reachable = reachable_depths(space)
    nearest = {depth: min(reachable, key=lambda d: (_distance(d, depth), d)) for depth in depths}
    return sorted({found for depth, found in nearest.items() if _distance(found, depth) <= math.log(NEAR)})


def make_plan(search: str, trials: Sequence[FrozenTrial], spec: StudySpec, parts: Parts) -> Plan:
    """From the trials of a search. Raises SpecError when they cannot answer the question."""
    space, settings = spec.space, spec.confirm
    if "plain" not in space.block or len(space.block) < 2:
        raise SpecError(f"space.block must have plain and another arm to compare, got {list(space.block)}")
    depths = ladder_of(space, settings.depths)
    if not depths:
        reachable = reachable_depths(space)
        raise SpecError(
            f"confirm.depths must be near depths of the space, {reachable[0]} to {reachable[-1]} convs, "
            f"got {list(settings.depths)}"
        )
    shape, classes, epochs = parts.image_shape, parts.classes, spec.train.epochs
    found = [
        (arm, choose(trials, space, arm, depth, epochs, shape, classes))
        for depth in depths
        for arm in space.block
    ]
    for arm in space.block:
        if not any(choice for of, choice in found if of == arm):
            raise SpecError(
                f"no {arm} trial of {search!r} was trained to the end yet: search on before you confirm"
            )
    return Plan(
        search=search,
        trials=sum(trial.state.is_finished() for trial in trials),
        margin=settings.margin,
        seeds=(settings.seeds,),
        epochs=epochs,
        steps=epochs * steps_per_epoch(len(parts.train.labels_N), spec.train.batch_size),
        choices=tuple(choice for _, choice in found if choice),
    )


def choose(
    trials: Sequence[FrozenTrial],
    space: Space,
    arm: str,
    depth: int,
    epochs: int,
    image_shape: tuple[int, int, int],
    classes: int,
) -> Choice | None:
    """The best of the arm's runs to the end near `depth`, a reachable one; None where the arm has none that
    stays below max_params at that depth."""
    ends = [t for t in trials if ran_to_the_end(t) and t.user_attrs.get("arm") == arm]
    far = sorted(_distance(t.user_attrs["depth"], depth) for t in ends)
    reach = max(math.log(NEAR), far[min(LEAST, len(far)) - 1] if far else 0.0)  # all of a depth, or none
    candidates = [t for t in ends if _distance(t.user_attrs["depth"], depth) <= reach]
    for trial in sorted(candidates, key=lambda t: (-final_score(t), t.number)):
        values = _values_at(trial, space, depth)
        architecture = make_architecture(values | {"block": arm}, space, image_shape, classes)
        if space.max_params is not None and measure_cost(architecture).params > space.max_params:
            continue
        attrs = trial.user_attrs
        seconds = attrs["train_seconds"] / max(1, attrs["epochs"]) * epochs * depth / attrs["depth"]
        suggested = [name for name, domain in dimensions(space).items() if not is_fixed(domain)]
        return Choice(
            arm=arm,
            depth=depth,
            trial=trial.number,
            trial_depth=attrs["depth"],
            val_accuracy=final_score(trial),
            candidates=len(candidates),
            params={name: values[name] for name in suggested if name != "block"},
            seconds=seconds,
        )
    return None


def _values_at(trial: FrozenTrial, space: Space, depth: int) -> Values:
    """The trial's values, its blocks shared out over the stages in the same proportions."""
    values = values_of(trial.params, space)
    names = [f"blocks_{i}" for i in range(1, len(space.widths) + 1)]
    return values | dict(zip(names, share_out([values[name] for name in names], space, depth), strict=True))


def share_out(blocks: Sequence[int], space: Space, depth: int) -> list[int]:
    """Blocks per stage that make `depth` convs, as near as the space has it to the proportions of `blocks`
    (least squares of log ratios). Raises ValueError where the space has no such depth."""
    total = (depth - depth_of(space, 0)) // 2
    wanted = [count * total / sum(blocks) for count in blocks]
    plans: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for share in wanted:
        longer: dict[int, tuple[float, list[int]]] = {}
        for used, (cost, plan) in plans.items():
            for count in _block_choices(space):
                offer = cost + math.log(count / share) ** 2, [*plan, count]
                if used + count <= total and (used + count not in longer or offer < longer[used + count]):
                    longer[used + count] = offer
        plans = longer
    if total not in plans or depth_of(space, total) != depth:
        raise ValueError(f"no network of the space has {depth} convs")
    return plans[total][1]


def _block_choices(space: Space) -> Sequence[int]:
    if isinstance(space.blocks, Range):
        return range(int(space.blocks.low), int(space.blocks.high) + 1)
    return space.blocks


def _distance(depth: int, other: int) -> float:
    return abs(math.log(depth / other))
