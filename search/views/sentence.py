"""A search in one sentence, which holds for any number of pairs, also none."""

from __future__ import annotations

from collections.abc import Sequence

from models.arms.arm import look
from search.analysis.bands import DEEPER, first_depth
from search.analysis.duels import Duel
from search.analysis.evidence import Evidence
from search.stats.paired import MIN_PAIRS, MOST_PAIRS
from search.views.words import arms_listed, capitalized, convs, listed, plural, points, span


def sentence(evidence: Evidence) -> str:
    """One clause for each rival, the news first."""
    baseline = evidence.baseline
    rivals = [arm for arm in evidence.arms if arm != baseline]
    if not evidence.arms:
        return "No pair has been trained to the end yet."
    if not rivals:
        return f"Only {look(baseline).noun}s have been trained: there is nothing to compare them with."
    if baseline not in evidence.arms:
        untried = f"No {look(baseline).noun} has been trained"
        return f"{untried}: there is nothing to compare {arms_listed(rivals)} with."
    if not any(duel.final.pairs for duel in evidence.duels):
        return "No pair has been trained to the end yet."
    clauses = [_clause([duel for duel in evidence.duels if duel.arm == arm], arm, baseline) for arm in rivals]
    clauses.sort(key=lambda clause: clause[0])
    text = "; ".join(clause for _, clause in clauses)
    return f"{capitalized(text)} (exploratory)."


def _clause(duels: Sequence[Duel], arm: str, baseline: str) -> tuple[int, str]:
    """The words on one arm, and its rank among the others': news first."""
    by_word = {
        word: [duel for duel in duels if duel.word == word]
        for word in ("beats", "loses", "equal", "undecided")
    }
    for rank, word in enumerate(("beats", "loses")):
        if by_word[word]:
            strongest = max(by_word[word], key=_strength)
            return rank, _decided(strongest, arm, baseline) + _besides(by_word, strongest)
    if by_word["equal"]:
        depths = _depths(by_word["equal"])
        return 2, f"{look(arm).label} equals {look(baseline).label} within a point at {depths}" + _besides(
            by_word, None
        )
    open_ones = [duel for duel in by_word["undecided"] if duel.band != DEEPER]
    if not open_ones:
        return 4, f"{look(arm).label}: no pair to the end"
    return 3, f"{look(arm).label}: undecided{_lacking(open_ones)}"


def _strength(duel: Duel) -> tuple[bool, float]:
    """Its place among those with the same word: by the bound that is nearer to 0; a band of its own comes
    before all deep ones together."""
    return duel.band != DEEPER, min(abs(_low(duel)), abs(_high(duel)))


def _decided(duel: Duel, arm: str, baseline: str) -> str:
    verb = "beats" if duel.word == "beats" else "loses to"
    return (
        f"at {convs(duel.band)} {look(arm).label} {verb} {look(baseline).label} by "
        f"{points(duel.final.mean, signed=False)} points "
        f"{span(*sorted((abs(_low(duel)), abs(_high(duel)))))} ({plural(duel.final.pairs, 'pair')})"
    )


def _besides(by_word: dict[str, list[Duel]], told: Duel | None) -> str:
    """The other depths with a word: none is passed over, least of all a loss."""
    parts = []
    for word, phrase in (("beats", "also at"), ("loses", "loses at"), ("equal", "equal at")):
        others = [duel for duel in by_word[word] if duel is not told and duel.band != DEEPER]
        if others and not (word == "equal" and told is None):
            same = told is not None and told.word == word
            parts.append(f"{'also at' if same else phrase} {_depths(others)}")
    return "".join(f", {part}" for part in parts)


def _depths(duels: Sequence[Duel]) -> str:
    return listed([duel.band for duel in sorted(duels, key=lambda duel: first_depth(duel.band))]) + " convs"


def _lacking(duels: Sequence[Duel]) -> str:
    """The distance of that depth from a word that is nearest to one."""
    known = [duel for duel in duels if duel.more_pairs is not None]
    total = sum(duel.final.pairs for duel in duels)
    if not known:
        return f" ({plural(total, 'pair')}; a word needs at least {MIN_PAIRS} at one depth)"
    nearest = min(known, key=lambda duel: duel.more_pairs or 0)
    needed = nearest.more_pairs or 0
    lacking = (
        f"more than {MOST_PAIRS:,} more pairs"
        if needed > MOST_PAIRS
        else f"about {plural(needed, 'more pair')}"
    )
    where = f"{plural(nearest.final.pairs, 'pair')} at {convs(nearest.band)}"
    return f" (mean {points(nearest.final.mean)} points in {where}, {lacking} needed)"


def cut_short(duels: Sequence[Duel]) -> str:
    """A line on the pairs of which a pruner stopped one: who led, which is no verdict. Empty where there are
    none."""
    parts, cut = [], 0
    for arm in dict.fromkeys(duel.arm for duel in duels):
        scores = [duel.cut_short for duel in duels if duel.arm == arm and duel.band != DEEPER]
        pairs, wins = sum(score.pairs for score in scores), sum(score.wins for score in scores)
        cut += pairs
        if pairs:
            parts.append(f"{look(arm).label} led in {wins:,} of {pairs:,}")
    if not parts:
        return ""
    return f"Not counted: {plural(cut, 'pair')} cut short by the pruner, where {listed(parts)}."


def _low(duel: Duel) -> float:
    return duel.low if duel.low is not None else 0.0


def _high(duel: Duel) -> float:
    return duel.high if duel.high is not None else 0.0
