"""What the next trial of a stratified design is: a follower that is missing, or the lead of another group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from optuna.trial import TrialState

from search.design.groups import Position
from search.design.strata import strata_of_spec, turn_of
from search.spec.study import StudySpec
from search.spec.tables import LEAD
from search.storage.rows import Placed


class Places:
    """Gives the places of a study's trials, one after another. Whoever asks has the study locked."""

    def __init__(self, spec: StudySpec) -> None:
        self.arms, self.seed, self.strata = spec.space.block, spec.search.seed, len(strata_of_spec(spec))
        self.lead_decides = spec.search.pruner == LEAD and spec.train.epochs > 1
        base = spec.search.baseline
        self.followers = sorted(self.arms, key=lambda arm: arm != base)
        """The arms in the order in which they follow: where the budget ends first, there is a pair."""

    def __call__(self, placed: Sequence[Placed], left: int) -> dict[str, Any] | None:
        """The place of another trial, with those that there are, and how many the budget has left. None where
        it depends on leads that have not decided yet.

        A group that goes on is completed before another begins; and that begins only if all that go on or are
        undecided could still be completed. What is then left over goes to leads that may stay alone, until
        the budget grows.
        """
        groups: dict[int, dict[str, Placed]] = defaultdict(dict)
        for one in placed:
            groups[one.place["group"]][one.place["arm"]] = one
        reserved = 0
        for number in sorted(groups):
            members = groups[number]
            missing = [arm for arm in self.followers if arm not in members]
            lead = next(one for one in members.values() if one.place["lead"])
            if missing and self._goes_on(lead):
                place = Position(number, missing[0], lead=False, stratum=lead.place["stratum"])
                return place.stored()
            if not lead.state.is_finished():
                reserved += len(missing)
        if reserved and left < reserved + len(self.arms):
            return None
        return self.lead_of(max(groups, default=-1) + 1).stored()

    def lead_of(self, group: int) -> Position:
        """The place of a group's lead."""
        turn = turn_of(group, self.strata, len(self.arms), self.seed)
        return Position(group, self.arms[turn.lead], lead=True, stratum=turn.stratum)

    def _goes_on(self, lead: Placed) -> bool:
        if self.lead_decides:
            return lead.goes_on and lead.state != TrialState.FAIL
        return lead.state not in (TrialState.FAIL, TrialState.PRUNED)  # not even it could be trained
