"""Findings as HTML: the answer of a study on a card, a study whole, and the same as one file that needs no
network. Tables are text, so that they can be read aloud and copied."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

import plotly.graph_objects as go  # type: ignore[import-untyped]

from models.arms.arm import look
from search.analysis.course import Course
from search.views.findings import Findings, Section
from search.views.plots import is_table
from search.views.reading import IN_SHORT
from search.views.tables import TextTable
from search.views.words import capitalized
from search.web.html_table import anchor, html_table

ASSETS = Path(__file__).parent / "assets"
COMMAND = re.compile(r"python -m .+")
WORDS = {
    "beats": "beats", "beat": "beats", "leads": "leads", "lead": "leads", "loses": "loses", "lose": "loses",
    "trails": "trails", "trail": "trails", "equals": "equal", "equal": "equal", "level": "equal",
    "undecided": "undecided",
}  # fmt: skip
"""Words of a sentence that are verdicts."""
WORD = re.compile(rf"\b({'|'.join(WORDS)})\b")
BADGES = {
    "confirmation": ("confirmed", "Fresh seeds, test images"),
    "search": ("exploratory", "Search, validation images"),
    "repeats": ("exploratory", "Trained again"),
    "trial": ("exploratory", "One trial"),
}
"""Class and words of the badge that says what a section rests on, by its kind."""
CAUSE = "conv-gradients"
"""End of the name of the figure that tells why."""


@dataclass(frozen=True)
class Links:
    """Addresses of what a page speaks of; by default there are none, as in a file."""

    study: Callable[[str], str] = lambda name: ""
    """The page of a study, by its name."""
    trial: Callable[[str, int], str] = lambda name, number: ""
    """The page of a trial, by its study's name and its number."""
    dashboard: Callable[[str, int | None], str] = lambda name, number: ""
    """A study in optuna-dashboard, by its name, or one of its trials."""
    file: Callable[[str, str], str] = lambda name, address: ""
    """An artifact, by its study's name and the keys of its trial and its own."""


NOWHERE = Links()


