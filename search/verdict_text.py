"""Verdicts in a sentence, and as tables of text for a terminal, a note, a page and a figure alike."""

from __future__ import annotations

from collections.abc import Sequence

from search.grids import CAUSES, Grid, many
from search.plan import Choice, Plan
from search.sentence import NAMES, listed, points, span
from search.statistics import Comparison
from search.verdicts import OWN, Verdicts, Versus

RECIPES = {OWN: "own", "plain": "plain's", "residual": "residual's", "preact": "pre-act.'s"}


def confirmed(verdicts: Verdicts) -> str:
    """One clause for each arm, on pairs of which each arm had its own best recipe."""
    if not any(versus.result for versus in verdicts.versus):
        return "Nothing is confirmed yet: no pair has ended."
    rivals = list(dict.fromkeys(versus.arm for versus in verdicts.versus))
    clauses = [_clause([v for v in verdicts.versus if (v.arm, v.recipe) == (arm, OWN)]) for arm in rivals]
    text = "; ".join(f"{NAMES[arm]} {clause}" for arm, clause in zip(rivals, clauses, strict=True))
    seeds = ", then ".join(map(str, verdicts.seeds)) + " seed" + "s" * (verdicts.seeds[-1] != 1)
    state = (
        "Confirmed" if verdicts.complete else f"So far, {verdicts.finished:,} of {verdicts.planned:,} runs"
    )
    more = " after looking" if len(verdicts.seeds) > 1 else ""
    return f"{state} (test images, {seeds}{more}): {text}."


def _clause(versus: Sequence[Versus]) -> str:
    by_word: dict[str, list[Versus]] = {"beats": [], "loses": [], "equal": [], "undecided": []}
    for one in versus:
        by_word[one.result.word if one.result else "undecided"].append(one)
    parts = []
    for word, verb in (("beats", "beats plain by"), ("loses", "loses to plain by")):
        amounts = [
            f"{points(v.result.mean, signed=False)}{' points' * (i == 0)} {_bare(v.result)} at {v.depth}"
            for i, v in enumerate(by_word[word])
            if v.result
        ]
        if amounts:
            parts.append(f"{verb} {listed(amounts)} convs")
    for word, verb in (("equal", "equals plain at"), ("undecided", "is undecided at")):
        if by_word[word]:
            parts.append(f"{verb} {listed([str(v.depth) for v in by_word[word]])} convs")
    return ", ".join(parts)


def _bare(result: Comparison) -> str:
    """The interval of an amount whose direction the verb tells."""
    low, high = sorted((abs(result.interval.low), abs(result.interval.high)))
    return span(low, high)


def verdict_grid(verdicts: Verdicts, own_only: bool = False) -> Grid:
    """Who beats plain at which depth: each arm under its own best recipe, then twins under one, where that is
    not the same pairs again."""
    rows, own = [], {(v.arm, v.depth): _sample(v.result) for v in verdicts.versus if v.recipe == OWN}
    for versus in sorted(verdicts.versus, key=lambda versus: versus.recipe != OWN):
        result = versus.result
        if versus.recipe != OWN and (own_only or _sample(result) == own[versus.arm, versus.depth]):
            continue
        head = (NAMES[versus.arm], RECIPES[versus.recipe], str(versus.depth))
        if result is None:
            rows.append((*head, "no pair", *["-"] * 4, f"0 of {versus.planned}"))
            continue
        more = f" {many(result.more_pairs)}" if result.word == "undecided" and result.more_pairs else ""
        short = f", {result.pairs} of {versus.planned}" if result.pairs < versus.planned else ""
        rows.append(
            (
                *head,
                result.word + more,
                points(result.mean),
                span(*result.interval) if result.pairs > 1 else "-",
                small(result.holm_p),
                f"{result.superiority.probability:.2f}",
                f"{result.wins}/{result.ties}/{result.losses}{short}",
            )
        )
    columns = (
        "arm", "best recipe", "convs", "verdict, seeds lacking", "mean", "95 % interval", "p, Holm",
        "P(better)", "win/tie/loss",
    )  # fmt: skip
    title = f"Test accuracy against plain, points, margin {verdicts.margin:g}: means of fresh seeds"
    return Grid(title, columns, tuple(rows), words=4)


