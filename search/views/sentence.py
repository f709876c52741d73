"""A search in one sentence, which holds for any number of pairs, also none."""

from __future__ import annotations

from collections.abc import Sequence

from models.arms.arm import look
from search.analysis.bands import first_depth, last_depth
from search.analysis.duels import Duel
from search.analysis.evidence import Evidence
from search.views.words import arms_listed, capitalized, listed, plural, points, span

RANKS = {
    "beats": 0,
    "loses": 0,
    "leads": 1,
    "trails": 1,
    "equal": 2,
    "undecided": 3,
    "too few": 3,
    "no pair": 4,
}
"""Words by what they are worth to a reader: the strongest is said first."""
HOPELESS = {
    "diverged": "diverged: the study's learning rates are too high",
    "error": "ended with an error",
    "oom": "ran out of memory: a smaller batch_size or max_params may help",
    "infeasible": "had more parameters than space.max_params",
    "lost": "went with workers that were killed",
}
"""What has become of trials, and what to do about it, by their outcome."""


def sentence(evidence: Evidence) -> str:
    """What was asked: whether and where the rivals beat the baseline; the half of depths with the strongest
    word first, and of two the deep one. A half without pairs is passed over."""
    baseline = evidence.baseline
    rivals = [arm for arm in evidence.arms if arm != baseline]
    if hopeless := _hopeless(evidence):
        return hopeless
    if not evidence.arms:
        return "No pair has been trained to the end yet."
    if not rivals:
        return f"Only {look(baseline).noun}s have been trained: there is nothing to compare them with."
    if baseline not in evidence.arms:
        untried = f"No {look(baseline).noun} has been trained"
        return f"{untried}: there is nothing to compare {arms_listed(rivals)} with."
    lower, upper = ([duel for duel in evidence.duels if duel.band == half] for half in evidence.halves)
    told = [half for half in (upper, lower) if any(duel.final.pairs for duel in half)]
    if not evidence.grouped:
        return 'Each trial drew its arm by itself (search.design = "free"): there are no pairs to compare.'
    if not told:
        return "No pair has been trained to the end yet."
    told.sort(key=_rank)
    opening, there = _opening(evidence, told[0] is upper)
    clauses = []
    for half in told:
        where = there if half is told[0] else ""
        where = where or (_from(evidence.halves[1]) if half is upper else _up_to(evidence.halves[0]))
        clauses.append(f"{where} {_half(half, baseline, half is not told[0])}")
    text = f"{'; '.join(clauses)}."
    said = f"{opening}{capitalized(text)}" if opening else text
    return f"Exploratory, {plural(evidence.finished, 'trial')}: {said}"


def _hopeless(evidence: Evidence) -> str:
    """What has become of all trials, where it is the same for all and says why there is no answer."""
    outcomes = {outcome for failures in evidence.failures for outcome in failures.outcomes}
    why = HOPELESS.get(outcomes.pop(), "") if len(outcomes) == 1 else ""
    count = evidence.finished
    return f"{f'All {count:,} trials' if count > 1 else 'The one trial so far'} {why}." if why else ""


def _rank(half: Sequence[Duel]) -> int:
    return min(RANKS[duel.word] for duel in half)


def _opening(evidence: Evidence, deep_first: bool) -> tuple[str, str]:
    """Where the baseline turns down, and "there" if what follows is about the same depths."""
    turn = evidence.baseline_turns_down_at
    if turn is None:
        return "", ""
    there = "there" if deep_first and turn == first_depth(evidence.halves[1]) else ""
    return f"{look(evidence.baseline).noun}s turn down from {turn} convs on. ", there


def _from(half: str) -> str:
    return f"from {first_depth(half)} convs on"


def _up_to(half: str) -> str:
    return f"up to {last_depth(half)} convs"


