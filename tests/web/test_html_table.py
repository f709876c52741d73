from __future__ import annotations

from xml.etree import ElementTree

from search.views.tables import TextTable
from search.web.html_table import anchor, html_table

TABLE = TextTable(
    "Who beats <plain> & how",
    ("arm", "verdict", "pairs"),
    (("residual", "beats", "#7"), ("<b>", "undecided ~40", "2"), ("beaten", "too few", "#8")),
    words=2,
    brief=("arm", "verdict"),
    minor=frozenset({2}),
)


def tree(table: TextTable = TABLE, pages: bool = True) -> ElementTree.Element:
    return ElementTree.fromstring(html_table(table, lambda number: f"/t/{number}" if pages else ""))


def test_a_table_is_well_formed_and_trusts_no_text() -> None:
    found = tree()
    assert found.findtext("h3") == TABLE.title
    [table] = found.iter("table")
    assert table.get("aria-label") == TABLE.title
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    assert rows == [list(TABLE.columns), *map(list, TABLE.rows)]


def test_a_verdict_has_its_colour_and_what_only_looks_like_one_has_none() -> None:
    marked = {span.text: span.get("class") for span in tree().iter("span")}
    assert marked == {"beats": "verdict beats", "undecided ~40": "verdict undecided"}


def test_trials_are_links_where_they_have_pages() -> None:
    assert [(a.text, a.get("href")) for a in tree().iter("a")] == [("#7", "/t/7"), ("#8", "/t/8")]
    assert not list(tree(pages=False).iter("a"))
    assert anchor("", "words") == ""


def test_what_a_brief_look_leaves_out_is_marked() -> None:
    [*_, last] = tree().iter("tr")
    assert last.get("class") == "more"
    more = [cell.text for cell in tree().iter("th") if "more" in (cell.get("class") or "")]
    assert more == ["pairs"]


def test_every_cell_but_the_first_tells_the_name_of_its_column() -> None:
    first = next(row for row in tree().iter("tr") if row.find("td") is not None)
    assert [cell.get("data-name") for cell in first] == [None, "verdict", "pairs"]
