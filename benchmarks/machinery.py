"""What a trial costs beside its training: asking, suggesting, reporting, pruning, telling."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from benchmarks.table import Goal, Table
from search.design.depths import depth_of
from search.design.places import Places
from search.design.pruners import make_pruner
from search.design.samplers import make_sampler
from search.design.space import block_names, suggest, suggested_names
from search.design.strata import strata_of_spec
from search.spec.study import StudySpec
from search.spec.study_file import find_study, load_spec
from search.storage.claim_storage import ClaimStorage
from search.storage.connections import join_study
from search.storage.leases import worker_name
from search.storage.studies import open_study
from search.storage.trial_record import PLACE
from search.trials.reporter import Reporter

EPOCHS = 15
MOST_MS, JOIN_SECONDS = 60.0, 3.0
"""Goals: CPU per trial at 1,000 stored ones, and of joining 5,000."""


def measure(sizes: tuple[int, ...] = (0, 1000, 5000), count: int = 30) -> Table:
    """`sizes`: finished trials in the study; `count`: trials measured at each."""
    table = Table(
        "Search machinery: CPU time per trial, and of joining",
        f"Digits' space and design, {EPOCHS} reports a trial, no training; median of {count} trials of "
        "one worker, SQLite. Stock: Optuna's RDBStorage, TPE and MedianPruner, the same parameters.",
        ("stored trials", "ours, ms CPU", "ours, ms wall", "stock, ms CPU", "stock, ms wall",
         "joining: ours, s CPU", "joining: stock, s CPU"),
    )  # fmt: skip
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = load_spec(find_study("digits"))
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            ours = _ours(f"sqlite:///{folder}/ours.db", spec, size, count)
            stock = _stock(f"sqlite:///{folder}/stock.db", spec, size, count)
        table.add(
            f"{size:,}",
            *(f"{1000 * x:.0f}" for x in (*ours[:2], *stock[:2])),
            f"{ours[2]:.2f}",
            f"{stock[2]:.2f}",
        )
        table.goals += _goals(size, ours, stock)
    return table


def _goals(size: int, ours: tuple[float, ...], stock: tuple[float, ...]) -> list[Goal]:
    if size == 1000:
        told = f"{1000 * ours[0]:.0f} ms (stock {1000 * stock[0]:.0f} ms)"
        goal = f"machinery at 1,000 stored trials at most {MOST_MS:g} ms CPU per trial"
        return [Goal(goal, told, 1000 * ours[0] <= MOST_MS)]
    if size == 5000:
        told = f"{ours[2]:.2f} s (stock {stock[2]:.2f} s)"
        return [Goal(f"joining 5,000 trials at most {JOIN_SECONDS:g} s CPU", told, ours[2] <= JOIN_SECONDS)]
    return []


def _timed(act: Callable[[], object], count: int) -> tuple[float, float]:
    """Median seconds of CPU and of wall time, after one that is not counted."""
    act()
    cpu, wall = [], []
    for _ in range(count):
        before, began = time.process_time(), time.perf_counter()
        act()
        cpu.append(time.process_time() - before)
        wall.append(time.perf_counter() - began)
    return statistics.median(cpu), statistics.median(wall)


def _curve(x: float) -> list[float]:
    return [0.9 - 0.6 * x / (epoch + 1) for epoch in range(EPOCHS)]


def _ours(url: str, spec: StudySpec, size: int, count: int) -> tuple[float, float, float]:
    study = open_study(url, "s", spec, "data", size + count + 50)
    _fill(study, spec, size)
    began = time.process_time()
    study, claims = join_study(url, "s", worker_name(), size + count + 50)
    claims.direct.next_place = Places(spec)
    study.sampler, study.pruner = make_sampler(spec, suggested_names(spec.space)), make_pruner(spec)
    study.get_trials(deepcopy=False)
    joined = time.process_time() - began
    return *_timed(lambda: _our_trial(study, claims, spec), count), joined


def _our_trial(study: optuna.Study, claims: ClaimStorage, spec: StudySpec) -> None:
    """One trial as search.trials.runner runs it, without the training."""
    trial = study.ask()
    suggest(trial, spec.space)
    claims.annotate(trial._trial_id, {"arm": "plain", "seed": 1, "depth": 20, "params": 1, "macs": 1})
    reporter = Reporter(trial, EPOCHS)
    curve = _curve(0.05 * random.random())  # good: none is pruned
    state = TrialState.COMPLETE
    for epoch, value in enumerate(curve, start=1):
        if reporter.report(epoch, value, epoch == EPOCHS):
            state = TrialState.PRUNED
            break
    reporter.flush(lambda: False)
    reporter.close()
    claims.finish(trial._trial_id, state, curve[-1], {"outcome": "complete", "epochs": EPOCHS})


def _stock(url: str, spec: StudySpec, size: int, count: int) -> tuple[float, float, float]:
    study = optuna.create_study(storage=url, study_name="s", direction="maximize")
    _fill(study, spec, size)
    began = time.process_time()
    study = optuna.load_study(storage=url, study_name="s", pruner=optuna.pruners.MedianPruner())
    study.get_trials(deepcopy=False)
    joined = time.process_time() - began

    def trial() -> None:
        asked = study.ask()
        suggest(asked, spec.space)
        asked.set_user_attr("params", 1)
        curve = _curve(0.05 * random.random())  # good: none is pruned
        for epoch, value in enumerate(curve, start=1):
            asked.report(value, epoch)
            if asked.should_prune():
                study.tell(asked, state=TrialState.PRUNED)
                return
        study.tell(asked, curve[-1])

    return *_timed(trial, count), joined


def _stratum(params: dict[str, Any], spec: StudySpec) -> int:
    """The index of the stratum of a trial."""
    depth = depth_of(spec.space, sum(params[name] for name in block_names(spec.space)))
    return next(i for i, stratum in enumerate(strata_of_spec(spec)) if stratum.has(depth))


def _fill(study: optuna.Study, spec: StudySpec, size: int) -> None:
    """Fills the study with finished trials of its own distributions."""
    if not size:
        return
    probe = optuna.create_study()
    trial = probe.ask()
    suggest(trial, spec.space)
    distributions: dict[str, BaseDistribution] = trial.distributions
    rng = random.Random(0)
    sampler = optuna.samplers.RandomSampler(seed=0)
    trials = []
    for number in range(size):
        params = {n: sampler.sample_independent(probe, trial, n, d) for n, d in distributions.items()}  # type: ignore[arg-type]
        arm = ("plain", "residual", "preact")[number % 3]
        if "block" in params:
            params["block"] = arm
        curve = _curve(rng.random())
        trials.append(
            create_trial(
                state=TrialState.COMPLETE,
                value=curve[-1],
                params=params,
                distributions=distributions,
                intermediate_values=dict(enumerate(curve, start=1)),
                user_attrs={
                    "arm": arm,
                    "outcome": "complete",
                    "epochs": EPOCHS,
                    "fingerprint": f"{number:x}",
                    "seed": number,
                },
                system_attrs={
                    PLACE: {"group": number, "arm": arm, "lead": True, "stratum": _stratum(params, spec)}
                },
            )
        )
    storage = study._storage
    for made in trials:
        storage.create_new_trial(study._study_id, template_trial=made)
