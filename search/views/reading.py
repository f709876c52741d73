"""How to read what is shown, in Markdown."""

from __future__ import annotations

from models.arms.arm import look
from search.views.words import capitalized

IN_SHORT = {
    "search": "A pair: one draw as both arms. beats, loses: decided; leads, trails: not yet decided.",
    "confirmation": "Each arm under its own best recipe. ~94: so many more seeds would decide, about.",
}
"""What a reader of the first table has to know, by the kind of what it tells of."""


def search_reading(baseline: str) -> str:
    """How to read a search."""
    return f"""\
Every draw is trained as each arm, from the same initial weights and on the same batches: a *pair* differs
in the shortcut alone. What is said rests on pairs of which both were trained to the end: those of the lower
depths together, those of the upper ones together, and a stratum of eight pairs or more where its half is
decided. *Gain*: the mean difference in percentage points without the most extreme tenth at either end, from
six pairs on one at least, so that one run that collapsed decides nothing; collapses are among the failures.
It is over all draws that ended, poor recipes among them: a confirmation compares the best ones. **beats**:
its 95 % interval lies above one point and p (sign flips, Holm over the two halves) is below 0.05; **equal**:
it lies within a point; **leads**: at least four pairs were won by a point or more and none was lost, which
happens by chance in one search of twelve; **loses**, **trails**: the reverse; **undecided**: all else; **too
few**: less than eight pairs in a stratum, less than four in a half. A run that diverged counts as chance.
*Turn down*: median training accuracy, of three runs or more, falls more than five points below that of the
best depth, and stays there.

*Exploratory*: the search chose these trials. A draw of a stratified search goes on only if its first run, of
each arm in turn, is in the better half of that arm at its depths: hopeless draws are missing, and gains may
be smaller for it. A pair of which a pruner stopped one run enters no verdict; those that ended in spite of it
are kinder to {look(baseline).noun}s than all pairs are. The best of many runs is a lucky one, and no test
image was looked at. It suggests and does not prove."""


def confirmation_reading(baseline: str, rival: str) -> str:
    """How to read a confirmation; `rival`: one of its other arms, as an example."""
    return f"""\
Every recipe was fixed before the first of these runs, and so were margin, seeds and hypotheses. Each seed
draws initial weights, batch order and a split of the images, shared by all arms. Nothing is pruned, every run
has the same number of steps, and a network is evaluated on its test images once, when it is trained. *Each
its own*: every arm under its own best recipe of the search, which is the headline.
*{capitalized(look(baseline).label)}'s*, *{look(rival).label}'s*: twins under that arm's best recipe, from
equal weights; only the block differs.

*That trial* is where the recipe comes from, perhaps of another depth; its score is the best of several, so a
lucky one. *Did not train*: training accuracy below twice chance.

**beats**: the 95 % interval of the mean paired difference lies above the margin and p (exact sign
flips, Holm over the depths) is below 0.05; **loses** mirrored; **equal**: it lies within the margin;
**undecided**: all else. A run that diverged counts as chance. Where the data bring no test part of their own,
each seed draws one: the search has seen some of its images when it chose the recipes, of all arms alike."""


REPEATS_READING = "A repeat trains a stored trial again, as it was or with one thing changed."
