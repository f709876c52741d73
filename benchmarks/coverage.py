"""What a search leaves to answer the question with: runs to the end of every arm at every depth."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.pools import HALVING, HYPERBAND, MEDIAN, MIXED_MEDIAN, NONE, PRUNERS, Pool, spent
from benchmarks.replay import Tried
from benchmarks.table import Table
from search.design.depths import depth_of

TRIALS = 99
"""Trials of `search.run` without --trials, in whole groups."""
ORDERS = 30
BANDS = ((1, 14), (15, 26), (27, 999))
"""Bands of depth, in convs."""
SHOWN = (
    NONE, HYPERBAND, HALVING, MEDIAN, "arm and depth, Hyperband from 3, factor 2",
    "arm and depth, halving from 2, factor 2", "arm, Hyperband from 3, factor 2",
    "arm, Hyperband from 1, factor 2", "arm, halving from 3, factor 2", "arm, halving from 1, factor 3",
    "arm, median after 5 trials, 5 epochs", MIXED_MEDIAN,
)  # fmt: skip


def coverage(pool: Pool) -> Table:
    """Coverage by pruner, of random searches of the usual length."""
    trials = min(TRIALS, len(pool.draws) * len(pool.arms))
    labels = [f"{low}-{high}" if high < 999 else f"{low}+" for low, high in BANDS]
    table = Table(
        f"{pool.spec.name}: what is left to compare arms by, at each depth",
        f"{ORDERS} random searches of {trials} trials. Runs to the end, mean over searches / points of "
        "accuracy lost: between the best of this arm and depth, had all run to the end, and the best that "
        "did (chance where none did). Pairs: draws that ran to the end as plain and as residual.",
        ("pruner", "epochs", "pairs", *(f"{arm}, {label} convs" for arm in pool.arms for label in labels)),
    )
    for name in SHOWN:
        searches = [pool.random(order, PRUNERS[name], spent(math.inf, trials)) for order in range(ORDERS)]
        table.add(
            name,
            f"{statistics.fmean(sum(trial.epochs for trial in tried) for tried in searches):,.0f}",
            f"{statistics.fmean(whole_pairs(tried) for tried in searches):.1f}",
            *(_cell(pool, searches, arm, band) for arm in pool.arms for band in BANDS),
        )
    return table


def whole_pairs(tried: Sequence[Tried]) -> int:
    """Draws of which both the plain and the residual trial ran to the end."""
    ended: dict[int, set[str]] = defaultdict(set)
    for trial in tried:
        if not trial.pruned:
            ended[trial.seed].add(trial.arm)
    return sum({"plain", "residual"} <= arms for arms in ended.values())


def _cell(pool: Pool, searches: Sequence[Sequence[Tried]], arm: str, band: tuple[int, int]) -> str:
    left, lost = [], []
    for tried in searches:
        mine = [t for t in tried if t.arm == arm and band[0] <= _depth(pool, t) <= band[1]]
        if mine:
            ends = [pool.recorder.run(t.values, t.seed).value(pool.recorder.chance) for t in mine]
            done = [t.value for t in mine if not t.pruned]
            left.append(len(done))
            lost.append(max(ends) - max(done, default=pool.recorder.chance))
    return f"{statistics.fmean(left):.1f} / {100 * statistics.fmean(lost):.1f}" if left else "-"


def _depth(pool: Pool, trial: Tried) -> int:
    space = pool.spec.space
    return depth_of(space, sum(trial.values[f"blocks_{i}"] for i in range(1, len(space.widths) + 1)))
