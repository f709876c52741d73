from __future__ import annotations

import re
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest
from optuna.trial import FrozenTrial, TrialState
from selenium import webdriver

from models.arms.arm import look
from search.storage.study_record import REPEATS, StudyRecord
from search.views.findings import Findings, findings_of
from search.views.plots import is_table
from search.web.page import file_page as page
from tests.support.dashboard import SIZES, complaints, look_at
from tests.support.made_trials import deep_pairs, findings, made, study_of
from tests.support.many_arms import FIVE, LABELS, five_arms, study_of_five

pytestmark = pytest.mark.slow

DRAWN = """
return [...document.querySelectorAll('figure')].map((figure) => [
  figure.id, figure.querySelector('.plot').data?.length,
])
"""
TEXTS = """
const box = (node) => { const r = node.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] }
const shown = (node) => node.textContent.trim() && getComputedStyle(node).visibility != "hidden"
return [...document.querySelectorAll('figure')].map((figure) => [
  figure.id, box(figure),
  [...figure.querySelectorAll('text')].filter(shown).map((node) => [node.textContent, box(node)]),
])
"""
"""Every figure: its name, its box, and its texts with theirs: left, top, right, bottom in pixels."""


def has_dots(figure: go.Figure) -> bool:
    """Whether a page shows it as a figure."""
    return bool(figure.data) and not is_table(figure)


class Text(HTMLParser):
    """What a page says beside its scripts, whatever is text in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.within: list[str] = []
        self.said: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.within and self.within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.within):
            self.said.append(data)

    def __str__(self) -> str:
        return "\n".join(self.said)


@pytest.fixture(scope="module")
def searched() -> Findings:
    return findings(study_of(60) + deep_pairs(14, first=100), "shown")


@pytest.fixture(scope="module")
def html(searched: Findings) -> str:
    return page(searched)


def test_the_page_says_all_that_the_findings_say(searched: Findings, html: str) -> None:
    said = str(Text(html))
    [section] = searched.sections
    assert section.next == "python -m search.confirm --name shown"
    for text in (section.name, section.course.counted, section.next, *section.notes):
        assert text in said
    words = " ".join(said.split())
    for word in section.sentence.replace(";", "").rstrip(".").split():
        assert word.lower() in words.lower()
    assert section.reading.replace("*", "").partition("\n\n")[0] in said
    for table in section.tables:
        for cell in (table.title, *table.columns, *(cell for row in table.rows for cell in row)):
            assert cell in said


def test_figures_are_drawn_and_tables_are_text(searched: Findings, html: str) -> None:
    figures = searched.sections[0].figures()
    shown = re.findall(r'<figure id="([\w-]+)"', html)
    assert shown == [f"shown-{name}" for name, figure in figures.items() if has_dots(figure)]
    assert html.count("<table ") == len(searched.sections[0].tables)


def test_a_search_and_its_confirmation_are_one_page() -> None:
    found = findings_of(study_of_five())
    html = page(found)
    drawn = [f for section in found.sections for f in section.figures().values() if has_dots(f)]
    names = re.findall(r'<figure id="([\w-]+)"', html)
    assert len(set(names)) == len(names) == len(drawn)
    assert [name for name in names if "degradation" in name] == [
        "five-confirm-archsearch-1-degradation", "five-archsearch-1-degradation",
    ]  # fmt: skip
    assert html.index("Confirmed (") < html.index("Exploratory, 300 trials")


def test_the_page_needs_no_network(html: str) -> None:
    assert not re.search(
        r"""<(?:script|img|link|iframe)[^>]*(?:src|href)\s*=""", html.partition("</style>")[0]
    )
    assert not re.search(r"""<(?:script|img|link|iframe)[^>]* (?:src|href)=["']?(?:https?:)?//""", html)


def test_the_page_trusts_no_name() -> None:
    html = page(findings(study_of(9), "<script>alert(1)</script>"))
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [made(0, "plain", state=TrialState.FAIL)],
        [made(0, "plain", state=TrialState.RUNNING)],
        [made(0, "plain", state=TrialState.PRUNED), made(1, "residual", state=TrialState.PRUNED)],
        [made(0, "residual")],
    ],
    ids=["empty", "failed", "running", "pruned", "one"],
)
def test_a_study_in_any_state_has_a_page(trials: list[FrozenTrial]) -> None:
    found = findings(trials)
    html = page(found)
    assert found.own.sentence in str(Text(html))
    told = [name for name, figure in found.own.figures().items() if has_dots(figure)]
    assert re.findall(r'<figure id="x-([\w-]+)"', html) == told, "none that is empty"


