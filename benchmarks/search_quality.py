"""How good a choice is after so many epochs, what pruners kill: `python -m benchmarks.search_quality`.

Our default against random search without pruning and against stock TPE with MedianPruner; pruners on one pool
of recorded curves. Writes SEARCH.md. Too long for `python -m benchmarks` without a name: two hours of a core
the first time, a minute once all curves are on file. `--minutes N` trains for so long at most; the next call
goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch

from benchmarks.curves import Late
from benchmarks.judging import Kills, Step, best_at, epochs_to, kills, spread, steps_of
from benchmarks.pools import FRESH, PRUNERS, STARTS, Pool, cifar5k, pool_of, spent
from benchmarks.replay import Tried
from benchmarks.table import Table, surroundings
from search.studyfile import find_study, load_spec

ORDERS = 100
"""Searches replayed for each pruner, each on the pool in an order of its own."""
SEEDS = 5
"""Searches with TPE."""
TPE_SHARE = 1 / 3
"""Of random search's epochs: as far as a search with TPE is followed."""
NEAR = 0.01
"""A choice whose score is further below the target than this is not trained again: it was chosen for its
score, which is more likely too high than too low."""
RACED = ("none", "**default: Hyperband, by arm**", "by arm: Hyperband from 1, factor 3")
"""Pruners of random draws that are set against TPE."""


def audit(pool: Pool) -> Table:
    """Every pruner on the same draws, each of which is known to its end."""
    count, chance = pool.groups * len(pool.arms), pool.recorder.chance
    table = Table(
        f"{pool.spec.name}: what pruners kill",
        f"{ORDERS} random searches of {count} trials ({pool.groups} of {len(pool.draws)} recorded draws, "
        f"each as every arm), {pool.spec.train.epochs} epochs, one worker; the same for every pruner. Of the "
        "pruned trials: % that would have ended in the best quarter of their arm / % that would have beaten "
        "the best that the search has for the arm. Lost: points of validation accuracy between the arm's "
        "best trial and the best that was left, mean ± sd over searches.",
        ("pruner", "epochs saved, %", *(f"{arm}: false kills" for arm in pool.arms),
         *(f"{arm}: lost" for arm in pool.arms)),
    )  # fmt: skip
    for name, pruner in PRUNERS.items():
        if name == "none":
            continue
        found: dict[str, list[Kills]] = {arm: [] for arm in pool.arms}
        for order in range(ORDERS):
            tried = pool.random(order, pruner, spent(pool.epochs, count))
            for arm in pool.arms:
                mine = [trial for trial in tried if trial.arm == arm]
                runs = [pool.recorder.run(trial.values, trial.seed) for trial in mine]
                ends = [run.value(chance) for run in runs]
                found[arm].append(kills(mine, ends, [len(run.accuracies) for run in runs], chance))
        saved = statistics.fmean(one.epochs_saved for arm in pool.arms for one in found[arm])
        table.add(
            name, f"{100 * saved:.0f}", *(_rates(found[arm]) for arm in pool.arms),
            *(spread([one.lost for one in found[arm]]) for arm in pool.arms),
        )  # fmt: skip
    return table


def _rates(found: Sequence[Kills]) -> str:
    pruned = sum(one.pruned for one in found)
    if not pruned:
        return "-"
    top, best = (
        sum(counts) for counts in zip(*((k.of_top_quarter, k.better_than_best) for k in found), strict=True)
    )
    return f"{100 * top / pruned:.1f} / {100 * best / pruned:.1f}"


def race(pool: Pool, searches: dict[str, list[list[Tried]]]) -> Table:
    """How good the choices of searches are after the same epochs. The first are random and not pruned."""
    table = Table(
        f"{pool.spec.name}: the choice after so many epochs",
        f"Accuracy of each arm's best trial, trained again with {FRESH} fresh seeds, %, mean ± sd over "
        f"searches, when a third, two thirds and all of random search's {pool.epochs:,} epochs are spent. To "
        "reach: epochs after which the choice is as good as random search's last one in the median, median; "
        "and in how many searches that happened.",
        ("search", "arm", "searches", "epochs each", "after a third", "after two thirds", "after all",
         "epochs to reach random's", "share of random's", "reached"),
    )  # fmt: skip
    (_, baseline), *_ = searches.items()
    for arm in pool.arms:
        target = statistics.median(
            pool.quality(best_at(steps_of(tried, arm), pool.epochs)) for tried in baseline
        )
        for name, group in searches.items():
            table.add(name, arm, *_run_of(pool, [steps_of(t, arm) for t in group], _epochs(group), target))
        table.notes.append(f"{arm}: random search's last choice has {100 * target:.2f} % in the median.")
    return table


def _epochs(group: Sequence[Sequence[Tried]]) -> list[int]:
    return [sum(trial.epochs for trial in tried) for tried in group]


def _run_of(
    pool: Pool, group: Sequence[Sequence[Step]], epochs: Sequence[int], target: float
) -> tuple[str, ...]:
    def after(share: float) -> str:
        limit = share * pool.epochs
        return spread([pool.quality(best_at(s, limit)) for s in group]) if min(epochs) >= limit else "-"

    def quality(chosen: Tried) -> float:
        return chosen.value if chosen.value < target - NEAR else pool.quality(chosen)

    reached = [epochs_to(steps, target, quality) for steps in group]
    median = statistics.median(reached)
    words = (f"{median:,.0f}", f"{median / pool.epochs:.2f}") if math.isfinite(median) else ("never", "-")
    return (
        str(len(group)), f"{statistics.fmean(epochs):,.0f}", *(after(third / 3) for third in (1, 2, 3)),
        *words, f"{sum(map(math.isfinite, reached))} of {len(group)}",
    )  # fmt: skip


def searches(pool: Pool) -> dict[str, list[list[Tried]]]:
    """As many of each kind as there was time for; random ones need no training."""
    everything = len(pool.draws) * len(pool.arms)
    found = {
        f"random, {name}": [
            pool.random(order, PRUNERS[name], spent(pool.epochs, everything)) for order in range(ORDERS)
        ]
        for name in RACED
    }
    kinds = {"**default: TPE, Hyperband, by arm**": pool.default, "stock: TPE, MedianPruner": pool.stock}
    for name, one in kinds.items():
        found[name] = []
        for order in range(SEEDS):
            try:
                found[name].append(one(order, round(pool.epochs * TPE_SHARE)))
            except Late:
                break
    return {name: group for name, group in found.items() if group}


class Tables(list[Table]):
    def markdown(self) -> str:
        return "\n".join(table.markdown() for table in self)


def measure(until: float = math.inf) -> Tables:
    """`until`, on time.monotonic's clock, is when training ends; tables then hold what there is."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = Tables()
    for spec in (load_spec(find_study("digits")), cifar5k()):
        pool = pool_of(spec, until)
        if pool.groups < STARTS:
            continue
        tables.append(audit(pool))
        with contextlib.suppress(Late):
            tables.append(race(pool, searches(pool)))
        hours = pool.recorder.trained_seconds / 3600
        tables[-1].notes.append(f"{len(pool.recorder.curves)} runs on file, {hours:.2f} CPU hours.")
    return tables


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_quality", description=__doc__)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of training, at most")
    minutes = parser.parse_args().minutes
    tables = measure(time.monotonic() + 60 * minutes)
    title = f"# How good a search is\n\n`python -m benchmarks.search_quality`, {surroundings()}"
    text = f"{title}\n\n{tables.markdown()}"
    print(text)
    Path(__file__).with_name("SEARCH.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
