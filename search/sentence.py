"""What a search found, in one sentence that holds for any number of pairs, also none."""

from __future__ import annotations

from collections.abc import Sequence

from search.duels import DEEPER, Duel, first_depth
from search.statistics import MANY, MIN_PAIRS

NAMES = {"plain": "plain", "residual": "residual", "preact": "pre-activation"}
"""Of the arms, as a person reads them."""


def points(value: float | None, signed: bool = True) -> str:
    """Whole from ten points on, else tenths."""
    if value is None:
        return "-"
    text = f"{value:+.0f}" if abs(value) >= 9.95 else f"{value:+.1f}"
    text = text.replace("-0.0", "0.0").replace("+0.0", "0.0")
    return (text if signed else text.lstrip("+-")).replace("-", "−")


def span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{points(low)}, {points(high)}]".replace("+", "")


def convs(band: str) -> str:
    return f"{band.rstrip('+')} or more convs" if band.endswith("+") else f"{band} convs"


def sentence(arms: Sequence[str], duels: Sequence[Duel]) -> str:
    """`arms`: those with finished trials."""
    rivals = [arm for arm in arms if arm != "plain"]
    if not arms:
        return "No pair has been trained to the end yet."
    if not rivals:
        return "Only plain stacks have been trained: there is nothing to compare them with."
    if "plain" not in arms:
        return f"No plain stack has been trained: there is nothing to compare {listed(rivals)} with."
    if not any(duel.final.pairs for duel in duels):
        return "No pair has been trained to the end yet."
    clauses = [_clause([duel for duel in duels if duel.arm == arm], NAMES[arm]) for arm in rivals]
    clauses.sort(key=lambda clause: clause[0])
    text = "; ".join(clause for _, clause in clauses)
    return f"{text[0].upper()}{text[1:]} (exploratory)."


def _clause(duels: Sequence[Duel], name: str) -> tuple[int, str]:
    """What there is to say of one arm, and its rank among the others': news first."""
    by_word = {
        word: [d for d in duels if d.word == word] for word in ("beats", "loses", "equal", "undecided")
    }
    for rank, word in enumerate(("beats", "loses")):
        if by_word[word]:
            strongest = max(by_word[word], key=lambda d: (d.band != DEEPER, min(abs(_low(d)), abs(_high(d)))))
            return rank, _decided(strongest, name) + _besides(by_word, strongest)
    if by_word["equal"]:
        return 2, f"{name} equals plain within a point at {_depths(by_word['equal'])}" + _besides(
            by_word, None
        )
    open_ones = [d for d in by_word["undecided"] if d.band != DEEPER]
    if not open_ones:
        return 4, f"{name}: no pair to the end"
    return 3, f"{name}: undecided{_lacking(open_ones)}"


def _decided(duel: Duel, name: str) -> str:
    verb = "beats" if duel.word == "beats" else "loses to"
    return (
        f"at {convs(duel.band)} {name} {verb} plain by {points(duel.final.mean, signed=False)} points "
        f"{span(*sorted((abs(_low(duel)), abs(_high(duel)))))} ({_pairs(duel.final.pairs)})"
    )


def _besides(by_word: dict[str, list[Duel]], told: Duel | None) -> str:
    """The other depths with a word: none is passed over, least of all a loss."""
    parts = []
    for word, phrase in (("beats", "also at"), ("loses", "loses at"), ("equal", "equal at")):
        others = [d for d in by_word[word] if d is not told and d.band != DEEPER]
        if others and not (word == "equal" and told is None):
            same = told is not None and told.word == word
            parts.append(f"{'also at' if same else phrase} {_depths(others)}")
    return "".join(f", {part}" for part in parts)


def _depths(duels: Sequence[Duel]) -> str:
    return listed([d.band for d in sorted(duels, key=lambda d: first_depth(d.band))]) + " convs"


def _lacking(duels: Sequence[Duel]) -> str:
    """How far the depth that is nearest to a word is from it."""
    known = [d for d in duels if d.more_pairs is not None]
    total = sum(d.final.pairs for d in duels)
    if not known:
        return f" ({_pairs(total)}; a word needs at least {MIN_PAIRS} at one depth)"
    nearest = min(known, key=lambda d: d.more_pairs or 0)
    needed = nearest.more_pairs or 0
    many = (
        f"more than {MANY:,} more pairs"
        if needed > MANY
        else f"about {needed} more pair{'s' * (needed != 1)}"
    )
    where = f"{_pairs(nearest.final.pairs)} at {convs(nearest.band)}"
    return f" (mean {points(nearest.final.mean)} points in {where}, {many} needed)"


def cut_short(duels: Sequence[Duel]) -> str:
    """Who led where a pruner stopped one of a pair, which is no verdict. Empty where it stopped none."""
    parts, cut = [], 0
    for arm in dict.fromkeys(duel.arm for duel in duels):
        scores = [duel.cut_short for duel in duels if duel.arm == arm and duel.band != DEEPER]
        pairs, wins = sum(score.pairs for score in scores), sum(score.wins for score in scores)
        cut += pairs
        if pairs:
            parts.append(f"{NAMES[arm]} led in {wins:,} of {pairs:,}")
    return f"Not counted: {_pairs(cut)} cut short by the pruner, where {listed(parts)}." if parts else ""


def _low(duel: Duel) -> float:
    return duel.low if duel.low is not None else 0.0


def _high(duel: Duel) -> float:
    return duel.high if duel.high is not None else 0.0


def _pairs(count: int) -> str:
    return f"{count:,} pair{'s' * (count != 1)}"


def listed(words: Sequence[str]) -> str:
    words = [NAMES.get(word, word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
