"""What a confirmation shows, as one value; `python -m search.report --json` prints it.

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
from optuna.trial import FrozenTrial

from search.ledger import Account, account_of, classes_of, unequal_columns
from search.plan import Plan, Run
from search.runs import failure_table
from search.scores import ran_to_the_end
from search.statistics import Comparison, compare_family

TEST_READS = "test_reads"
"""User attribute of the study: how many networks were evaluated on test images."""
OWN = "own"
"""Each arm under its own best recipe; else the arm whose best recipe both are trained with."""

Score = Callable[[FrozenTrial], float]


@dataclass(frozen=True)
class Versus:
    """One arm against plain at one depth, seed by seed."""

    arm: str
    depth: int
    recipe: str
    """own, plain, or the arm: see OWN. All but own are twins: equal weights, images and batches."""
    planned: int
    """Pairs."""
    result: Comparison | None
    """None where no pair has ended."""


@dataclass(frozen=True)
class Contrast:
    """A hypothesis over two depths, seed by seed; margin 0."""

    name: str
    """degradation: training accuracy, deepest minus shallow; interaction: test accuracy, what plain loses
    from the shallowest to the deepest beyond what the arm loses."""
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
    """In the search, where it was the best of the candidates."""
    runs: int
    val: float | None
    """Mean of the fresh seeds, as is `test`; the difference to `selected_val` is the winner's curse."""
    test: float | None
    test_sd: float | None
    train: float | None
    failed: int
    """Runs with training accuracy below twice chance."""
    fisher_p: float | None
    """Of the failures against plain's; two-sided, not corrected."""
    grad_ratio: float | None
    """Median log10, at the start of training."""
    feature_cosine: float | None
    causes: dict[str, int]


@dataclass(frozen=True)
class Verdicts:
    search: str
    margin: float
    seeds: tuple[int, ...]
    """More than one number: seeds were added after results had been seen."""
    planned: int
    finished: int
    without_score: int
    """Finished runs that have none: out of memory, or an error."""
    test_reads: int
    """How often a network was evaluated on test images."""
    seconds: float
    """Of training."""
    versus: tuple[Versus, ...]
    contrasts: tuple[Contrast, ...]
    standings: tuple[Standing, ...]
    ledger: tuple[Account, ...]
    unequal: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return self.finished == self.planned

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(_finite(asdict(self)), allow_nan=False))  # type: ignore[no-any-return]


def judge_study(study: Study, plan: Plan) -> Verdicts:
    return judge(plan, study.get_trials(deepcopy=False), study.user_attrs.get(TEST_READS, 0))


def judge(plan: Plan, trials: Sequence[FrozenTrial], test_reads: int) -> Verdicts:
    """`trials` of the confirmation, in which trial n is the plan's n-th run."""
    runs = list(plan.runs())
    done = [(runs[t.number], t) for t in trials if t.state.is_finished() and t.number < len(runs)]
    scored = scored_runs(plan, trials)
    ledger = tuple(
        account_of(arm, [t for run, t in done if run.arm == arm and arm in run.best_of]) for arm in plan.arms
    )
    return Verdicts(
        search=plan.search,
        margin=plan.margin,
        seeds=plan.seeds,
        planned=len(runs),
        finished=len(done),
        without_score=len(done) - len(scored),
        test_reads=test_reads,
        seconds=round(sum(t.user_attrs.get("train_seconds", 0.0) for _, t in done), 1),
        versus=tuple(_versus(plan, scored)),
        contrasts=tuple(_contrasts(plan, scored)),
        standings=tuple(_standings(plan, scored)),
        ledger=ledger,
        unequal=unequal_columns(ledger),
    )


def scored_runs(plan: Plan, trials: Sequence[FrozenTrial]) -> list[tuple[Run, FrozenTrial]]:
    """Those that ended with a test accuracy, in the order of the plan."""
    runs = list(plan.runs())
    ends = [t for t in trials if ran_to_the_end(t) and t.number < len(runs)]
    return [(runs[t.number], t) for t in ends if "test_accuracy" in t.user_attrs]


def test_score(trial: FrozenTrial) -> float:
    return float(trial.user_attrs["test_accuracy"])


