"""Evidence as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from optuna.trial import FrozenTrial

from search.evidence import Evidence
from search.figures import TABLES, figures
from search.grids import Grid, beat_grid, cause_grid, failure_grid, ledger_grid
from search.publish import HOW_TO_READ

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


def page(name: str, evidence: Evidence, trials: Sequence[FrozenTrial]) -> str:
    """Tables are text here, so that they can be read aloud and copied; the dashboard has them as figures."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    drawn = []
    for key, figure in figures(evidence, trials).items():
        if key not in TABLES:
            drawn.append(
                figure.to_html(
                    full_html=False, include_plotlyjs=False, div_id=key, default_height="450px", config=CONFIG
                )
            )
    grids = (beat_grid(evidence), cause_grid(evidence), failure_grid(evidence), ledger_grid(evidence))
    tables = "".join(_table(grid) for grid in grids if grid.rows)
    how = "".join(f"<p>{escape(part)}</p>" for part in HOW_TO_READ.replace("*", "").split("\n\n"))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(name)}: architectures against plain stacks</title>
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script></head>
<body>
<h1>{escape(name)}: {evidence.finished:,} trials, {evidence.to_the_end:,} trained to the end</h1>
<p class="sentence">{escape(evidence.sentence)}</p>
<div class="figures">{"".join(f"<div>{figure}</div>" for figure in drawn)}</div>
{tables}
<div class="how">{how}</div>
</body></html>
"""


def _table(grid: Grid) -> str:
    head = _row("th", grid.columns, grid.words)
    body = "".join(_row("td", row, grid.words) for row in grid.rows)
    return (
        f'<div class="scroll"><table><caption>{escape(grid.title)}</caption>'
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div>\n"
    )


def _row(tag: str, cells: Sequence[str], words: int) -> str:
    marked = (f"<{tag}{' class=word' * (i < words)}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
    return f"<tr>{''.join(marked)}</tr>"
