"""Findings as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from models.arms.arm import look
from search.views.findings import Findings, Section
from search.views.plots import is_table
from search.views.tables import TextTable

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1320px; margin: auto; padding: 1em }
h1 { font-size: 1.1em; color: #666; font-weight: 500 } .sentence { font-size: 1.35em; line-height: 1.4 }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(560px, 100%), 1fr)); gap: 1em }
.figures > div { border: 1px solid #ddd; border-radius: 6px; overflow: hidden; min-width: 0 }
.scroll { overflow-x: auto; margin: 2em 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px }
caption { text-align: left; font-weight: 600; padding: .3em 0 }
th, td { padding: .3em .8em; text-align: right; border-bottom: 1px solid #e3e3e3; vertical-align: bottom }
th { background: #f4f6f8; max-width: 10em } .word { text-align: left } .how { color: #444; max-width: 55em }
"""
CONFIG = {"displayModeBar": False, "responsive": True}


def page(findings: Findings) -> str:
    """Tables are text here, so that they can be read aloud and copied; the dashboard has them as figures."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(_title(findings))}</title>
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script></head>
<body>
{"".join(_section(section, i) for i, section in enumerate(findings.sections))}
</body></html>
"""


def _title(findings: Findings) -> str:
    """The study, and what its arms are held against; repeats are held against nothing."""
    judged = findings.evidence or findings.verdicts
    return findings.study + (f": architectures against {look(judged.baseline).noun}s" if judged else "")


def _section(section: Section, index: int) -> str:
    drawn = [
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"{key}-{index}" if index else key,
            default_height="450px",
            config=CONFIG,
        )
        for key, figure in section.figures().items()
        if not is_table(figure)
    ]
    notes = "".join(f"<p>{escape(line)}</p>" for line in section.notes)
    reading = "".join(f"<p>{escape(text)}</p>" for text in section.reading.replace("*", "").split("\n\n"))
    then = f"<p>Next: <code>{escape(section.next)}</code></p>" if section.next else ""
    return f"""<h1>{escape(section.title)}</h1>
<p class="sentence">{escape(section.sentence)}</p>
{then}
<div class="figures">{"".join(f"<div>{figure}</div>" for figure in drawn)}</div>
{"".join(_table(table) for table in section.tables)}
{notes}
<div class="how">{reading}</div>
"""


def _table(table: TextTable) -> str:
    head = _row("th", table.columns, table.words)
    body = "".join(_row("td", row, table.words) for row in table.rows)
    return (
        f'<div class="scroll"><table><caption>{escape(table.title)}</caption>'
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div>\n"
    )


def _row(tag: str, cells: Sequence[str], words: int) -> str:
    marked = (f"<{tag}{' class=word' * (i < words)}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
    return f"<tr>{''.join(marked)}</tr>"
