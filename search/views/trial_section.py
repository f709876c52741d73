"""One trial as a person reads it: what it is, how its twins fared, what the signal did, what can be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.study import Study

from models.arms.arm import ARMS, in_order, look
from search.analysis.course import course_of
from search.errors import SpecError
from search.spec.tables import OPTIMIZERS
from search.storage.study_record import record_of_study
from search.storage.trial_record import TrialRecord, records_of
from search.views.failures import why_failed
from search.views.findings import Findings, Section
from search.views.tables import TextTable
from search.views.words import command_line, percent, points

if TYPE_CHECKING:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

_MOST_ROWS = 12
"""Convs whose gradients a table shows, evenly spread."""
TRIAL_READING = (
    "Twins have the same recipe, initial weights, images and batches; only the block differs. The gradient "
    "norm of a conv is that of its weights' gradient after one step: equal along the convs where the signal "
    "arrives, falling towards the first where it vanishes, growing where it explodes."
)


def trial_section(study: Study, number: int, storage: str | None = None) -> Section:
    """What is to be said of a trial. `storage`: as it was typed, for the commands. Raises SpecError where
    there is none of that number."""
    trials, stored = records_of(study), record_of_study(study)
    trial = next((one for one in trials if one.number == number), None)
    if trial is None:
        have = f"it has 0 to {len(trials) - 1}" if trials else "it has none"
        raise SpecError(f"no trial {number} in the study {study.study_name!r}: {have}")
    twins = next(family for family in families(trials) if trial in family)

    def draw() -> dict[str, go.Figure]:
        from search.views.trial_figures import curves_of, layers

        of = f"of trial {number}" + " and its twins" * (len(twins) > 1)
        return {
            "layers": layers(twins, f"Gradient norm conv by conv, {of}"),
            "curves": curves_of(twins, f"Accuracy by epoch, {of}"),
        }

    return Section(
        kind="trial",
        name=study.study_name,
        course=course_of(stored, trials),
        sentence=trial_sentence(trial, twins, stored.baseline),
        answer=[twin_rows(trial, twins)] if len(twins) > 1 else [],
        details=[
            table
            for table in (recipe_table(trial), *(gradient_table(twins, when) for when in ("start", "end")))
            if table.rows
        ],
        notes=[
            f"{what}: {line}"
            for what, line in commands(trial, twins, stored.baseline, study.study_name, storage)
        ],
        reading=TRIAL_READING,
        figures=draw,
        files={name: f"{trial.trial_id}/{key}" for name, key in sorted(trial.artifacts.items())},
    )


def trial_findings(study: Study, number: int, storage: str | None = None) -> Findings:
    """The findings of a study that are about one trial."""
    return Findings(study.study_name, None, None, (trial_section(study, number, storage),), trial=number)


def families(trials: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The trials with their twins: those of one draw, in a confirmation of one recipe and seed, in the order
    of their arms; a trial without a draw is alone."""
    found: dict[tuple[int, int], list[TrialRecord]] = defaultdict(list)
    for trial in trials:
        alone = trial.group is None
        found[(-1, trial.number) if alone else (trial.group or 0, trial.replicate)].append(trial)
    return [
        [one for arm in in_order({one.arm for one in family}) for one in family if one.arm == arm]
        for family in found.values()
    ]


def trial_sentence(trial: TrialRecord, twins: Sequence[TrialRecord], baseline: str) -> str:
    """What a trial is and what came of it, in a sentence."""
    text = f"Trial {trial.number}: {trial.architecture_words}"
    if why := why_failed(trial):
        return f"{text}: {trial.ended}, {why}."
    if not trial.is_finished:
        return f"{text}: {trial.trial.state.name.lower()}."
    text += f": {percent(trial.val_accuracy)} % of the validation images, {trial.ended}"
    other = next((one for one in twins if one.arm == baseline and one is not trial), None)
    if other is not None and other.ran_to_the_end and trial.ran_to_the_end:
        gain = points(100 * (trial.score - other.score))
        text += f"; {gain} points against its {look(baseline).label} twin, trial {other.number}"
    return f"{text}."


