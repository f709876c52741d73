"""Train a stored trial again, as it was or with one thing changed: `python -m search.repeat TRIAL`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.cli.commands import run_command
from search.cli.options import add_device_option, add_study_options, parser_of, seed, whole
from search.errors import SpecError

if TYPE_CHECKING:
    from optuna.study import Study

    from search.storage.trial_record import TrialRecord

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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from models.arms.arm import ARMS

    description = "Train a stored trial again to the end, as it was or with one thing changed."
    parser = parser_of("repeat", description, EXAMPLES)
    parser.add_argument("trial", type=whole(0, 10**9), metavar="TRIAL", help="its number in the study")
    add_study_options(parser, "of the trial's study in the database")
    parser.add_argument("--block", choices=tuple(ARMS))
    parser.add_argument("--depth", metavar="CONVS", help="20; or +6, -4: from the trial's own")
    parser.add_argument("--seed", type=seed, metavar="N", help="seed of weights and batch order")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a value of its recipe or of [train]"
    )
    add_device_option(parser)
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(run, parse, argv)


def run(options: argparse.Namespace) -> int:
    from search.spec.study_file import DEFAULT_STUDY
    from search.storage.connections import watch
    from search.storage.studies import check_same, find, repeats_name, spec_of
    from search.storage.study_record import record_of_study
    from search.storage.urls import storage_url

    url = storage_url(options.storage)
    study = find(watch(url, writes=False), options.name or Path(options.study or DEFAULT_STUDY).stem)
    name, stored = study.study_name, record_of_study(study)
    spec = spec_of(options.study, options.name, stored)
    origin = _trial(study, options.trial)

    from search.cli.repeat_screen import EpochLines, introduce, tell_result
    from search.data.datasets import read
    from search.design.variations import Change, assignments, changed
    from search.devices.slots import slots_for
    from search.trials.repetition import keep, recipe_of, repeat

    images = read(spec.data)
    fingerprint = images.split(spec.data).fingerprint()
    check_same(name, stored, spec, fingerprint)
    change = Change(
        block=options.block, depth=options.depth, seed=options.seed, settings=assignments(options.set)
    )
    recipe, changes = changed(recipe_of(origin, spec), spec.space, change)
    split = spec.data.seed if origin.data_seed is None else origin.data_seed
    parts = images.split(replace(spec.data, seed=split))
    device = slots_for("1", options.device)[0].device
    introduce(name, origin, changes)
    listeners = [] if options.quiet else [EpochLines(origin, recipe.train.epochs)]
    repetition = repeat(recipe, spec, parts, device, listeners)
    tell_result(origin, repetition, changes, stored)
    kept = keep(url, name, origin, spec, fingerprint, repetition, changes)
    print(f"kept as trial {kept.number} of the study {repeats_name(name)}")
    return 0


def _trial(study: Study, number: int) -> TrialRecord:
    from search.storage.trial_record import records_of

    trials = records_of(study)
    found = next((trial for trial in trials if trial.number == number), None)
    if found is None:
        have = f"it has 0 to {len(trials) - 1}" if trials else "it has none"
        raise SpecError(f"no trial {number} in the study {study.study_name!r}: {have}")
    if not found.is_finished or not found.architecture_json:
        raise SpecError(f"trial {number} of {study.study_name!r} has not been trained: repeat it when it has")
    return found


if __name__ == "__main__":
    sys.exit(main())
