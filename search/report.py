"""What a study says, in a terminal, as JSON or as a page: `python -m search.report`. Reads trials only."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.architecture import BLOCKS, Architecture
from search.errors import SearchError, SpecError

BANDS = (8, 14, 20, 32, 44, 56, 110)
"""Upper ends of the depth bands, in convs."""
TIE = 0.01
"""Accuracies closer than one point are a tie: seeds alone move a trained digits net by 0.75 points."""


def depth_band(depth: int) -> str:
    low = 1
    for high in BANDS:
        if depth <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"{low}+"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def ran_to_the_end(trial: FrozenTrial) -> bool:
    """Complete and diverged trials have a final score; a pruned one has only where it was stopped."""
    return trial.state == TrialState.COMPLETE


def final_score(trial: FrozenTrial) -> float:
    assert trial.value is not None, "of a trial that ran to the end"
    return trial.value


def arms_of(trials: Sequence[FrozenTrial]) -> list[str]:
    present = {trial.user_attrs.get("arm") for trial in trials}
    return [arm for arm in BLOCKS if arm in present]


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    scored = [trial for trial in trials if ran_to_the_end(trial)]
    return max(scored, key=lambda trial: (final_score(trial), -trial.number)) if scored else None


def arm_table(trials: Sequence[FrozenTrial]) -> Table:
    """Arm by depth band, final scores only; pruned trials are counted, never scored."""
    table = Table(title="Accuracy by arm and depth, % (exploratory)")
    for name in ("arm", "convs"):
        table.add_column(name)
    for name in ("trials", "to the end", "best val", "median val", "median train"):
        table.add_column(name, justify="right")
    for arm in arms_of(trials):
        bands: dict[int, list[FrozenTrial]] = defaultdict(list)
        for trial in trials:
            if trial.user_attrs.get("arm") == arm and trial.state.is_finished():  # so it has a depth
                depth = trial.user_attrs["depth"]
                bands[next((i for i, high in enumerate(BANDS) if depth <= high), len(BANDS))].append(trial)
        for i, (_, members) in enumerate(sorted(bands.items())):
            ends = [trial for trial in members if ran_to_the_end(trial)]
            val = [final_score(trial) for trial in ends]
            train = [trial.user_attrs["train_accuracy"] for trial in ends]
            table.add_row(
                arm if i == 0 else "",
                depth_band(members[0].user_attrs["depth"]),
                str(len(members)),
                str(len(ends)),
                percent(max(val, default=None)),
                percent(statistics.median(val) if val else None),
                percent(statistics.median(train) if train else None),
            )
        table.add_section()
    return table


def groups_of(trials: Sequence[FrozenTrial]) -> list[dict[str, FrozenTrial]]:
    """The trials of each draw by arm, in order of their groups."""
    groups: dict[int, dict[str, FrozenTrial]] = defaultdict(dict)
    for trial in trials:
        if "group" in trial.user_attrs:
            groups[trial.user_attrs["group"]][trial.user_attrs["arm"]] = trial
    return [groups[number] for number in sorted(groups)]


def pair_table(trials: Sequence[FrozenTrial]) -> Table | None:
    """Differences within groups: same draw, same seed, only the block differs. None without plain pairs."""
    rivals = [arm for arm in arms_of(trials) if arm != "plain"]
    groups = [group for group in groups_of(trials) if "plain" in group]
    if not rivals or not groups:
        return None
    table = Table(title="Against plain, pairs within groups (exploratory)")
    for name in ("arm", "pairs", "wins", "ties", "losses", "median difference, points", "cut short"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in rivals:
        pairs = [(group[arm], group["plain"]) for group in groups if arm in group]
        pairs = [pair for pair in pairs if all(trial.state.is_finished() for trial in pair)]
        ends = [pair for pair in pairs if all(ran_to_the_end(trial) for trial in pair)]
        gains = [final_score(ours) - final_score(plain) for ours, plain in ends]
        table.add_row(
            arm,
            str(len(ends)),
            str(sum(gain >= TIE for gain in gains)),
            str(sum(abs(gain) < TIE for gain in gains)),
            str(sum(gain <= -TIE for gain in gains)),
            f"{100 * statistics.median(gains):+.1f}" if gains else "-",
            str(len(pairs) - len(ends)),
        )
    return table


def outcome_counts(trials: Sequence[FrozenTrial]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for trial in trials:
        if trial.state.is_finished():
            counts[trial.user_attrs.get("outcome", trial.state.name.lower())] += 1
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none"


def describe(trial: FrozenTrial) -> str:
    """One trial's recipe in a line."""
    recipe = Architecture.from_json(trial.user_attrs["architecture"])
    optimizer = trial.params.get("optimizer")
    rate = trial.params.get(f"lr_{optimizer}") if optimizer else None
    return f"{recipe}" + (f", {optimizer} lr {rate:.2g}" if rate else "")


