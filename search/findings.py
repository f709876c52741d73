"""A study as a person reads it, wherever it is shown: a sentence, tables, figures, how to read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import RenderableType

from search.evidence import Evidence, gather
from search.grids import Grid, beat_grid, cause_grid, failure_grid, ledger_grid
from search.plan import Plan
from search.scores import final_score, percent
from search.sentence import cut_short
from search.storage import PLAN, REPEATS, confirmation_of
from search.summary import summary
from search.verdict_text import confirmed, spent, tables
from search.verdicts import Verdicts, judge_study

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

VERSION = 2
SEARCH = """\
Every draw is trained as each arm, from the same initial weights and on the same batches: a *pair* differs
in the shortcut alone. Means and intervals are over pairs of which both were trained to the end, in percentage
points. **beats**: the 95 % interval lies above one point and p (sign flips, Holm over depths) is below 0.05;
**equal**: it lies within a point; **undecided**: all else. A run that diverged counts as chance.

*Exploratory*: the search chose these trials and pruned the slow ones, so that pairs which ended are kinder to
plain stacks than all pairs are. One cut short is compared at the last epoch of both and enters no verdict.
The best of many runs is a lucky one, and no test image was looked at. It suggests and does not prove."""
CONFIRMATION = """\
Every recipe was fixed before the first of these runs, and so were margin, seeds and hypotheses. Each seed
draws initial weights, batch order and a split of the images, shared by all arms. Nothing is pruned, every run
has the same number of steps, and a network is evaluated on its test images once, when it is trained. *Each
its own*: every arm under its own best recipe of the search, which is the headline. *Plain's*, *residual's*:
twins under that arm's best recipe, from equal weights; only the block differs.

*That trial* is where the recipe comes from, perhaps of another depth; its score is the best of several, so a
lucky one. *Did not train*: training accuracy below twice chance.

**beats**: the 95 % interval of the mean paired difference lies above the margin and p (exact sign
flips, Holm over the depths) is below 0.05; **loses** mirrored; **equal**: it lies within the margin;
**undecided**: all else. A run that diverged counts as chance. Where the data bring no test part of their own,
each seed draws one: the search has seen some of its images when it chose the recipes, of all arms alike."""


@dataclass(frozen=True)
class Part:
    """Of a search, or of a confirmation."""

    title: str
    sentence: str
    grids: Sequence[Grid]
    notes: Sequence[str]
    """Lines below the tables."""
    reading: str
    """How to read it; Markdown."""
    figures: Callable[[], dict[str, go.Figure]]
    """By id, in the order in which they are to be read. Drawn when asked for."""
    summary: RenderableType | None = None
    """For a terminal."""
    spent: str = ""


@dataclass(frozen=True)
class Findings:
    study: str
    evidence: Evidence | None
    verdicts: Verdicts | None
    parts: tuple[Part, ...]

    def to_json(self) -> str:
        values: dict[str, Any] = {
            "version": VERSION,
            "study": self.study,
            "search": asdict(self.evidence) if self.evidence else None,
            "confirmation": self.verdicts.to_json() if self.verdicts else None,
        }
        return json.dumps(values, indent=1, allow_nan=False)


def findings_of(study: Study) -> Findings:
    """Of a study from any storage; a search brings its confirmation along."""
    plan = study.user_attrs.get(PLAN)
    if plan:
        verdicts, part = _confirmation(study, Plan.from_json(plan))
        return Findings(study.study_name, None, verdicts, (part,))
    if study.user_attrs.get("kind") == REPEATS:
        return Findings(study.study_name, None, None, (_repeats(study),))
    trials = study.get_trials(deepcopy=False)
    evidence = gather(trials)
    other = confirmation_of(study)
    if other is None:
        return Findings(study.study_name, evidence, None, (_search(study.study_name, evidence, trials),))
    verdicts, part = _confirmation(other, Plan.from_json(other.user_attrs[PLAN]))
    evidence = replace(evidence, sentence=f"{evidence.sentence} {part.sentence}")
    search = _search(study.study_name, evidence, trials)
    return Findings(study.study_name, evidence, verdicts, (search, part))


def _search(name: str, evidence: Evidence, trials: Sequence[FrozenTrial]) -> Part:
    def draw() -> dict[str, go.Figure]:
        from search.figures import figures

        return figures(evidence, trials)

    grids = (beat_grid(evidence), cause_grid(evidence), failure_grid(evidence), ledger_grid(evidence))
    notes = [text] if (text := cut_short(evidence.duels)) else []
    if evidence.plain_turns_down_at is not None:
        notes.append(
            f"Plain stacks turn down from {evidence.plain_turns_down_at} convs on (training accuracy)."
        )
    if evidence.noise is not None:
        notes.append(f"Seeds alone: standard deviation {evidence.noise.sd:.2f} points.")
    return Part(
        title=f"{name}: {evidence.finished:,} trials, {evidence.to_the_end:,} trained to the end",
        sentence=evidence.sentence,
        grids=[grid for grid in grids if grid.rows],
        notes=notes,
        reading=SEARCH,
        figures=draw,
        summary=summary(trials),
    )


def _repeats(study: Study) -> Part:
    rows = tuple(
        (
            str(trial.number),
            f"#{trial.user_attrs['origin']}",
            ", ".join(f"{k} = {v}" for k, v in trial.user_attrs["changed"].items()) or "nothing",
            f"{100 * final_score(trial):.1f}",
            percent(trial.user_attrs["train_accuracy"]),
            trial.user_attrs.get("difference", "-"),
        )
        for trial in study.get_trials(deepcopy=False)
    )
    columns = ("repeat", "of trial", "changed", "val, %", "train, %", "difference")
    return Part(
        title=study.study_name,
        sentence=f"{len(rows)} repeats of trials of {study.study_name.removesuffix('-repeat')}.",
        grids=[Grid("Trials trained again", columns, rows, words=3)],
        notes=(),
        reading="A repeat trains a stored trial again, as it was or with one thing changed.",
        figures=dict,
    )


def _confirmation(study: Study, plan: Plan) -> tuple[Verdicts, Part]:
    trials = study.get_trials(deepcopy=False)
    verdicts = judge_study(study, plan)

    def draw() -> dict[str, go.Figure]:
        from search.verdict_figures import verdict_figures

        return verdict_figures(verdicts, plan, trials)

    return verdicts, Part(
        title=f"{study.study_name}: {verdicts.finished:,} of {verdicts.planned:,} runs",
        sentence=confirmed(verdicts),
        grids=tables(verdicts),
        notes=[spent(verdicts)],
        reading=CONFIRMATION,
        figures=draw,
        spent=spent(verdicts),
    )