def file_page(findings: Findings) -> str:
    """A study's page as one file."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    head = f"<style>{asset('answer.css')}</style><script>{get_plotlyjs()}</script>"
    return document(title_of(findings), head, study_body(findings), f"<script>{asset('answer.js')}</script>")


def asset(name: str) -> str:
    """The text of a style sheet or a script."""
    return (ASSETS / name).read_text(encoding="utf-8")


def document(title: str, head: str, body: str, end: str = "") -> str:
    """A whole HTML page around `body`."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>
{head}</head>
<body><main>
{body}
</main>{end}</body></html>
"""


def title_of(findings: Findings) -> str:
    """The study, and what its arms are held against; repeats are held against nothing."""
    if findings.trial is not None:
        return f"{findings.study}, trial {findings.trial}"
    judged = findings.evidence or findings.verdicts
    return findings.study + (f": architectures against {look(judged.baseline).noun}s" if judged else "")


def card(findings: Findings, links: Links) -> str:
    """The answer of a study: sentence, the figure and the tables that it rests on, what to do next."""
    first, *others = findings.sections
    own = findings.own
    more = anchor(links.study(findings.study), "All figures and tables")
    trials = anchor(links.dashboard(findings.study, None), "Trials in optuna-dashboard")
    parts = [_head(own.name, own.course, links.study(findings.study), "h2")]
    parts += [_said(first, own), _in_short(findings, links), *(_said(section, own) for section in others)]
    links_line = " · ".join(filter(None, (more, trials)))
    return f'<article class="card">{"".join(parts)}<p class="links">{links_line}</p></article>\n'


def foreign_card(name: str, trials: int, links: Links) -> str:
    """A study that another program made: it can be looked at, and nothing is said of it."""
    there = anchor(links.dashboard(name, None), "look at it in optuna-dashboard")
    return (
        f'<article class="card"><h2>{escape(name)}</h2><p class="facts">not made by archsearch, '
        f"{trials:,} trials: {there}</p></article>\n"
    )


def study_body(findings: Findings, links: Links = NOWHERE) -> str:
    """All that is to be said of a study."""
    own = findings.own
    name = own.name if findings.trial is None else f"{own.name}, trial {findings.trial}"
    parts = [_head(name, own.course, "", "h1")]
    if there := links.dashboard(findings.study, findings.trial):
        parts.append(f'<p class="links">{anchor(there, "In optuna-dashboard")}</p>')
    for section in findings.sections:
        kept = [anchor(links.file(section.name, key), name) or name for name, key in section.files.items()]
        parts += [_said(section, own), f"<p>Kept: {', '.join(kept)}</p>" if kept else ""]
        parts += [_answer(section, links), _details(section, links)]
    return "".join(parts)


def _head(name: str, course: Course, link: str, tag: str) -> str:
    data = f"data: {escape(course.data)} · " * bool(course.data)
    facts = (
        f'{data}<span class="state {course.state}">{course.state}</span> · {course.counted}{_when(course)}'
    )
    return (
        f'<header><{tag}>{anchor(link, name) or escape(name)}</{tag}><p class="facts">{facts}</p></header>\n'
    )


def _when(course: Course) -> str:
    if course.began is None:
        return ""
    last = None if course.running else course.ended
    return f" · {_moment(course.began)}{f' to {_moment(last, course.began)}' if last else ''}"


def _moment(time: datetime, after: datetime | None = None) -> str:
    """A time; of one on the day of another, the hour alone."""
    day = "" if after and after.date() == time.date() else f"{time.day} {time:%b %Y}, "
    return f"{day}{time:%H:%M}"


def _said(section: Section, own: Section) -> str:
    """What a section rests on, its sentence, and what comes next; of a confirmation beside its search, how
    far it is as well."""
    kind, words = BADGES[section.kind]
    if section.name != own.name and section.course.state != "done":
        words += f" · {section.course.state}, {section.course.counted}"
    then = f'<p class="next">Next: <code>{escape(section.next)}</code></p>' if section.next else ""
    return (
        f'<section class="said {kind}"><p class="badge">{escape(words)}</p>'
        f"{_sentence(section)}{then}</section>\n"
    )


def _sentence(section: Section) -> str:
    """The sentence; its clauses are the points of a list, its verdicts have the colours of the tables."""
    text = escape(section.sentence)
    if section.kind not in ("search", "confirmation"):
        return f'<p class="sentence">{text}</p>'
    told = WORD.sub(lambda found: f'<span class="verdict {WORDS[found[0]]}">{found[0]}</span>', text)
    head, colon, rest = told.partition(": ")
    clauses = re.split(r"; |\. ", rest.removesuffix("."))
    if not colon or len(clauses) < 2:
        return f'<p class="sentence">{told}</p>'
    points = "".join(f"<li>{capitalized(clause)}</li>" for clause in clauses)
    return f'<div class="sentence">{head}:<ul>{points}</ul></div>'


def _in_short(findings: Findings, links: Links) -> str:
    """The tables that answer, beside the first figure and that of the cause, which a search measures."""
    section = findings.sections[0]
    tables = [_table(table, section, links) for table in section.answer]
    if tables and (key := IN_SHORT.get(section.kind)):
        tables.insert(1, f'<p class="how">{escape(key)}</p>')
    plots = [_figure(f"{section.name}-{key}", figure, section, links) for key, figure in _drawn(section)[:1]]
    for other in findings.sections:
        causes = [(key, figure) for key, figure in _drawn(other) if key.endswith(CAUSE)]
        plots += [_figure(f"{other.name}-{key}", figure, other, links) for key, figure in causes]
    return (
        f'<div class="answer"><div>{"".join(tables)}</div><div class="plots">{"".join(plots)}</div></div>\n'
    )


def _answer(section: Section, links: Links) -> str:
    """The first figures, the tables that answer, and all other figures."""
    plots = [_figure(f"{section.name}-{key}", figure, section, links) for key, figure in _drawn(section)]
    tables = "".join(_table(table, section, links) for table in section.answer)
    first, others = "".join(plots[:2]), "".join(plots[2:])
    return f'<div class="figures">{first}</div>{tables}<div class="figures">{others}</div>\n'


def _drawn(section: Section) -> list[tuple[str, go.Figure]]:
    """The figures that are no tables and have something to show, by name."""
    drawn = section.figures().items()
    return [(key, figure) for key, figure in drawn if figure.data and not is_table(figure)]


def _table(table: TextTable, section: Section, links: Links) -> str:
    name = section.origin or section.name
    return html_table(table, lambda number: links.trial(name, number))


def _details(section: Section, links: Links) -> str:
    lines = [COMMAND.sub(r"<code>\g<0></code>", escape(line)) for line in section.notes]
    notes = "".join(f"<p>{line}</p>" for line in lines)
    reading = "".join(f"<p>{escape(text)}</p>" for text in section.reading.replace("*", "").split("\n\n"))
    tables = "".join(_table(table, section, links) for table in section.details)
    return f'{tables}<div class="how">{notes}{reading}</div>\n'


def _figure(key: str, figure: go.Figure, section: Section, links: Links) -> str:
    """A figure for the script to draw; its title is text, which wraps. The first one has the sentence for a
    title where nothing else says it, which here stands above. Dots lead to their trials."""
    values = json.loads(figure.to_json())
    layout = values["layout"]
    title = layout.pop("title", {}).get("text", "").replace("<br>", " ")
    layout.pop("template", None)
    if title == section.sentence:
        title = "Accuracy by depth"
    trials = links.trial(section.name, 0).removesuffix("0")
    data = json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure id="{escape(key)}" data-trials="{escape(trials)}">'
        f'<figcaption>{escape(title)}</figcaption><div class="plot"></div>'
        f'<script type="application/json">{data}</script></figure>\n'
    )