def _half(duels: Sequence[Duel], baseline: str, besides: bool) -> str:
    """The words on all rivals at these depths; `besides`: others have been told of before."""
    name, clauses = look(baseline).label, []
    for word in RANKS:
        members = [duel for duel in duels if _word(duel) == word and duel.final.pairs]
        if not members:
            continue
        arms, many = arms_listed([duel.arm for duel in members]), len(members) > 1
        if word in ("beats", "loses"):
            clauses.append(_decided(members, "beats" if word == "beats" else "loses to", name))
        elif word in ("leads", "trails"):
            verb = ("lead" if word == "leads" else "trail behind") if many else _singular(word)
            gains = [points(duel.gain, signed=False) for duel in members]
            amounts = f"{gains[0]} points each" if many and len({*gains}) == 1 else f"{listed(gains)} points"
            clauses.append(f"{arms} {verb} {name} by {amounts} ({_counted(members, word)})")
        elif word == "equal" and besides and len(members) == len(duels):
            clauses.append("they are level")
        elif word == "equal":
            clauses.append(f"{arms} {'equal' if many else 'equals'} {name} within a point")
        else:
            clauses.append(f"{arms} {'are' if many else 'is'} undecided ({_amounts(members)})")
    return ", ".join(clauses)


def _word(duel: Duel) -> str:
    return "undecided" if duel.word == "too few" else duel.word


def _singular(word: str) -> str:
    return "leads" if word == "leads" else "trails behind"


def _decided(duels: Sequence[Duel], verb: str, baseline: str) -> str:
    first, *others = duels
    same = bool(others) and len({duel.final.pairs for duel in duels}) == 1
    counts = [_pairs(first), *(f"{duel.final.pairs:,}" for duel in others)]
    if same:
        counts = [*[""] * len(others), f"{_pairs(first)} each"]
    texts = [f"{look(first.arm).label} {verb} {baseline} by {_by(first, ' points')}"]
    texts += [f"{look(duel.arm).label} by {_by(duel)}" for duel in others]
    return ", ".join(text + f" ({count})" * bool(count) for text, count in zip(texts, counts, strict=True))


def _by(duel: Duel, unit: str = "") -> str:
    low, high = sorted((abs(duel.low or 0.0), abs(duel.high or 0.0)))
    return f"{points(duel.gain, signed=False)}{unit} {span(low, high)}"


def _pairs(duel: Duel) -> str:
    return plural(duel.final.pairs, "pair")


def _counted(duels: Sequence[Duel], word: str) -> str:
    counts = [
        f"{duel.final.wins if word == 'leads' else duel.final.losses:,} of {duel.final.pairs:,}"
        for duel in duels
    ]
    return f"{listed(counts)} pairs {'won, none lost' if word == 'leads' else 'lost, none won'}"


def _amounts(duels: Sequence[Duel]) -> str:
    found: list[str] = []
    for duel in duels:
        interval = span(duel.low, duel.high)
        amount = f"{points(duel.gain)}{' points' * (not found)}{' ' * bool(interval)}{interval}"
        found.append(f"{amount} in {_pairs(duel) if not found else f'{duel.final.pairs:,}'}")
    return ", ".join(found)


def confirmable(evidence: Evidence) -> bool:
    """Whether a confirmation can be told to be next: there are whole pairs, of arms of equal depth."""
    depths = {look(arm).depth for arm in evidence.arms}
    paired = any(duel.final.pairs for duel in evidence.duels)
    return len(depths) == 1 and paired and not _hopeless(evidence)


def cut_short(duels: Sequence[Duel]) -> str:
    """A line on the pairs of which a pruner stopped one: who led, which is no verdict. Empty where there are
    none."""
    parts, cut = [], 0
    for arm in dict.fromkeys(duel.arm for duel in duels):
        scores = [duel.cut_short for duel in duels if duel.arm == arm and duel.half]
        pairs, wins = sum(score.pairs for score in scores), sum(score.wins for score in scores)
        cut += pairs
        if pairs:
            parts.append(f"{look(arm).label} led in {wins:,} of {pairs:,}")
    if not parts:
        return ""
    return f"Not counted: {plural(cut, 'pair')} cut short by the pruner, where {listed(parts)}."
