"""What a search tells whoever runs it: `python -m benchmarks.search_quality`.

Ten default searches of 100 trials with different seeds, the former default, and stock Optuna beside them.
Writes SEARCH.md, and keeps what is written there by hand. A search takes two cores five minutes or more; one
that is on file is not run again. `--seeds N` and `--others N` say how many; `--complete N` trains the stopped
groups of so many as well, to see what selection did.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.crowd import crowds
from benchmarks.pruner_quality import by_hand
from benchmarks.searches import (
    DEEP,
    DIGITS,
    FREE,
    MATCHED,
    SOONER,
    Outcome,
    can_be_completed,
    complete,
    searches,
)
from benchmarks.table import Goal, Table, surroundings
from search.spec.study_file import find_study, load_spec

SEEDS, OTHERS = 10, 3
RIVALS = ("residual", "preact")
CHANCE = 10.0
WORDS = {"beats": 2, "leads": 1}
PAGE = Path(__file__).with_name("SEARCH.md")


def said(outcome: Outcome, arm: str, upper: bool) -> str:
    """A verdict: "beats, +36 [24, 48] of 16"."""
    duel = outcome.duel(arm, upper)
    if duel is None:
        return "no pair"
    bounds = "" if duel["low"] is None else f" [{duel['low']:.1f}, {duel['high']:.1f}]"
    gain = "" if duel["gain"] is None else f", {duel['gain']:+.1f}{bounds}"
    return f"{duel['word']}{gain} of {duel['pairs']}"


def each(searches: Sequence[Outcome]) -> Table:
    """What every default search says."""
    table = Table(
        "What each default search says",
        "Verdict, gain in points with its 95 % interval, whole pairs; below and from 23 convs on. Whole "
        "groups by stratum: 9-13, 15-21, 23-35, 37-57 convs. Best plain stack of "
        f"{DEEP} and more convs, % of validation images.",
        ("seed", "residual, 23+", "pre-act., 23+", "residual, below", "pre-act., below", "whole groups",
         "best deep plain", "epochs", "CPU s"),
    )  # fmt: skip
    for outcome in searches:
        table.add(
            str(outcome.seed),
            *(said(outcome, arm, upper) for upper in (True, False) for arm in RIVALS),
            f"{sum(outcome.whole.values())}: {', '.join(map(str, outcome.whole.values()))}",
            _number(outcome.best_deep_plain, 1), str(outcome.epochs), _number(outcome.cpu_seconds, 0),
        )  # fmt: skip
    table.notes += [f"Seed {outcome.seed}: {outcome.sentence}" for outcome in searches]
    return table


def together(by_kind: dict[str, list[Outcome]]) -> Table:
    """The designs beside each other."""
    table = Table(
        "Default, former default",
        'Searches that say "beats" of an arm at 23 and more convs (21 of the former default); that say '
        '"loses" or "trails" at any depth; means ± sd.',
        ("", *by_kind),
    )
    rows: dict[str, Callable[[list[Outcome]], str]] = {
        "searches": lambda group: str(len(group)),
        "residual beats plain when deep": lambda group: _of(right(group, "residual")),
        "pre-activation does": lambda group: _of(right(group, "preact")),
        "both do": lambda group: _of(both(group)),
        "a rival loses or trails": lambda group: _of(
            [any(d["word"] in ("loses", "trails") for d in one.duels) for one in group]
        ),
        '"beats" below, of both rivals': lambda group: _of(below(group, "beats")),
        '"leads" below, of both rivals': lambda group: _of(below(group, "leads")),
        "whole groups": lambda group: _spread([sum(one.whole.values()) for one in group]),
        "whole groups, least stratum": lambda group: _spread([min(one.whole.values()) for one in group]),
        f"best plain of {DEEP}+ convs, %": lambda group: _spread(
            [one.best_deep_plain or CHANCE for one in group]
        ),
        f"plain runs of {DEEP}+ convs to the end": lambda group: _spread(
            [one.to_the_end.get("plain", 0) for one in group]
        ),
        "epochs": lambda group: _spread([one.epochs for one in group]),
        "seconds of training": lambda group: _spread([one.seconds for one in group]),
        "CPU seconds": lambda group: _spread([one.cpu_seconds for one in group if one.cpu_seconds]),
    }
    for name, row in rows.items():
        table.add(name, *(row(group) for group in by_kind.values()))
    return table


def after(by_kind: dict[str, list[Outcome]]) -> Table:
    """How many trials it takes."""
    table = Table(
        "After fewer trials",
        'Searches that say "beats", or else "leads", of both rivals at the upper depths when so many trials '
        "have ended; mean seconds of training until then.",
        ("trials", *(f"{kind}: {what}" for kind in by_kind for what in ("beats", "leads", "seconds"))),
    )
    for count in map(str, SOONER):
        cells = []
        for group in by_kind.values():
            known = [one.sooner[count] for one in group if count in one.sooner]
            ranks = [[WORDS.get(then.get(arm, "no pair"), 0) for arm in RIVALS] for then in known]
            cells += [
                _of([min(found) == 2 for found in ranks]),
                _of([min(found) == 1 for found in ranks]),
                _number(statistics.fmean(then["seconds"] for then in known) if known else None, 0),
            ]
        table.add(count, *cells)
    return table


def selected(searches: Sequence[Outcome]) -> Table:
    """What selection by the lead does to the estimates."""
    table = Table(
        "Whole groups and all groups",
        "The groups that leads had stopped were trained to their ends after all. Gain in points over whole "
        "groups, which is what a search says, and over all groups, with their numbers.",
        ("seed", "arm", "depths", "whole groups", "all groups", "difference"),
    )
    for outcome in searches:
        for row in outcome.selection:
            apart = None if None in (row["whole"], row["every"]) else row["whole"] - row["every"]
            table.add(
                str(outcome.seed), row["arm"], "upper" if row["upper"] else "lower",
                f"{_signed(row['whole'])} of {row['groups']}", f"{_signed(row['every'])} of {row['of']}",
                _signed(apart),
            )  # fmt: skip
    return table


def stock(searches: Sequence[Outcome]) -> Table:
    """What stock Optuna shows of the same question."""
    table = Table(
        "Stock Optuna beside it",
        "The block as one parameter among others, TPE, MedianPruner, 100 trials. Trials of each arm, runs of "
        f"{DEEP} and more convs to the end, the best of each arm in %, the five most important parameters by "
        "fANOVA: all that its dashboard has to say on the arms.",
        ("seed", "trials", "deep runs to the end", "best", "importances"),
    )
    for outcome in searches:
        table.add(
            str(outcome.seed), _list(outcome.trials, "{:.0f}"), _list(outcome.to_the_end, "{:.0f}") or "none",
            _list(outcome.best, "{:.1f}"), _list(outcome.importances, "{:.2f}"),
        )  # fmt: skip
    return table


def goals(ours: Sequence[Outcome], before: Sequence[Outcome]) -> list[Goal]:
    """What was wanted, and what came of it."""
    told = both(ours)
    whole, least = [sum(one.whole.values()) for one in ours], [min(one.whole.values()) for one in ours]
    found = [
        Goal("right words of both rivals when deep in 95 % of searches", _of(told), all(told)),
        Goal("20 whole groups at least", f"{min(whole)} to {max(whole)}", min(whole) >= 20),
        Goal("5 of them in every stratum", f"{min(least)} to {max(least)}", min(least) >= 5),
    ]
    price, former = ([one.cpu_seconds for one in group if one.cpu_seconds] for group in (ours, before))
    if price and former:
        ratio = statistics.fmean(price) / statistics.fmean(former)
        found.append(
            Goal("1.3 times the former default's CPU seconds at most", f"{ratio:.2f} times", ratio <= 1.3)
        )
    return found


def right(group: Sequence[Outcome], arm: str) -> list[bool]:
    """Whether each search says what confirmations with fresh seeds said: deep plain stacks are beaten."""
    return [_word(outcome, arm, True) == "beats" for outcome in group]


def both(group: Sequence[Outcome]) -> list[bool]:
    """Whether each is right of all rivals."""
    return [all(flags) for flags in zip(*(right(group, arm) for arm in RIVALS), strict=True)]


def below(group: Sequence[Outcome], word: str) -> list[bool]:
    """Whether each search says a word at the lower depths, of every rival."""
    return [_word(outcome, arm, False) == word for outcome in group for arm in RIVALS]


def _word(outcome: Outcome, arm: str, upper: bool) -> str:
    duel = outcome.duel(arm, upper)
    return duel["word"] if duel else "no pair"


def _of(flags: Sequence[bool]) -> str:
    return f"{sum(flags)} of {len(flags)}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _number(values[0] if values else None, 1)
    return f"{statistics.fmean(values):,.1f} ± {statistics.stdev(values):,.1f}"


def _list(values: dict[str, int] | dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="default searches (10)")
    parser.add_argument(
        "--others", type=int, default=OTHERS, help="of the former default and of stock Optuna (3)"
    )
    parser.add_argument(
        "--complete", type=int, default=0, help="default searches whose stopped groups are trained"
    )
    options = parser.parse_args()
    ours = searches(DIGITS, options.seeds)
    wanted = [one for one in ours if can_be_completed(one)][: options.complete]
    ours = [complete(one) if one in wanted else one for one in ours]
    before, free = searches(MATCHED, options.others), searches(FREE, options.others)
    named = {"stratified": ours, "matched, Hyperband": before}
    tables = [
        together(named),
        after(named),
        each(ours),
        selected(ours),
        stock(free),
        crowds(load_spec(find_study("digits"))),
    ]
    aims = goals(ours, before)
    lines = [f"- {goal.goal}: {goal.measured}{'' if goal.met else ' (missed)'}" for goal in aims]
    head = f"# What a search tells\n\n`python -m benchmarks.search_quality`, {surroundings()}"
    text = "\n\n".join(
        [head, by_hand(PAGE) + "\n".join(lines), "\n".join(table.markdown() for table in tables)]
    )
    print(text)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
