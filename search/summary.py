"""The end of a search in a terminal: arms by depth, pairs, the best of each arm, what was spent."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from optuna.trial import FrozenTrial
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.architecture import Architecture
from search.scores import (
    BANDS,
    TIE,
    arms_of,
    best_of,
    depth_band,
    final_score,
    groups_of,
    outcome_counts,
    percent,
    ran_to_the_end,
)


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
