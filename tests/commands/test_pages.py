"""What a visitor sees: a study that was searched and confirmed for real, in a real browser, with a login."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from search.analysis.trials import best_of
from tests.support.commands import Command
from tests.support.confirmations import SETTINGS
from tests.support.dashboard import LOGIN, SIZES, Server, complaints, look_at, make_login, shows
from tests.support.made_trials import records

pytestmark = [pytest.mark.slow, pytest.mark.process]

PLOT = "user-defined-plot:"
SHOWN = """
const figure = document.getElementById(arguments[0])
return figure?.data?.map((trace) => (trace.y || trace.cells?.values || []).length)
"""
DRAWN = """
const figures = [...document.querySelectorAll('figure')]
return figures.length && figures.every((figure) => figure.querySelector('.plot').data)
"""
WIDTHS = """
const names = [...document.querySelectorAll('.MuiListItemButton-root')]
const first = names.find((name) => /Trial 0/.test(name.textContent))
return [document.documentElement.scrollWidth, innerWidth, first.getBoundingClientRect().width]
"""
HIDDEN = """
const boxes = [document.documentElement, ...document.querySelectorAll(".scroll, figure")]
return boxes.filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.outerHTML.slice(0, 99))
"""
INKED = """
const figure = document.getElementById(arguments[0])
return figure.querySelectorAll(".point, .js-line, .cell-text").length
"""


class Site(Server):
    """A dashboard of a search of nine trials and its confirmation."""

    def __init__(self, folder: Path) -> None:
        self.command = Command(folder)
        self.command.study.write_text(self.command.study.read_text() + SETTINGS)
        for options, name in ((("--trials", "9"), "run"), ((), "confirm")):
            done = self.command.run(*options, "--workers", "1", "--quiet", command=name)
            assert (done.returncode, done.stderr) == (0, "")
        (folder / "logins").write_text(make_login(LOGIN))
        (folder / "logins").chmod(0o600)
        super().__init__(folder, "--auth-file", f"{folder}/logins", "--artifacts", f"{folder}/artifacts")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


def figures(site: Site, study: int) -> dict[str, Any]:
    status, _, body = site.ask("GET", f"/api/studies/{study}", LOGIN)
    assert status == 200
    return {
        figure["id"]: json.loads(figure["graph_object"])
        for figure in json.loads(body)["plotly_graph_objects"]
    }


def visit(site: Site, browser: webdriver.Chrome, page: str) -> None:
    """Opens a page with the login, which is not in its address: optuna-dashboard could not fetch with it."""
    user, _, password = LOGIN.partition(":")
    browser.get(f"http://{user}:{password.replace(' ', '%20')}@127.0.0.1:{site.port}/assets/answer.css")
    browser.get(f"http://127.0.0.1:{site.port}{page}")


@pytest.mark.parametrize(
    ("study", "count", "says"),
    [(1, 9, "Exploratory, "), (2, 8, "confirmed (test")],
    ids=["search", "confirmation"],
)
def test_the_sentence_and_every_figure_are_drawn_with_their_data(
    site: Site, browser: webdriver.Chrome, study: int, count: int, says: str
) -> None:
    stored = figures(site, study)
    assert list(stored) == sorted(stored), "in the order in which they are to be read"
    assert len(stored) == count
    visit(site, browser, f"/dashboard/studies/{study}")
    for name, figure in stored.items():
        drawn = WebDriverWait(browser, 60).until(
            lambda _, name=name: browser.execute_script(SHOWN, PLOT + name)
        )
        sizes = [len(t.get("y") or t.get("cells", {}).get("values") or []) for t in figure["data"]]
        assert drawn == sizes, name
        assert browser.execute_script(INKED, PLOT + name) > 0, f"{name} is empty"
    first = browser.find_element("id", f"{PLOT}archsearch-1-degradation")
    assert says in first.text.replace("\n", " ")
    assert complaints(browser) == []
    browser.get(f"http://127.0.0.1:{site.port}/dashboard/studies/{study}/note")
    shows(browser, "strong", says)
    shows(browser, "table", "residual")


def test_the_best_trial_shows_its_artifacts(site: Site, browser: webdriver.Chrome) -> None:
    best = best_of(records(site.command.trials()))
    assert best is not None
    visit(site, browser, f"/dashboard/studies/1/trials?numbers={best.number}")
    for name in ("architecture.json", "architecture.txt", "weights.pt"):
        shows(browser, "body", name)
    assert complaints(browser) == []


def drawn(browser: webdriver.Chrome) -> bool:
    """Whether every figure of one of our pages is drawn."""
    return bool(browser.execute_script(DRAWN))


def test_the_first_screen_answers_and_leads_on_and_back(site: Site, browser: webdriver.Chrome) -> None:
    visit(site, browser, "/")
    shows(browser, ".card .sentence", "onfirmed (test")
    shows(browser, ".card .sentence", "Exploratory, ")
    WebDriverWait(browser, 60).until(drawn)
    [card] = browser.find_elements(By.CSS_SELECTOR, ".card")
    assert card.find_element(By.CSS_SELECTOR, "h2").text == "tiny", (
        "a confirmation is on the card of its search"
    )
    card.find_element(By.LINK_TEXT, "All figures and tables").click()
    shows(browser, "h1", "tiny")
    WebDriverWait(browser, 60).until(drawn)
    browser.find_element(By.LINK_TEXT, "In optuna-dashboard").click()
    shows(browser, "#archsearch", "The answer of this study")
    browser.find_element(By.CSS_SELECTOR, "#archsearch a").click()
    shows(browser, "h1", "tiny")
    assert complaints(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "1024", "390"])
def test_the_first_screen_fits_every_screen(
    site: Site, browser: webdriver.Chrome, size: tuple[int, int], scheme: str
) -> None:
    visit(site, browser, "/")
    look_at(browser, size, scheme)
    WebDriverWait(browser, 60).until(drawn)
    assert browser.execute_script(HIDDEN) == [], "nothing scrolls sideways"


def test_a_trial_has_a_page_with_its_files(site: Site, browser: webdriver.Chrome) -> None:
    best = best_of(records(site.command.trials()))
    assert best is not None
    visit(site, browser, f"/studies/1/trials/{best.number}")
    shows(browser, ".sentence", f"Trial {best.number}: ")
    WebDriverWait(browser, 60).until(drawn)
    kept = browser.find_element(By.LINK_TEXT, "weights.pt").get_attribute("href")
    status, _, body = site.ask("GET", "/" + str(kept).split("/", 3)[3], LOGIN)
    assert (status, body[:2]) == (200, b"PK")
    assert complaints(browser) == []


def test_the_page_of_a_trial_in_optuna_dashboard_is_as_wide_as_the_screen(
    site: Site, browser: webdriver.Chrome
) -> None:
    visit(site, browser, "/dashboard/studies/1/trials?numbers=0")
    shows(browser, "body", "Again, bit for bit on a CPU")
    shows(browser, "body", "User Attributes")
    wide, screen, named = browser.execute_script(WIDTHS)
    assert wide <= screen
    assert named > 150, "the list of trials beside it"
    shows(browser, "#archsearch", "Trial 0 and its twins")


def test_read_only_is_said_where_buttons_would_change_something(
    site: Site, browser: webdriver.Chrome
) -> None:
    visit(site, browser, "/dashboard")
    shows(browser, "#archsearch", "Read-only")
    refused = "button[data-archsearch=refused]"
    WebDriverWait(browser, 60).until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, refused)) >= 5)
    buttons = browser.find_elements(By.CSS_SELECTOR, refused)
    assert all("--allow-writes" in str(button.get_attribute("title")) for button in buttons)
    for button in buttons:
        button.click()
    assert not browser.find_elements(By.CSS_SELECTOR, "[role=dialog]")
    browser.get(f"http://127.0.0.1:{site.port}/dashboard/studies/1/note")
    shows(browser, refused)


def test_the_page_is_renewed_while_trials_end(site: Site, browser: webdriver.Chrome, tmp_path: Path) -> None:
    with (  # the site has it open, part of it in its log
        closing(sqlite3.connect(site.command.folder / "search.db")) as theirs,
        closing(sqlite3.connect(tmp_path / "search.db")) as ours,
    ):
        theirs.backup(ours)
    server = Server(tmp_path)
    try:
        browser.get(f"http://127.0.0.1:{server.port}/")
        shows(browser, ".facts", "9 of 9 trials")
        browser.execute_script("window.same = true")
        study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path}/search.db")
        study.add_trial(study.trials[0])
        shows(browser, ".facts", "10 trials")
        WebDriverWait(browser, 60).until(drawn)
        assert browser.execute_script("return window.same"), "without loading it again"
        assert complaints(browser) == []
    finally:
        server.close()


def test_nobody_changes_anything_and_strangers_see_nothing(site: Site) -> None:
    assert site.ask("GET", "/api/studies/1")[0] == 401
    assert site.ask("DELETE", "/api/studies/1", LOGIN)[0] == 405
    assert site.studies(LOGIN) == ["tiny", "tiny-confirm"]