def summary(trials: Sequence[FrozenTrial]) -> RenderableType:
    """The end of a search: arms by depth, pairs, the best of each arm, what was spent."""
    arms = arm_table(trials)
    tables = [table for table in (arms, pair_table(trials)) if table is not None and arms.row_count]
    parts: list[RenderableType] = [*tables]
    if tables:
        parts.append(
            Text("Exploratory: a search chooses and prunes its trials, and the best of many is lucky.")
        )
    overall = best_of(trials)
    for arm in arms_of(trials):
        best = best_of([trial for trial in trials if trial.user_attrs.get("arm") == arm])
        if best is not None:
            mark = " (best of all)" if best is overall else ""
            parts.append(
                Text(f"Best {arm}: trial {best.number}, {percent(best.value)} %{mark}: {describe(best)}")
            )
    seconds = sum(trial.user_attrs.get("train_seconds", 0) for trial in trials)
    epochs = sum(trial.user_attrs.get("epochs", 0) for trial in trials)
    done = sum(trial.state.is_finished() for trial in trials)
    parts.append(
        Text(
            f"Spent: {done} trials ({outcome_counts(trials)}), {epochs} epochs, {seconds:.0f} s of training."
        )
    )
    return Group(*parts)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search.report",
        description="Say which arms beat plain stacks, at what depth and by how much. Changes nothing.",
        epilog="exit codes: 0 done, 2 no such study or bad option, 75 database out of reach",
    )
    parser.add_argument("--study", default="digits", help="a name in studies/ or a .toml file (%(default)s)")
    parser.add_argument("--storage", metavar="URL", help="else $OPTUNA_STORAGE, else studies/search.db")
    parser.add_argument("--name", help="of the study in the database (the study file's)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs no network")
    parser.add_argument("--json", action="store_true", help="print the evidence as JSON and nothing else")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        report(options, Console() if sys.stdout.isatty() else Console(width=140))
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def report(options: argparse.Namespace, console: Console) -> None:
    # late: these read the bands and scores above
    from search.evidence import gather
    from search.grids import beat_grid, cause_grid, failure_grid, ledger_grid
    from search.storage import storage_url, watch

    name = options.name or Path(options.study).stem
    url = storage_url(options.storage)
    trials = _trials(watch(url, writes=False), name)
    evidence = gather(trials)
    if options.html:
        from search.page import page

        try:
            options.html.write_text(page(name, evidence, trials), encoding="utf-8")
        except OSError as error:
            raise SpecError(f"--html {options.html} cannot be written: {error.strerror}") from None
    if options.json:
        print(evidence.to_json())
        return
    console.print(summary(trials))
    for grid in (beat_grid(evidence), cause_grid(evidence), failure_grid(evidence), ledger_grid(evidence)):
        if grid.rows:
            table = Table(title=grid.title)
            for i, column in enumerate(grid.columns):
                table.add_column(column, justify="left" if i < grid.words else "right")
            for row in grid.rows:
                table.add_row(*row)
            console.print(table)
    console.print(Text(evidence.sentence, style="bold"))


def _trials(storage: BaseStorage, name: str) -> list[FrozenTrial]:
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        names = ", ".join(sorted(study.study_name for study in storage.get_all_studies())) or "none"
        raise SpecError(
            f"no study {name!r} in the database, which has: {names}; choose with --name"
        ) from None
    return storage.get_all_trials(study_id, deepcopy=False)


if __name__ == "__main__":
    sys.exit(main())
