"""Pruners: what stops a hopeless trial; in a matched design, one for each arm and depth."""

from __future__ import annotations

from collections.abc import Callable

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.design.depths import NEAR, depth_of, is_near
from search.design.groups import arm_view
from search.design.space import block_names
from search.spec.domains import is_fixed
from search.spec.study import StudySpec
from search.spec.tables import Space
from search.storage.internals import look_again, trial_id_of

MAKERS: dict[str, Callable[[int], BasePruner]] = {
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=max(1, epochs // 15), max_resource=epochs, reduction_factor=2
    ),
    "halving": lambda epochs: SuccessiveHalvingPruner(min_resource=max(1, epochs // 4), reduction_factor=2),
    "median": lambda epochs: MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 3)),
    "none": lambda epochs: NopPruner(),
}
"""Makers of pruners from the epochs of a trial, for each of search.spec.tables.PRUNERS. Rungs are epochs
done, from 1. Hyperband halves gently, as deep nets start slowly; of first rungs and factors, these lost least
of deep plain nets for the epochs that they saved: benchmarks/SEARCH.md."""


class PeerPruner(BasePruner):
    """A pruner for each arm and depth: a trial competes with trials of its own arm that are about as deep.

    Plain trials start slowly, deep ones do too. Judged by a whole arm, hardly a deep trial would get to its
    end, and there would be nothing to compare arms by at that depth: see benchmarks/SEARCH.md.
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


def make_pruner(spec: StudySpec) -> BasePruner:
    """The pruner of a study."""

    def make() -> BasePruner:
        return MAKERS[spec.search.pruner](spec.train.epochs)

    return make() if spec.search.design == "free" else PeerPruner(make, spec.space)