def recipe_table(trial: TrialRecord) -> TextTable:
    """What was drawn for a trial, but for the learning rates of optimizers that it does not have."""
    drawn = trial.drawn
    unused = {f"lr_{name}" for name in OPTIMIZERS if name != drawn.get("optimizer", name)}
    rows = tuple(
        (name, f"{value:.3g}" if isinstance(value, float) else str(value))
        for name, value in sorted(drawn.items())
        if name not in unused
    )
    return TextTable("What was drawn for it", ("setting", "value"), rows)


def twin_rows(trial: TrialRecord, twins: Sequence[TrialRecord]) -> TextTable:
    """A trial beside its twins."""
    rows = tuple(
        (
            f"#{one.number}" + " (this)" * (one is trial),
            look(one.arm).label,
            percent(one.val_accuracy),
            percent(one.train_accuracy),
            one.ended,
            str(one.epochs),
            one.cause,
        )
        for one in twins
    )
    columns = ("trial", "arm", "val, %", "train, %", "ended", "epochs", "why")
    return TextTable("The same recipe, weights and batches as each arm", columns, rows, words=2)


def gradient_table(twins: Sequence[TrialRecord], when: str) -> TextTable:
    """log10 of the gradient norm along the convs; `when`: start or end."""
    measured = [one for one in twins if one.gradients.get(when)]
    convs = max((len(one.gradients[when]) for one in measured), default=0)
    shown = sorted({round(i * (convs - 1) / (_MOST_ROWS - 1)) for i in range(_MOST_ROWS)}) if convs else []
    rows = tuple((str(i + 1), *(_tenths(one.gradients[when], i) for one in measured)) for i in shown)
    columns = ("conv", *(f"{look(one.arm).label}, #{one.number}" for one in measured))
    words = "at the start of training" if when == "start" else "in the end"
    return TextTable(f"log10 of the gradient norm, {words}", columns, rows)


def _tenths(values: Sequence[float], i: int) -> str:
    return points(values[i]).lstrip("+") if i < len(values) else "-"


def commands(
    trial: TrialRecord, twins: Sequence[TrialRecord], baseline: str, study: str, storage: str | None
) -> list[tuple[str, str]]:
    """What can be done with a trial, and the command that does it."""
    if not trial.is_finished or not trial.architecture_json:
        return []
    rivals = [one.arm for one in twins if one.arm != baseline] or [arm for arm in ARMS if arm != baseline]
    other = rivals[0] if trial.arm == baseline else baseline
    named = [str(trial.number), "--name", study]
    flip, deeper = [*named, "--block", other], [*named, "--depth", "+6"]
    return [
        ("Again, bit for bit on a CPU", command_line("repeat", named, storage)),
        (f"As {look(other).label}, all else equal", command_line("repeat", flip, storage)),
        ("Six convs deeper", command_line("repeat", deeper, storage)),
    ]


def trial_note(
    trial: TrialRecord, twins: Sequence[TrialRecord], baseline: str, study: str, study_id: int
) -> str:
    """The note of a trial in Markdown: short, since every look at a study reads those of all trials."""
    parts = [f"**{trial_sentence(trial, twins, baseline)}**"]
    if others := [one for one in twins if one is not trial]:
        told = [
            f"#{one.number} {look(one.arm).label} {percent(one.val_accuracy)} % ({one.ended})"
            for one in others
        ]
        parts.append(f"Twins: {', '.join(told)}")
    if kept := trial.artifacts:
        address = f"/artifacts/{study_id}/{trial.trial_id}"
        files = [f"[{name}]({address}/{key})" for name, key in sorted(kept.items())]
        parts.append(f"Kept: {', '.join(files)}")
    report = command_line("report", ["--name", study, "--trial", str(trial.number)], None)
    lines = [("Gradients and twins", report), *commands(trial, twins, baseline, study, None)]
    parts += [f"{what}: `{line}`" for what, line in lines]
    return "\n\n".join(parts)
