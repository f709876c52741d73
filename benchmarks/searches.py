"""Real searches, run as a person runs them: `python -m search.run`. What each came to is a line of
searches.jsonl; one that is there is not run again. Its trials are in benchmarks/pool, which git ignores."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study

from benchmarks.curves import POOL, Recorder
from benchmarks.processes import Search, digits
from benchmarks.selection import completed
from search.analysis.evidence import gather
from search.analysis.trials import described, draws_of
from search.design.strata import strata_of_spec
from search.spec.study_file import find_study, load_spec
from search.storage.connections import watch
from search.storage.studies import find
from search.storage.trial_record import TrialRecord, records_of
from search.views.sentence import sentence

TRIALS, WORKERS = 100, 2
DATABASE = f"sqlite:///{POOL / 'searches.db'}"
OUTCOMES = Path(__file__).with_name("searches.jsonl")
SOONER = (40, 50, 60, 70, 80, 90, 100)
DEEP = 33
"""Convs from which on the best plain recipe is looked for."""
DIGITS, MATCHED, FREE = "digits", "matched", "free"
KINDS = {
    DIGITS: "",
    MATCHED: 'design = "matched"\npruner = "hyperband"\n',
    FREE: 'design = "free"\npruner = "median"\n',
}
"""What their study files add to [search]: nothing; what the default was before; the block as one parameter
among others, with stock TPE and a median pruner."""


@dataclass(frozen=True)
class Outcome:
    """What a search of 100 trials came to. Accuracies are in %, of validation images."""

    kind: str
    seed: int
    sentence: str
    duels: list[dict[str, Any]]
    """Of the lower and of the upper depths: arm, band, upper, word, gain, low, high, pairs, wins, losses."""
    sooner: dict[str, dict[str, Any]]
    """What was known after so many trials had ended: words of the arms at the upper depths, and the seconds
    of training until then."""
    whole: dict[str, int]
    """Groups of which every arm was trained to its end, by stratum of the default."""
    to_the_end: dict[str, int]
    """Runs of 33 and more convs that were trained to their end, by arm."""
    best_deep_plain: float | None
    """The best of these that is a plain stack."""
    best: dict[str, float]
    """The best run of each arm, at any depth."""
    trials: dict[str, int]
    epochs: int
    seconds: float
    """Of training, all workers together."""
    cpu_seconds: float | None
    """Of the command with all its processes; None where it was stopped in between."""
    importances: dict[str, float]
    """What Optuna's fANOVA tells a reader of the parameters."""
    selection: list[dict[str, Any]] = field(default_factory=list)
    """Gains over whole groups and over all, once the stopped ones have been trained: see selection.py."""

    def duel(self, arm: str, upper: bool) -> dict[str, Any] | None:
        """An arm at the upper or at the lower depths; None without a pair."""
        return next((d for d in self.duels if (d["arm"], d["upper"]) == (arm, upper)), None)


def outcomes() -> list[Outcome]:
    """Those that are on file."""
    lines = OUTCOMES.read_text().splitlines() if OUTCOMES.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


def search(kind: str, seed: int) -> Outcome:
    """The outcome of a search, which is run now unless it is on file; one that was stopped goes on."""
    for outcome in outcomes():
        if (outcome.kind, outcome.seed) == (kind, seed):
            return outcome
    POOL.mkdir(exist_ok=True)
    command = Search(str(POOL), digits(("seed = 0\n", f"seed = {seed}\n{KINDS[kind]}")), f"{kind}-{seed}")
    command.url = DATABASE
    begun = POOL.joinpath("searches.db").exists() and command.name in _names()
    ran = command.run(TRIALS, WORKERS)
    study = find(watch(DATABASE, writes=False), command.name)
    outcome = outcome_of(kind, seed, study, None if begun else round(ran.cpu, 1))
    with OUTCOMES.open("a") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")
    return outcome


