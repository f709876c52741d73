"""The verdicts of a confirmation as one value; `python -m search.report --json` prints it.

Accuracies are in %, differences in points, depths in convs. Scores are test accuracies of runs to the end.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.study import Study

from search.analysis.accounts import Account, account_of, classes_of, unequal_columns
from search.analysis.scored_runs import Scored, own_runs, scored_runs, test_score, train_score
from search.design.plan import Plan
from search.stats.paired import Comparison, compare_family
from search.stats.runs import compare_failures
from search.storage.study_record import record_of_study
from search.storage.trial_record import TrialRecord, records_of

OWN = "own"
"""The recipe of a comparison of each arm under its own best one; else it is the name of the arm whose best
recipe both are trained with."""

ScoreOf = Callable[[TrialRecord], float]


@dataclass(frozen=True)
class Versus:
    """One arm against the baseline at one depth, seed by seed."""

    arm: str
    depth: int
    recipe: str
    """own, the baseline or the arm: see OWN. All but own are twins: equal weights, images and batches."""
    planned: int
    """Pairs when all runs have ended."""
    result: Comparison | None
    """None where no pair has ended."""


@dataclass(frozen=True)
class Contrast:
    """A hypothesis over two depths, seed by seed; margin 0."""

    name: str
    """degradation: training accuracy, deepest minus shallow; interaction: test accuracy, what the baseline
    loses from the shallowest to the deepest beyond what the arm loses."""
    arm: str
    shallow: int
    deep: int
    result: Comparison | None


@dataclass(frozen=True)
class Standing:
    """One arm at one depth under its own best recipe."""

    arm: str
    depth: int
    search_trial: int
    search_depth: int
    candidates: int
    selected_val: float
    """Validation accuracy in the search, where it was the best of the candidates."""
    runs: int
    val: float | None
    """Mean of the fresh seeds, as is `test`; the difference to `selected_val` is the winner's curse."""
    test: float | None
    test_sd: float | None
    train: float | None
    failed: int
    """Runs with training accuracy below twice chance."""
    fisher_p: float | None
    """Fisher's exact test of the failures against the baseline's; two-sided, not corrected."""
    grad_ratio: float | None
    """Median of the log10 ratios at the start of training, as is `feature_cosine`'s."""
    feature_cosine: float | None
    causes: dict[str, int]
    outline: str
    """Stages of the network, each as width × blocks, and its norm; empty before the first run has ended."""
    params: int | None
    macs: int | None
    """Multiply-adds for one image."""


@dataclass(frozen=True)
class Verdicts:
    search: str
    """Name of the study that was confirmed."""
    baseline: str
    margin: float
    seeds: tuple[int, ...]
    """More than one number: seeds were added after results had been seen."""
    planned: int
    finished: int
    without_score: int
    """Finished runs that have none: out of memory, or an error."""
    test_reads: int
    """Number of times that a network was evaluated on test images."""
    seconds: float
    """Training seconds."""
    versus: tuple[Versus, ...]
    contrasts: tuple[Contrast, ...]
    standings: tuple[Standing, ...]
    ledger: tuple[Account, ...]
    unequal: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all runs have ended."""
        return self.finished == self.planned

    @property
    def decided(self) -> bool:
        """Whether anything is, of pairs of which each arm had its own best recipe."""
        return any(v.result and v.result.word != "undecided" for v in self.versus if v.recipe == OWN)

    def to_json(self) -> dict[str, Any]:
        """The verdicts as JSON has them."""
        return json.loads(json.dumps(_finite(asdict(self)), allow_nan=False))  # type: ignore[no-any-return]


def judge_study(study: Study, plan: Plan) -> Verdicts:
    """The verdicts of a confirmation in a database, as it is now."""
    return judge(plan, records_of(study), record_of_study(study).test_reads)


def judge(plan: Plan, trials: Sequence[TrialRecord], test_reads: int) -> Verdicts:
    """The verdicts that the trials of a confirmation allow; trial n is the plan's n-th run."""
    runs = list(plan.runs())
    done = [(runs[t.number], t) for t in trials if t.is_finished and t.number < len(runs)]
    scored = scored_runs(plan, trials)
    ledger = tuple(
        account_of(arm, [t for run, t in done if run.arm == arm and arm in run.best_of]) for arm in plan.arms
    )
    return Verdicts(
        search=plan.search,
        baseline=plan.baseline,
        margin=plan.margin,
        seeds=plan.seeds,
        planned=len(runs),
        finished=len(done),
        without_score=len(done) - len(scored),
        test_reads=test_reads,
        seconds=round(sum(t.train_seconds or 0.0 for _, t in done), 1),
        versus=tuple(_versus(plan, scored)),
        contrasts=tuple(_contrasts(plan, scored)),
        standings=tuple(_standings(plan, scored)),
        ledger=ledger,
        unequal=unequal_columns(ledger),
    )


