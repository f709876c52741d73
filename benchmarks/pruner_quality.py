"""What pruners kill in a matched design, and how good a choice is after so many epochs:
`python -m benchmarks.pruner_quality`.

Matched searches against random search without pruning and against stock TPE with MedianPruner; pruners on
one pool of recorded curves. Writes PRUNERS.md, and keeps what is written there by hand. Two hours of a core
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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import optuna
import torch

from benchmarks.coverage import coverage
from benchmarks.curves import Late
from benchmarks.judging import (
    Kills,
    Step,
    best_at,
    epochs_to,
    kept_by_half,
    kills,
    rank_correlation,
    spread,
    steps_of,
)
from benchmarks.pools import (
    ARM_HALVING,
    ARM_HYPERBAND,
    FRESH,
    HALVING,
    HYPERBAND,
    MIXED_MEDIAN,
    NONE,
    PRUNERS,
    STARTS,
    Pool,
    cifar5k,
    pool_of,
    spent,
)
from benchmarks.replay import Tried
from benchmarks.table import Table, surroundings
from search.spec.study_file import find_study, load_spec

ORDERS = 30
"""Searches replayed for each pruner, each on the pool in an order of its own."""
SEEDS = {"digits": 5, "cifar5k": 0}
"""Searches with TPE: what it proposes has to be trained."""
NEAR = 0.01
"""A choice whose score is further below the target than this is not trained again: it was chosen for its
score, which is more likely too high than too low."""
BY_HAND = "<!-- by hand -->"
LOOKED_AT = (1, 2, 3, 4, 5, 6, 8, 10, 12)
"""Epochs of a curve."""
Quality = Callable[[Tried | None], float]
Searches = dict[str, list[list[Tried]]]
RACED = (NONE, HYPERBAND, HALVING, ARM_HYPERBAND, ARM_HALVING, "arm, halving from 1, factor 3", MIXED_MEDIAN)
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
        if name == NONE:
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
    top, best = sum(one.of_top_quarter for one in found), sum(one.better_than_best for one in found)
    return f"{100 * top / pruned:.1f} / {100 * best / pruned:.1f}"


def foresight(pool: Pool) -> Table:
    """How early the good ones can be told, arm by arm: what a rung has to go by."""
    epochs = [epoch for epoch in LOOKED_AT if epoch < pool.spec.train.epochs]
    table = Table(
        f"{pool.spec.name}: what an epoch tells of the end",
        f"{len(pool.draws)} random draws as every arm, none pruned. Rank correlation of the accuracy after "
        "an epoch with the trial's value / % of the arm's best quarter that is then in its better half.",
        ("arm", "best", "median", *(f"epoch {epoch}" for epoch in epochs)),
    )
    chance = pool.recorder.chance
    for arm in pool.arms:
        curves = [pool.recorder.run(draw.of(arm), draw.seed) for draw in pool.draws]
        ends = [curve.value(chance) for curve in curves]
        then = [[curve.after(epoch, chance) for curve in curves] for epoch in epochs]
        table.add(
            arm, f"{100 * max(ends):.1f}", f"{100 * statistics.median(ends):.1f}",
            *(f"{rank_correlation(x, ends):.2f} / {100 * kept_by_half(x, ends):.0f}" for x in then),
        )  # fmt: skip
    return table


def race(pool: Pool, searches: Searches, judge: str, quality: Quality) -> Table:
    """How good the choices of searches are after the same epochs. The first are random and not pruned."""
    table = Table(
        f"{pool.spec.name}: the choice after so many epochs, {judge}",
        "Accuracy of each arm's best trial, %, mean ± sd over searches, when a third, two thirds and all of "
        f"random search's {pool.epochs:,} epochs are spent. To reach: epochs after which the choice is as "
        "good as random search's last one in the median, median; and in how many searches that happened.",
        ("search", "arm", "searches", "epochs each", "after a third", "after two thirds", "after all",
         "epochs to reach random's", "share of random's", "reached"),
    )  # fmt: skip
    (_, baseline), *_ = searches.items()
    for arm in pool.arms:
        target = statistics.median(quality(best_at(steps_of(tried, arm), pool.epochs)) for tried in baseline)
        for name, group in searches.items():
            steps = [steps_of(tried, arm) for tried in group]
            table.add(name, arm, *_run_of(pool, steps, _epochs(group), target, quality))
        table.notes.append(f"{arm}: random search's last choice has {100 * target:.2f} % in the median.")
    return table


def _epochs(group: Sequence[Sequence[Tried]]) -> list[int]:
    return [sum(trial.epochs for trial in tried) for tried in group]


def _run_of(
    pool: Pool, group: Sequence[Sequence[Step]], epochs: Sequence[int], target: float, quality: Quality
) -> tuple[str, ...]:
    def after(share: float) -> str:
        limit = share * pool.epochs
        return spread([quality(best_at(steps, limit)) for steps in group]) if min(epochs) >= limit else "-"

    def near(chosen: Tried) -> float:
        return chosen.value if chosen.value < target - NEAR else quality(chosen)

    reached = [epochs_to(steps, target, near) for steps in group]
    median = statistics.median(reached)
    words = (f"{median:,.0f}", f"{median / pool.epochs:.2f}") if math.isfinite(median) else ("never", "-")
    return (
        str(len(group)), f"{statistics.fmean(epochs):,.0f}", *(after(third / 3) for third in (1, 2, 3)),
        *words, f"{sum(map(math.isfinite, reached))} of {len(group)}",
    )  # fmt: skip


def searches(pool: Pool) -> Searches:
    """As many searches of each kind as there was time for; random ones need no training."""
    everything = len(pool.draws) * len(pool.arms)
    found = {
        f"random, {name}": [
            pool.random(order, PRUNERS[name], spent(pool.epochs, everything)) for order in range(ORDERS)
        ]
        for name in RACED
    }
    found |= {name: [] for name in kinds(pool)}
    for order in range(SEEDS[pool.spec.name]):
        for name, one in kinds(pool).items():
            with contextlib.suppress(Late):
                found[name].append(one(order))
    return {name: group for name, group in found.items() if group}


def kinds(pool: Pool) -> dict[str, Callable[[int], list[Tried]]]:
    """Searches with TPE, given their number."""
    ours = {
        f"TPE after {starts} draws, {HYPERBAND}": partial(pool.tpe, pruner=PRUNERS[HYPERBAND], starts=starts)
        for starts in (5, STARTS)
    }
    return ours | {"stock: TPE, MedianPruner": pool.stock}


def finished_anyway(pool: Pool, name: str, group: Sequence[Sequence[Tried]]) -> str:
    """Every tenth of the trials that a sampler proposed and a pruner stopped is run to its end."""
    drawn = {draw.seed for draw in pool.draws}  # the end of which is known
    stopped = [
        (trial, max(t.value for t in tried if t.arm == trial.arm and not t.pruned))
        for tried in group
        for trial in tried
        if trial.pruned and trial.seed not in drawn
    ]
    sample = stopped[::10]
    ends = [pool.recorder.run(trial.values, trial.seed).value(pool.recorder.chance) for trial, _ in sample]
    wrong = sum(end > best for end, (_, best) in zip(ends, sample, strict=True))
    return (
        f"{name}: of its own proposals, {len(stopped)} were pruned; {len(sample)} of them, every tenth, "
        f"were run to the end anyway, and {wrong} would have beaten the best of their arm."
    )


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
        if len(pool.draws) < STARTS:
            continue
        tables += [foresight(pool), audit(pool), coverage(pool)]
        found = searches(pool)
        tables.append(race(pool, found, "by its own score", pool.score))
        with contextlib.suppress(Late):
            tables.append(race(pool, found, f"trained again with {FRESH} fresh seeds", pool.quality))
        for name in found:
            if name.startswith("TPE"):
                with contextlib.suppress(Late):
                    tables[-1].notes.append(finished_anyway(pool, name, found[name]))
        hours = pool.recorder.trained_seconds / 3600
        tables[-1].notes.append(f"{len(pool.recorder.curves)} runs on file, {hours:.2f} CPU hours.")
    return tables


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruner_quality", description=__doc__)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of training, at most")
    minutes = parser.parse_args().minutes
    tables = measure(time.monotonic() + 60 * minutes)
    title = (
        f"# What pruners kill in a matched design\n\n`python -m benchmarks.pruner_quality`, {surroundings()}"
    )
    path = Path(__file__).with_name("PRUNERS.md")
    text = f"{title}\n\n{by_hand(path)}{tables.markdown()}"
    print(text)
    path.write_text(text)
    return 0


def by_hand(path: Path) -> str:
    """What a person made of it the last time: between two lines that say so."""
    parts = path.read_text().split(BY_HAND) if path.exists() else []
    return f"{BY_HAND}{parts[1]}{BY_HAND}\n\n" if len(parts) == 3 else ""


if __name__ == "__main__":
    sys.exit(main())
