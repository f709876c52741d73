"""Pruners: what stops a hopeless trial. In a matched design, one for each arm and depth; in a
stratified one, the lead decides for its group."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.design.depths import NEAR, depth_of, is_near
from search.design.groups import Position, arm_view, position_of
from search.design.space import block_names
from search.spec.domains import is_fixed
from search.spec.study import StudySpec
from search.spec.tables import LEAD, Space
from search.storage.internals import look_again, storage_of, trial_id_of
from search.storage.trial_record import GOES_ON, TrialRecord

MAKERS: dict[str, Callable[[int], BasePruner]] = {
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=max(1, epochs // 15), max_resource=epochs, reduction_factor=2
    ),
    "halving": lambda epochs: SuccessiveHalvingPruner(min_resource=max(1, epochs // 4), reduction_factor=2),
    "median": lambda epochs: MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 3)),
    "none": lambda epochs: NopPruner(),
}
"""Makers of pruners from the epochs of a trial, for each of search.spec.tables.PRUNERS but the lead's. Rungs
are epochs done, from 1. Hyperband halves gently, as deep nets start slowly; of first rungs and factors, these
lost least of deep plain nets for the epochs that they saved: benchmarks/PRUNERS.md."""


class PeerPruner(BasePruner):
    """A pruner for each arm and depth: a trial competes with trials of its own arm that are about as deep.

    Plain trials start slowly, deep ones do too. Judged by a whole arm, hardly a deep trial would get to its
    end, and there would be nothing to compare arms by at that depth: see benchmarks/PRUNERS.md.
    """

    def __init__(self, make: Callable[[], BasePruner], space: Space, near: float = NEAR) -> None:
        """`near`: factor of depth up to which trials compete."""
        self._make, self._space, self._near = make, space, near
        self._pruners: dict[tuple[str, int], tuple[BasePruner, Study]] = {}
        self._depths: dict[int, int] = {}
        self._names = block_names(space)
        self._fixed: int = (
            space.blocks[0] if isinstance(space.blocks, tuple) and is_fixed(space.blocks) else 0
        )
        """Blocks of every stage, where they are no parameter."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        arm, depth = trial.params["block"], self._depth(trial)
        if (arm, depth) not in self._pruners:
            view = arm_view(study, arm, lambda other: self._competes(other, depth))
            self._pruners[arm, depth] = (self._make(), view)
        pruner, view = self._pruners[arm, depth]
        look_again(view)
        return pruner.prune(view, trial)

    def _competes(self, trial: FrozenTrial, depth: int) -> bool:
        return is_near(self._depth(trial), depth, self._near)

    def _depth(self, trial: FrozenTrial) -> int:
        """Convs of a trial, 0 while it is being drawn. Kept: every epoch asks for those of all trials."""
        trial_id = trial_id_of(trial)
        if trial_id not in self._depths:
            blocks: list[int] = [trial.params.get(name, self._fixed) for name in self._names]
            if not all(blocks):
                return 0
            self._depths[trial_id] = depth_of(self._space, sum(blocks))
        return self._depths[trial_id]


class LeadDecides(BasePruner):
    """Stops a lead alone, so that no pair is cut: after a fifth of its epochs it goes on if it is in the
    better half of its arm's trials of its stratum at that epoch, the first of them in any case. That is
    written down, and then its followers are trained; nothing stops them."""

    def __init__(self, spec: StudySpec) -> None:
        self._arms, self.rung = spec.space.block, max(1, spec.train.epochs // 5)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        position, values = position_of(trial, self._arms), trial.intermediate_values
        if not position or not position.lead or TrialRecord(trial).goes_on or self.rung not in values:
            return False
        look_again(study)
        peers = [
            self._then(other)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and self._competes(other, position)
        ]
        if not in_better_half(values[self.rung], [value for value in peers if value is not None]):
            return True
        storage_of(study).set_trial_system_attr(trial_id_of(trial), GOES_ON, True)
        return False

    def _competes(self, other: FrozenTrial, position: Position) -> bool:
        place = position_of(other, self._arms)
        return place is not None and (place.arm, place.stratum) == (position.arm, position.stratum)

    def _then(self, trial: FrozenTrial) -> float | None:
        """The value of another trial at that epoch; the least where it had diverged by then, None where it is
        not there yet, or never was trained."""
        value = trial.intermediate_values.get(self.rung)
        if value is not None and not math.isnan(value):
            return value
        return -math.inf if TrialRecord(trial).diverged or value is not None else None


def in_better_half(value: float, peers: Sequence[float]) -> bool:
    """Whether a value is in the better half of its peers and itself, as the only one of all is; what is no
    number never is."""
    ordered = sorted([*peers, value])
    return value >= ordered[-max(1, len(ordered) // 2)]


def make_pruner(spec: StudySpec) -> BasePruner:
    """The pruner of a study."""
    if spec.search.pruner == LEAD:
        return LeadDecides(spec) if spec.train.epochs > 1 else NopPruner()

    def make() -> BasePruner:
        return MAKERS[spec.search.pruner](spec.train.epochs)

    return PeerPruner(make, spec.space) if spec.search.design == "matched" else make()
