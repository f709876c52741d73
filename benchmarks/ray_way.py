"""`python -m benchmarks.ray_way URL STUDY MODE`: the trials of a study once more, by Ray Tune on two cores.

MODE: `list`, the very same ones, each in a process of its own, as is Ray's default; `reuse`, the same in two
processes that stay; `search`, another search of the same space and as many trials, by ASHA and OptunaSearch.
Prints JSON: trials, epochs, and the seconds from the first trial's first line to the last one's end."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import partial
from typing import Any

import torch

from benchmarks.ray_trial import draw, train
from search.data.batches import to_device
from search.data.datasets import load
from search.design.space import values_of
from search.spec.study import StudySpec
from search.storage.connections import watch
from search.storage.studies import find


def main() -> None:
    url, name, mode = sys.argv[1:4]
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    source = find(watch(url, writes=False), name)
    stored = source.get_trials(deepcopy=False)
    spec = StudySpec.from_canonical(name, source.user_attrs["spec"])
    parts = load(spec.data)
    data = to_device(parts.train, parts.val, parts.classes, torch.device("cpu"))
    shape = parts.image_shape
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # short: sockets' names have 107 characters
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            _temp_dir=folder, object_store_memory=200 * 2**20,
        )  # fmt: skip
        try:
            training = tune.with_resources(
                tune.with_parameters(train, data=data, spec=spec, shape=shape), {"cpu": 1}
            )
            settings: dict[str, Any] = {"max_concurrent_trials": 2, "reuse_actors": mode == "reuse"}
            space: dict[str, Any] = {}
            if mode == "search":
                settings |= _search(spec, len(stored))
            else:
                space = {
                    "trial": tune.grid_search(
                        [_recipe(t, spec) for t in stored if t.user_attrs.get("epochs")]
                    )
                }
            run = tune.RunConfig(storage_path=f"{folder}/results", verbose=0)
            config = tune.TuneConfig(**settings)
            results = tune.Tuner(training, param_space=space, tune_config=config, run_config=run).fit()
        finally:
            ray.shutdown()
    if results.errors:
        raise RuntimeError(f"{len(results.errors)} trials failed: {results.errors[0]}")
    last = [result.metrics for result in results]
    seconds = max(m["ended"] for m in last) - min(m["began"] for m in last)
    epochs = sum(m["training_iteration"] for m in last)
    print(json.dumps({"trials": len(last), "epochs": epochs, "seconds": seconds}))


def _recipe(trial: Any, spec: StudySpec) -> dict[str, Any]:
    values = values_of(trial.params, spec.space)
    architecture, epochs = trial.user_attrs["architecture"], trial.user_attrs["epochs"]
    return {"values": values, "architecture": architecture, "epochs": epochs}


def _search(spec: StudySpec, trials: int) -> dict[str, Any]:
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    goal: dict[str, Any] = {"metric": "accuracy", "mode": "max"}
    return {
        "num_samples": trials,
        "search_alg": OptunaSearch(partial(draw, spec=spec), seed=spec.search.seed, **goal),
        "scheduler": ASHAScheduler(max_t=spec.train.epochs, reduction_factor=3, **goal),
        "reuse_actors": True,
    }


if __name__ == "__main__":
    main()
