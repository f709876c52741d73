"""Verdicts in a sentence, and as tables of text for a terminal, a note, a page and a figure alike."""

from __future__ import annotations

from collections.abc import Sequence

from models.arms.arm import look
from search.analysis.verdicts import OWN, Verdicts, Versus
from search.design.plan import Choice, Plan
from search.stats.paired import Comparison
from search.views.tables import CAUSES, STAGES, VERDICT, TextTable, account_table
from search.views.words import accuracy, figure_text, listed, many, plural, points, small, span


def confirmed(verdicts: Verdicts) -> str:
    """One clause for each arm, on pairs of which each arm had its own best recipe; "Confirmed" where any is
    decided."""
    if not any(versus.result for versus in verdicts.versus):
        return "Nothing is confirmed yet: no pair has ended."
    rivals = list(dict.fromkeys(versus.arm for versus in verdicts.versus))
    clauses = [
        _clause(
            [v for v in verdicts.versus if (v.arm, v.recipe) == (arm, OWN)], look(verdicts.baseline).label
        )
        for arm in rivals
    ]
    text = "; ".join(f"{look(arm).label} {clause}" for arm, clause in zip(rivals, clauses, strict=True))
    *first, last = verdicts.seeds
    seeds = ", then ".join([*map(str, first), plural(last, "seed")])
    state = "Confirmed" if verdicts.decided else "Nothing is confirmed"
    if not verdicts.complete:
        state = f"So far, {verdicts.finished:,} of {verdicts.planned:,} runs"
    more = " after looking" if len(verdicts.seeds) > 1 else ""
    return f"{state} (test images, {seeds}{more}): {text}."


def _clause(versus: Sequence[Versus], baseline: str) -> str:
    by_word: dict[str, list[Versus]] = {"beats": [], "loses": [], "equal": [], "undecided": []}
    for one in versus:
        by_word[one.result.word if one.result else "undecided"].append(one)
    parts = []
    for word, verb in (("beats", f"beats {baseline}"), ("loses", f"loses to {baseline}")):
        amounts = []
        for i, v in enumerate(by_word[word]):
            assert v.result is not None, "it has a word"
            convs, unit = (" convs", " points") if i == 0 else ("", "")
            by = f"{points(v.result.mean, signed=False)}{unit} {_bare(v.result)}"
            amounts.append(f"at {v.depth}{convs} by {by}")
        if amounts:
            parts.append(f"{verb} {listed(amounts)}")
    for word, verb in (("equal", f"equals {baseline} at"), ("undecided", "is undecided at")):
        if by_word[word]:
            parts.append(f"{verb} {listed([str(v.depth) for v in by_word[word]])} convs")
    return ", ".join(parts)


def _bare(result: Comparison) -> str:
    """The interval of an amount whose direction the verb tells."""
    low, high = sorted((abs(result.interval.low), abs(result.interval.high)))
    return span(low, high)


def verdict_table(verdicts: Verdicts) -> TextTable:
    """Rivals against the baseline at each depth, each arm under its own best recipe."""
    name = look(verdicts.baseline).label
    title = f"Against {name} on test images, mean points of fresh seeds; within {verdicts.margin:g} is equal"
    return _versus_table(title, [versus for versus in verdicts.versus if versus.recipe == OWN])


def twin_table(verdicts: Verdicts) -> TextTable:
    """Twins under one recipe, where that is not the same pairs again: equal weights, only the block
    differs."""
    own = {(v.arm, v.depth): _sample(v.result) for v in verdicts.versus if v.recipe == OWN}
    twins = [v for v in verdicts.versus if v.recipe != OWN and _sample(v.result) != own[v.arm, v.depth]]
    name = look(verdicts.baseline).label
    return _versus_table(f"The same under one recipe for both: twins of {name}, points", twins)


def _versus_table(title: str, found: Sequence[Versus]) -> TextTable:
    rows = []
    for versus in found:
        result = versus.result
        head = (look(versus.arm).label, _recipe(versus.recipe), str(versus.depth))
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
    verdict = VERDICT + " (~ more seeds)" * any("undecided " in row[3] for row in rows)
    columns = (
        "arm", "best recipe", "convs", verdict, "mean", "95 % interval", "p, Holm",
        "P(better)", "win/tie/loss",
    )  # fmt: skip
    brief = ("arm", "convs", verdict, "mean", "95 % interval", "win/tie/loss")
    return TextTable(title, columns, tuple(rows), words=4, brief=brief, keys=3)