@pytest.mark.parametrize(
    ("baseline", "title"),
    [
        ("plain", "five: architectures against plain stacks"),
        ("residual", "five: architectures against residual networks"),
        ("preact", "five: architectures against pre-activation networks"),
    ],
)
def test_the_title_names_what_arms_are_held_against(baseline: str, title: str) -> None:
    assert f"<title>{title}</title>" in page(findings_of(study_of_five(baseline)))


def test_repeats_have_a_page() -> None:
    study = optuna.create_study(study_name="digits-repeat", direction="maximize")
    study.add_trial(made(0, "plain", 0.876, origin=12, changed={}, difference="identical"))
    for key, value in StudyRecord.attributes(kind=REPEATS).items():
        study.set_user_attr(key, value)
    html = page(findings_of(study))
    assert "<title>digits-repeat</title>" in html
    assert '<td class="word" data-name="of trial">#12</td>' in html
    assert "<figure" not in html


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "gone"])
def test_arms_that_the_product_lacks_are_on_the_page(installed: bool) -> None:
    study = study_of_five()
    with five_arms() if installed else nullcontext():
        said = str(Text(page(findings_of(study))))
        labels = [look(arm).label for arm in FIVE]
    assert (tuple(labels) == LABELS) is installed
    for label in labels:
        assert f"\n{label}\n" in said


FAINT = r"""
const light = (color) => {
  const [r, g, b, a] = color.match(/[\d.]+/g).map(Number)
  const part = (x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4
  return { light: 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b), clear: a === 0 }
}
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const found = light(getComputedStyle(node).backgroundColor)
    if (!found.clear) return found.light
  }
  return 1
}
const faint = new Set()
for (const node of document.querySelectorAll("h1, h3, p, li, td, th, .verdict, figcaption, figure text")) {
  if (!node.textContent.trim()) continue
  const svg = node.tagName === "text"
  const ink = light(svg ? getComputedStyle(node).fill : getComputedStyle(node).color).light
  const paper = behind(svg ? node.closest("figure") : node)
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)
  if (contrast < 3) faint.add(`${node.tagName} ${node.textContent.slice(0, 40)}: ${contrast.toFixed(1)}`)
}
return [...faint]
"""
"""Texts that are hard to read, by the contrast of WCAG 2.1: large ones need 3."""


@pytest.fixture
def five(tmp_path: Path, browser: webdriver.Chrome) -> webdriver.Chrome:
    """A browser with the page of five arms, held against residual networks: the longest labels there are."""
    study = study_of_five("residual")
    with five_arms():
        (tmp_path / "five.html").write_text(page(findings_of(study)), encoding="utf-8")
    browser.set_window_size(1300, 1000)
    browser.get(f"file://{tmp_path}/five.html")
    return browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "1024", "390"])
def test_in_a_browser_no_text_of_a_figure_is_cut_off_or_covered(
    five: webdriver.Chrome, size: tuple[int, int], scheme: str
) -> None:
    look_at(five, size, scheme)
    drawn = five.execute_script(DRAWN)
    assert drawn
    assert all(traces for _, traces in drawn)
    for name, (left, top, right, bottom), texts in five.execute_script(TEXTS):
        assert texts, name
        for text, box in texts:
            inside = left - 1 <= box[0] and top - 1 <= box[1] and box[2] <= right + 1 and box[3] <= bottom + 1
            assert inside, f"{name}: {text} is cut off"
        level = [(text, box) for text, box in texts if box[3] - box[1] < 20]  # a turned one has a wide box
        for i, (text, a) in enumerate(level):
            for other, b in level[i + 1 :]:
                apart = a[2] <= b[0] + 2 or b[2] <= a[0] + 2 or a[3] <= b[1] + 3 or b[3] <= a[1] + 3
                assert apart, f"{name}: {text} covers {other}"
    assert complaints(five) == []
    wide = five.execute_script("return document.documentElement.scrollWidth")
    assert wide <= size[0], "the page itself does not scroll sideways"
    assert five.execute_script(FAINT) == []