def _points(
    ours: Mapping[int, TrialRecord], theirs: Mapping[int, TrialRecord], score: ScoreOf
) -> dict[int, float]:
    """Ours minus theirs, by replicate."""
    return {r: round(100 * (score(ours[r]) - score(theirs[r])), 9) for r in ours if r in theirs}


def _versus(plan: Plan, scored: Scored) -> Iterable[Versus]:
    baseline = plan.baseline
    for arm in plan.rivals:
        depths = [d for d in plan.depths if plan.choice(arm, d) and plan.choice(baseline, d)]
        for recipe in (OWN, baseline, arm):
            of_ours, of_theirs = (None, None) if recipe == OWN else (recipe, recipe)
            family = {}
            for depth in depths:
                ours = own_runs(scored, arm, depth, of_ours)
                differences = _points(ours, own_runs(scored, baseline, depth, of_theirs), test_score)
                if differences:
                    family[depth] = list(differences.values())
            compared = compare_family(family, plan.margin)
            for depth in depths:
                yield Versus(arm, depth, recipe, plan.seeds[-1], compared.get(depth))


def _contrasts(plan: Plan, scored: Scored) -> Iterable[Contrast]:
    deep, least, baseline = max(plan.depths), min(plan.depths), plan.baseline
    if plan.shallow is not None:
        for arm in plan.arms:
            differences = _points(
                own_runs(scored, arm, deep), own_runs(scored, arm, plan.shallow), train_score
            )
            yield Contrast("degradation", arm, plan.shallow, deep, _compare(differences.values()))
    if deep > least:
        for arm in plan.rivals:
            ours = _points(own_runs(scored, arm, deep), own_runs(scored, arm, least), test_score)
            theirs = _points(own_runs(scored, baseline, deep), own_runs(scored, baseline, least), test_score)
            differences = {r: ours[r] - theirs[r] for r in ours if r in theirs}
            yield Contrast("interaction", arm, least, deep, _compare(differences.values()))


def _compare(differences: Iterable[float]) -> Comparison | None:
    sample = list(differences)
    return compare_family({0: sample}, margin=0.0)[0] if sample else None


def _standings(plan: Plan, scored: Scored) -> Iterable[Standing]:
    classes = classes_of([trial for _, trial in scored])
    for choice in sorted(plan.choices, key=lambda c: (plan.arms.index(c.arm), c.depth)):
        runs = list(own_runs(scored, choice.arm, choice.depth).values())
        baselines = own_runs(scored, plan.baseline, choice.depth).values()
        ours, theirs = [train_score(t) for t in runs], [train_score(t) for t in baselines]
        table = compare_failures(ours, theirs or ours, classes) if ours else None
        yield Standing(
            arm=choice.arm,
            depth=choice.depth,
            search_trial=choice.trial,
            search_depth=choice.trial_depth,
            candidates=choice.candidates,
            selected_val=100 * choice.val_accuracy,
            runs=len(runs),
            val=_mean(100 * t.val_accuracy for t in runs if t.val_accuracy is not None),
            test=_mean(100 * test_score(t) for t in runs),
            test_sd=statistics.stdev(100 * test_score(t) for t in runs) if len(runs) > 1 else None,
            train=_mean(100 * share for share in ours),
            failed=table.failed_a if table else 0,
            fisher_p=table.p if table and theirs and choice.arm != plan.baseline else None,
            grad_ratio=_median(t.grad_ratio for t in runs),
            feature_cosine=_median(t.feature_cosine for t in runs),
            causes=dict(Counter(t.cause for t in runs)),
            outline=runs[0].outline if runs else "",
            params=runs[0].num_params if runs else None,
            macs=runs[0].macs if runs else None,
        )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.fmean(found) if found else None


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def _finite(value: Any) -> Any:
    """JSON knows no infinity: bounds that a single pair leaves open become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