def champion_table(verdicts: Verdicts) -> TextTable:
    """The architectures that beat the baseline's best at their depth, the deep ones first."""
    standings = {(standing.arm, standing.depth): standing for standing in verdicts.standings}
    rows = []
    for versus in sorted(verdicts.versus, key=lambda versus: -versus.depth):
        if versus.recipe != OWN or versus.result is None or versus.result.word != "beats":
            continue
        ours = standings[versus.arm, versus.depth]
        theirs = standings[verdicts.baseline, versus.depth]
        rows.append(
            (
                look(ours.arm).label,
                str(ours.depth),
                ours.outline or "-",
                accuracy(ours.test),
                points(versus.result.mean),
                span(*versus.result.interval),
                accuracy(theirs.test),
                figure_text(ours.params),
                figure_text(ours.macs),
                f"#{ours.search_trial}",
            )
        )
    name = look(verdicts.baseline).label
    columns = (
        "arm", "convs", STAGES, "test, %", "points ahead", "95 % interval", f"{name}'s test, %", "parameters",
        "MACs", "recipe of",
    )  # fmt: skip
    brief = ("arm", "convs", STAGES, "test, %", "points ahead", "95 % interval")
    best = f"the best {look(verdicts.baseline).noun} of their depth"
    title = f"Architectures that beat {best} (confirmed)"
    return TextTable(title, columns, tuple(rows), words=3, brief=brief, keys=2)


def _recipe(recipe: str) -> str:
    """A recipe by whose best it is."""
    return OWN if recipe == OWN else f"{look(recipe).brief}'s"


def _sample(result: Comparison | None) -> tuple[float, ...] | None:
    return None if result is None else (result.pairs, result.mean, *result.interval)


def standing_table(verdicts: Verdicts) -> TextTable:
    """The scores of each recipe, from when it was chosen to the test images."""
    rows = tuple(
        (
            look(s.arm).label,
            str(s.depth),
            f"#{s.search_trial}, {s.search_depth} convs",
            accuracy(s.selected_val),
            accuracy(s.val),
            accuracy(s.test) + ("" if s.test_sd is None else f" ± {s.test_sd:.1f}"),
            accuracy(s.train),
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
    return TextTable(
        "From the trial that gave a recipe to test, each arm under its own, %", columns, rows, keys=2
    )


def contrast_table(verdicts: Verdicts) -> TextTable:
    """The hypotheses over depths: does depth hurt, and whom."""
    rows = []
    for contrast in verdicts.contrasts:
        result = contrast.result
        beyond = f"test accuracy kept beyond {look(verdicts.baseline).label}"
        measure = "training accuracy" if contrast.name == "degradation" else beyond
        rows.append(
            (
                look(contrast.arm).label,
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
    return TextTable("Depth: the deepest against the shallower, seed by seed", columns, tuple(rows), words=3)


def spent(verdicts: Verdicts) -> str:
    """The price of the confirmation, in a line."""
    lost = f", {verdicts.without_score} of them without a score" if verdicts.without_score else ""
    return (
        f"{verdicts.finished:,} of {verdicts.planned:,} runs{lost}, {verdicts.seconds:,.0f} s of training; "
        f"test images were looked at {verdicts.test_reads:,} times."
    )


def fairness_table(verdicts: Verdicts) -> TextTable:
    """Trials, epochs and prices that each arm was given."""
    return account_table(verdicts.ledger, verdicts.unequal, ", runs under their own best recipe alone")


def plan_table(plan: Plan) -> TextTable:
    """The plan as a table: what will be trained, and where the recipes come from."""
    rows = tuple(
        (str(depth), *(_origin(plan.choice(arm, depth)) for arm in plan.arms)) for depth in plan.depths
    )
    title = f"Recipes of {plan.search}, by validation accuracy among {plan.trials:,} trials"
    return TextTable(title, ("convs", *(look(arm).label for arm in plan.arms)), rows)


def _origin(choice: Choice | None) -> str:
    if choice is None:
        return "none"
    accuracy = f"{100 * choice.val_accuracy:.1f} %, best of {choice.candidates}"
    return f"#{choice.trial}, {choice.trial_depth} convs, {accuracy}"
