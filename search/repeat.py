"""Train a stored trial again, as it was or with one thing changed: `python -m search.repeat TRIAL`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SpecError
from search.options import add_device_option, add_study_options, parser_of, run_command, seed, whole

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from search.evaluation import EpochResult
    from search.repetition import Repetition

EXAMPLES = """\
examples:
  python -m search.repeat 12                          identical? on a CPU it should be, bit for bit
  python -m search.repeat 12 --block plain            its twin: the same weights, images and batches
  python -m search.repeat 12 --depth +6               six convs more, shared out over the stages
  python -m search.repeat 12 --set lr_sgd=0.01 --set epochs=60
  python -m search.repeat 3 --name digits-confirm     a run of a confirmation

Repeats are kept in the study NAME-repeat, each with the number of its origin and what was changed.
exit codes: 0 done, 1 training failed, 2 usage or study, 66 data, 69 GPU, 75 database out of reach, 130 Ctrl-C
"""


TOLD = {
    "validation accuracy, %": ("val_accuracy", 100),
    "training accuracy, %": ("train_accuracy", 100),
    "depth, convs": ("depth", 1),
    "parameters": ("params", 1),
    "log10 gradient ratio": ("grad_ratio", 1),
    "feature cosine": ("feature_cosine", 1),
    "ended": ("cause", None),
}
"""What is told of a changed trial: its attribute, and the factor to show it with."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from models.architecture import BLOCKS

    description = "Train a stored trial again to the end, as it was or with one thing changed."
    parser = parser_of("repeat", description, EXAMPLES)
    parser.add_argument("trial", type=_number, metavar="TRIAL", help="its number in the study")
    add_study_options(parser, "of the trial's study in the database")
    parser.add_argument("--block", choices=BLOCKS)
    parser.add_argument("--depth", metavar="CONVS", help="20; or +6, -4: from the trial's own")
    parser.add_argument("--seed", type=seed, metavar="N", help="of weights and batch order")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of recipe or [train]"
    )
    add_device_option(parser)
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    return parser.parse_args(argv)


def _number(text: str) -> int:
    return whole(text, 0, 10**9)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.database import storage_url
    from search.storage import check_same, find, watch
    from search.studyfile import spec_of

    url = storage_url(options.storage)
    study = find(watch(url, writes=False), options.name or Path(options.study or "digits").stem)
    stored = study.user_attrs
    spec = spec_of(options.study, options.name, stored)
    origin = _trial(study, options.trial)

    from search.changes import Recipe, changed
    from search.datasets import read
    from search.repetition import keep, repeat
    from search.space import values_of
    from search.workers import plan

    images = read(spec.data)
    fingerprint = images.split(spec.data).fingerprint()
    check_same(study.study_name, stored, spec, fingerprint)
    recipe = Recipe(values_of(origin.params, spec.space), spec.train, origin.user_attrs["seed"])
    recipe, changes = changed(recipe, spec.space, options)
    parts = images.split(replace(spec.data, seed=origin.user_attrs.get("data_seed", spec.data.seed)))
    device = plan("1", options.device)[0].device
    _introduce(study, origin, changes)

    def show(result: EpochResult) -> None:
        if not options.quiet:
            then = origin.intermediate_values.get(result.epoch)
            before = "" if then is None else f", then {100 * then:.1f} %"
            print(
                f"epoch {result.epoch}/{recipe.train.epochs}: training {100 * result.train_accuracy:.1f} %, "
                f"validation {100 * result.val_accuracy:.1f} %{before}",
                flush=True,
            )

    repetition = repeat(recipe, spec, parts, device, show)
    _tell(origin, repetition, changes, stored)
    kept = keep(url, study.study_name, origin, spec, fingerprint, repetition, changes)
    print(f"kept as trial {kept.number} of the study {study.study_name}-repeat")
    return 0


def _trial(study: Study, number: int) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    found = next((trial for trial in trials if trial.number == number), None)
    if found is None:
        have = f"it has 0 to {len(trials) - 1}" if trials else "it has none"
        raise SpecError(f"no trial {number} in the study {study.study_name!r}: {have}")
    if not found.state.is_finished() or "architecture" not in found.user_attrs:
        raise SpecError(f"trial {number} of {study.study_name!r} has not been trained: repeat it when it has")
    return found


def _introduce(study: Study, origin: FrozenTrial, changes: dict[str, Any]) -> None:
    from search.summary import describe

    print(f"trial {origin.number} of {study.study_name}: {describe(origin)}")
    if changes:
        print("changed: " + ", ".join(f"{name} = {value}" for name, value in changes.items()))


def _tell(
    origin: FrozenTrial, repetition: Repetition, changes: dict[str, Any], stored: dict[str, Any]
) -> None:
    from search.repetition import difference
    from search.storage import versions

    now = repetition.attrs
    if changes:
        for name, (key, scale) in TOLD.items():
            then = origin.user_attrs.get(key)
            print(f"{name}: {_shown(then, scale)} then, {_shown(now.get(key), scale)} now")
        if origin.user_attrs.get("outcome") == "pruned":
            print(f"(then: pruned after {origin.user_attrs['epochs']} epochs; now: trained to the end)")
        return
    print(difference(origin, repetition))
    machine = origin.user_attrs.get("device"), stored.get("versions", {}).get("torch")
    here = now["device"], versions()["torch"]
    if machine != here:
        print(f"then on {machine[0]} with torch {machine[1]}, now on {here[0]} with torch {here[1]}")


def _shown(value: Any, scale: float | None) -> str:
    if value is None or scale is None:
        return "-" if value is None else str(value)
    return f"{scale * value:,.4g}" if isinstance(value, float) else f"{scale * value:,}"


if __name__ == "__main__":
    sys.exit(main())