def small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _sample(result: Comparison | None) -> tuple[float, ...] | None:
    return None if result is None else (result.pairs, result.mean, *result.interval)


def standing_grid(verdicts: Verdicts) -> Grid:
    """From the score that a recipe was chosen by to the one that counts."""
    rows = tuple(
        (
            NAMES[s.arm],
            str(s.depth),
            f"#{s.search_trial}, {s.search_depth} convs",
            _accuracy(s.selected_val),
            _accuracy(s.val),
            _accuracy(s.test) + ("" if s.test_sd is None else f" ± {s.test_sd:.1f}"),
            _accuracy(s.train),
            f"{s.failed} of {s.runs}" + ("" if s.fisher_p in (None, 1) else f", p {small(s.fisher_p)}"),
            "-" if s.grad_ratio is None else points(s.grad_ratio),
            "-" if s.feature_cosine is None else f"{s.feature_cosine:.2f}",
            ", ".join(f"{s.causes[cause]} {cause}" for cause in CAUSES if s.causes.get(cause)) or "-",
        )
        for s in verdicts.standings
    )
    columns = (
        "arm", "convs", "recipe of", "val, that trial", "val, retrained", "test ± sd", "train",
        "did not train", "log10 grad ratio", "cosine", "ended",
    )  # fmt: skip
    return Grid(
        "From the trial that gave a recipe to test, each arm under its own, %", columns, rows, words=1
    )


def contrast_grid(verdicts: Verdicts) -> Grid:
    """Does depth hurt, and whom."""
    rows = []
    for contrast in verdicts.contrasts:
        result = contrast.result
        measure = "training accuracy" if contrast.name == "degradation" else "test accuracy kept beyond plain"
        rows.append(
            (
                NAMES[contrast.arm],
                f"{contrast.name}: {measure}",
                f"{contrast.shallow} → {contrast.deep}",
                *(
                    ("-", "-", "-", "0")
                    if result is None
                    else (
                        points(result.mean),
                        span(*result.interval) if result.pairs > 1 else "-",
                        small(result.p),
                        str(result.pairs),
                    )
                ),
            )
        )
    columns = ("arm", "hypothesis", "convs", "mean, points", "95 % interval", "p", "pairs")
    return Grid("Depth: the deepest against the shallower, seed by seed", columns, tuple(rows), words=3)


def spent(verdicts: Verdicts) -> str:
    lost = f", {verdicts.without_score} of them without a score" if verdicts.without_score else ""
    return (
        f"{verdicts.finished:,} of {verdicts.planned:,} runs{lost}, {verdicts.seconds:,.0f} s of training; "
        f"test images were looked at {verdicts.test_reads:,} times."
    )


def _accuracy(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def tables(verdicts: Verdicts) -> list[Grid]:
    """In the order in which they are to be read."""
    grids = (verdict_grid(verdicts), standing_grid(verdicts), contrast_grid(verdicts))
    return [grid for grid in grids if grid.rows]


def plan_grid(plan: Plan) -> Grid:
    """What will be trained, and where the recipes come from."""
    rows = tuple(
        (str(depth), *(_origin(plan.choice(arm, depth)) for arm in plan.arms)) for depth in plan.depths
    )
    title = f"Recipes of {plan.search}, by validation accuracy among {plan.trials:,} trials"
    return Grid(title, ("convs", *(NAMES[arm] for arm in plan.arms)), rows)


def _origin(choice: Choice | None) -> str:
    if choice is None:
        return "none"
    accuracy = f"{100 * choice.val_accuracy:.1f} %, best of {choice.candidates}"
    return f"#{choice.trial}, {choice.trial_depth} convs, {accuracy}"