def searches(kind: str, count: int) -> list[Outcome]:
    """So many searches of a kind: all that are on file, and of those that lack the next seeds."""
    known = [outcome for outcome in outcomes() if outcome.kind == kind]
    others = (seed for seed in itertools.count() if seed not in [outcome.seed for outcome in known])
    lacking = [search(kind, seed) for seed in itertools.islice(others, max(0, count - len(known)))]
    return sorted([*known, *lacking], key=lambda outcome: outcome.seed)


def can_be_completed(outcome: Outcome) -> bool:
    """Whether its stopped groups are not trained yet, and its trials are at hand."""
    here = POOL.joinpath("searches.db").exists() and f"{outcome.kind}-{outcome.seed}" in _names()
    return here and not outcome.selection


def complete(outcome: Outcome) -> Outcome:
    """The outcome with what its stopped groups would have come to: trains those, a few minutes of a core."""
    name = f"{outcome.kind}-{outcome.seed}"
    trials = records_of(find(watch(DATABASE, writes=False), name))
    found = replace(outcome, selection=completed(trials, Recorder(load_spec(find_study("digits")))))
    others = [one for one in outcomes() if (one.kind, one.seed) != (outcome.kind, outcome.seed)]
    lines = [json.dumps(asdict(one)) for one in (*others, found)]
    OUTCOMES.write_text("\n".join(lines) + "\n")
    return found


def _names() -> list[str]:
    return [study.study_name for study in watch(DATABASE, writes=False).get_all_studies()]


def outcome_of(kind: str, seed: int, study: Study, cpu_seconds: float | None) -> Outcome:
    """The outcome of a search that is over."""
    trials = records_of(study)
    evidence = gather(trials, "plain")
    ends = [trial for trial in trials if trial.ran_to_the_end]
    deep = [trial for trial in ends if trial.depth >= DEEP]
    plain = [100 * trial.score for trial in deep if trial.arm == "plain"]
    return Outcome(
        kind=kind,
        seed=seed,
        sentence=sentence(evidence),
        duels=[
            {"arm": d.arm, "band": d.band, "upper": d.band == evidence.halves[1], "word": d.word,
             "gain": d.gain, "low": d.low, "high": d.high, "pairs": d.final.pairs, "wins": d.final.wins,
             "losses": d.final.losses}
            for d in evidence.duels if d.half
        ],
        sooner={str(count): sooner(trials, count) for count in SOONER if count <= len(trials)},
        whole=whole_groups(trials),
        to_the_end=dict(Counter(trial.arm for trial in deep)),
        best_deep_plain=max(plain, default=None),
        best={leader.arm: leader.val for leader in evidence.leaders},
        trials=dict(Counter(trial.arm for trial in described(trials))),
        epochs=sum(trial.epochs for trial in trials),
        seconds=round(sum(trial.train_seconds or 0.0 for trial in trials), 1),
        cpu_seconds=cpu_seconds,
        importances=importances(study),
    )  # fmt: skip


def sooner(trials: Sequence[TrialRecord], count: int) -> dict[str, Any]:
    """What the first `count` trials that ended had to say at the upper depths."""
    first = sorted(trials, key=lambda trial: (trial.ended_at, trial.number))[:count]
    evidence = gather(first, "plain")
    words = {duel.arm: duel.word for duel in evidence.duels if duel.band == evidence.halves[1]}
    return words | {"seconds": round(sum(trial.train_seconds or 0.0 for trial in first), 1)}


def whole_groups(trials: Sequence[TrialRecord]) -> dict[str, int]:
    """Groups of which every arm was trained to its end, by stratum of the default search."""
    spec = load_spec(find_study("digits"))
    strata = strata_of_spec(spec)
    counts = dict.fromkeys((stratum.name for stratum in strata), 0)
    for draw in draws_of(described(trials)):
        if len(draw) == len(spec.space.block) and all(trial.ran_to_the_end for trial in draw.values()):
            for stratum in strata:
                counts[stratum.name] += stratum.has(draw["plain"].depth)
    return counts


def importances(study: Study) -> dict[str, float]:
    """As `optuna.importance.get_param_importances` and optuna-dashboard show them, the first five."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # no parameter that all have
        return {}
    return {name: round(share, 3) for name, share in list(found.items())[:5]}
