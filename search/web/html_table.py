"""A table of text as HTML: verdicts in colour, trials as links, on a phone a row as a paragraph."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape

from search.views.tables import TextTable, verdict_in

TRIAL = re.compile(r"#(\d+)")


def anchor(link: str, text: str) -> str:
    """A link in its words; empty where there is no address."""
    return f'<a href="{escape(link)}">{escape(text)}</a>' if link else ""


def html_table(table: TextTable, trial: Callable[[int], str]) -> str:
    """The table; columns and rows that a brief look leaves out have the class `more`. `trial`: the address of
    the page of a trial, by its number; empty where it has none."""

    def cell(text: str) -> str:
        linked = TRIAL.sub(lambda found: anchor(trial(int(found[1])), found[0]) or found[0], escape(text))
        verdict = verdict_in(text)
        return f'<span class="verdict {verdict}">{linked}</span>' if verdict else linked

    head = _row("th", [escape(name) for name in table.columns], table)
    body = "".join(
        _row("td", [cell(text) for text in row], table, minor=i in table.minor)
        for i, row in enumerate(table.rows)
    )
    title = escape(table.title)
    return (
        f'<div class="table"><h3>{title}</h3><div class="scroll"><table aria-label="{title}">'
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div></div>\n"
    )


def _row(tag: str, cells: Sequence[str], table: TextTable, minor: bool = False) -> str:
    marked = []
    for i, (name, cell) in enumerate(zip(table.columns, cells, strict=True)):
        more = bool(table.brief) and name not in table.brief
        kinds = " ".join(["word"] * (i < table.words) + ["more"] * more)
        beside = name if tag == "td" and i else ""  # a phone shows names beside cells, not above
        marked.append(f"{_tag(tag, {'class': kinds, 'data-name': beside})}{cell}</{tag}>")
    return f"{_tag('tr', {'class': 'more' * minor})}{''.join(marked)}</tr>"


def _tag(name: str, attributes: dict[str, str]) -> str:
    """The beginning of an element, with those attributes that are not empty."""
    told = [f' {key}="{escape(value)}"' for key, value in attributes.items() if value]
    return f"<{name}{''.join(told)}>"