def train_score(trial: FrozenTrial) -> float:
    """A run that diverged is at chance, whatever it had learned before."""
    if trial.user_attrs.get("outcome") == "diverged":
        return float(trial.user_attrs["val_accuracy"])
    return float(trial.user_attrs["train_accuracy"])


def own_runs(
    scored: Iterable[tuple[Run, FrozenTrial]], arm: str, depth: int, of: str | None = None
) -> dict[int, FrozenTrial]:
    """By replicate, the runs of an arm under its own best recipe, or under the best one `of` another arm."""
    return {
        run.replicate: trial
        for run, trial in scored
        if (run.arm, run.depth) == (arm, depth) and (of or arm) in run.best_of
    }


def _points(
    ours: Mapping[int, FrozenTrial], theirs: Mapping[int, FrozenTrial], score: Score
) -> dict[int, float]:
    """Ours minus theirs, by replicate."""
    return {r: round(100 * (score(ours[r]) - score(theirs[r])), 9) for r in ours if r in theirs}


def _versus(plan: Plan, scored: Sequence[tuple[Run, FrozenTrial]]) -> Iterable[Versus]:
    for arm in (arm for arm in plan.arms if arm != "plain"):
        depths = [d for d in plan.depths if plan.choice(arm, d) and plan.choice("plain", d)]
        for recipe in (OWN, "plain", arm):
            of_ours, of_plain = (None, None) if recipe == OWN else (recipe, recipe)
            family = {}
            for depth in depths:
                ours = own_runs(scored, arm, depth, of_ours)
                differences = _points(ours, own_runs(scored, "plain", depth, of_plain), test_score)
                if differences:
                    family[depth] = list(differences.values())
            compared = compare_family(family, plan.margin)
            for depth in depths:
                yield Versus(arm, depth, recipe, plan.seeds[-1], compared.get(depth))


def _contrasts(plan: Plan, scored: Sequence[tuple[Run, FrozenTrial]]) -> Iterable[Contrast]:
    deep, least = max(plan.depths), min(plan.depths)
    if plan.shallow is not None:
        for arm in plan.arms:
            differences = _points(
                own_runs(scored, arm, deep), own_runs(scored, arm, plan.shallow), train_score
            )
            yield Contrast("degradation", arm, plan.shallow, deep, _compare(differences.values()))
    if deep > least:
        for arm in (arm for arm in plan.arms if arm != "plain"):
            ours = _points(own_runs(scored, arm, deep), own_runs(scored, arm, least), test_score)
            plain = _points(own_runs(scored, "plain", deep), own_runs(scored, "plain", least), test_score)
            differences = {r: ours[r] - plain[r] for r in ours if r in plain}
            yield Contrast("interaction", arm, least, deep, _compare(differences.values()))


def _compare(differences: Iterable[float]) -> Comparison | None:
    sample = list(differences)
    return compare_family({0: sample}, margin=0.0)[0] if sample else None


def _standings(plan: Plan, scored: Sequence[tuple[Run, FrozenTrial]]) -> Iterable[Standing]:
    classes = classes_of([trial for _, trial in scored])
    for choice in sorted(plan.choices, key=lambda c: (plan.arms.index(c.arm), c.depth)):
        runs = list(own_runs(scored, choice.arm, choice.depth).values())
        plain = list(own_runs(scored, "plain", choice.depth).values())
        ours, theirs = [train_score(t) for t in runs], [train_score(t) for t in plain]
        table = failure_table(ours, theirs or ours, classes) if ours else None
        yield Standing(
            arm=choice.arm,
            depth=choice.depth,
            search_trial=choice.trial,
            search_depth=choice.trial_depth,
            candidates=choice.candidates,
            selected_val=100 * choice.val_accuracy,
            runs=len(runs),
            val=_mean(100 * t.user_attrs["val_accuracy"] for t in runs),
            test=_mean(100 * test_score(t) for t in runs),
            test_sd=statistics.stdev(100 * test_score(t) for t in runs) if len(runs) > 1 else None,
            train=_mean(100 * share for share in ours),
            failed=table.failed_a if table else 0,
            fisher_p=table.p if table and plain and choice.arm != "plain" else None,
            grad_ratio=_median(t.user_attrs.get("grad_ratio") for t in runs),
            feature_cosine=_median(t.user_attrs.get("feature_cosine") for t in runs),
            causes=dict(Counter(t.user_attrs.get("cause", "unknown") for t in runs)),
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
