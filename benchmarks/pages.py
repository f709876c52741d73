"""How soon the dashboard's first screen answers, how large it is, and what a look costs a search. Linux."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.processes import ROOT, Search, clean_env, seconds_of
from benchmarks.table import Goal, Table, ratios, spread
from search.data.datasets import load
from search.spec.study_file import find_study, load_spec
from search.storage.connections import join_study
from search.storage.leases import worker_name
from search.storage.studies import open_study
from search.storage.trial_record import PLACE
from search.web.publish import publish

MOST_BYTES = 1_500_000
"""Goal: bytes of a page without the script that draws its figures."""
TABLES = (
    "trials", "trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes",
    "trial_system_attributes",
)  # fmt: skip
"""Those in which Optuna's storage keeps trials."""
LOOK_SECONDS = 5.0
"""Seconds between two looks of an open page."""
ANSWERED = """
const sentence = document.querySelector(".card .sentence:not([data-soon])")
return sentence ? performance.now() : 0
"""
DRAWN = """
const figures = [...document.querySelectorAll("figure")]
return figures.length && figures.every((figure) => figure.querySelector(".plot").data) ? performance.now() : 0
"""


def measure(
    sizes: tuple[int, ...] = (100, 1000, 5000),
    source: int = 30,
    rounds: int = 3,
    trials: int = 12,
    study: str | None = None,
) -> Table:
    """`sizes`: trials of a study, copies of `source` real ones; `rounds` and `trials`: of searches that are
    looked at; `study`: text of a study file in place of digits' default one."""
    table = Table(
        "The first screen",
        "A fresh dashboard over SQLite, headless Chromium on the same machine; seconds from asking for the "
        "page. Again: the browser has the scripts and the dashboard the answer. Bytes are those of the "
        "study's own page, unpacked, without the script that draws figures.",
        ("trials", "the sentence", "its figures", "the sentence, again", "figures, again", "kB",
         "optuna-dashboard's list, s", "its page is written in, s"),
    )  # fmt: skip
    if shutil.which("chromedriver") is None or find_spec("selenium") is None:
        table.unmeasured.append("the first screen: it needs chromedriver, and `pip install -e '.[test]'`")
        return table
    with tempfile.TemporaryDirectory() as folder:
        real = Search(folder, study, "source")
        real.run(source, workers=2)
        largest = 0
        for size in sizes:
            copied = Search(folder, study, f"copies{size}")
            seconds = _copy(real, copied, size)
            row, page = _looked_at(copied)
            largest = max(largest, page)
            table.add(f"{size:,}", *row, f"{page / 1000:,.0f}", *_listed(copied), f"{seconds:.1f}")
        with_page, alone = [], []
        for turn in range(rounds):
            for kept, watched in ((with_page, True), (alone, False)):
                searched = Search(folder, study, f"{'looked' if watched else 'alone'}{turn}")
                kept.append(_searched(searched, trials, watched))
    cost = spread(ratios(with_page, alone), 2, "x")
    goal = f"a page without its drawing script at most {MOST_BYTES / 1e6:g} MB"
    table.goals += [
        Goal(goal, f"{largest / 1000:,.0f} kB", largest <= MOST_BYTES),
        Goal(f"a search of {trials} trials while its page is open, against one alone", cost, None),
    ]
    return table


def _copy(real: Search, copied: Search, size: int) -> float:
    """A study of so many copies, in groups of their own. Returns the seconds in which its page is written."""
    path = copied.url.removeprefix("sqlite:///")
    shutil.copy(real.url.removeprefix("sqlite:///"), path)
    with closing(sqlite3.connect(path)) as database, database:
        [[count]] = database.execute("SELECT count(*) FROM trials")
        for turn in range(1, -(-size // count)):
            for table in TABLES:
                _copy_rows(database, table, count, turn)
        database.execute("DELETE FROM trials WHERE number >= ?", (size,))
    began = time.perf_counter()
    publish(join_study(copied.url, real.name, worker_name(), size)[0])
    return time.perf_counter() - began


def _copy_rows(database: sqlite3.Connection, table: str, count: int, turn: int) -> None:
    """The rows of the first `count` trials once more, for trials of further numbers and groups."""
    shift = turn * count
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    known = {"trial_id": f"trial_id + {shift}", "number": f"number + {shift}"}
    if table == "trial_system_attributes":
        group = f"json_set(value_json, '$.group', json_extract(value_json, '$.group') + {shift})"
        known["value_json"] = f"CASE key WHEN '{PLACE}' THEN {group} ELSE value_json END"
    own = names if table == "trials" else names[1:]  # the others' first column is a key of their own
    values = ", ".join(known.get(name, name) for name in own)
    database.execute(f"INSERT INTO {table} ({', '.join(own)}) SELECT {values} FROM {table} "
                     f"WHERE trial_id <= {count}")  # fmt: skip


@contextmanager
def _served(search: Search) -> Iterator[str]:
    """The address of a dashboard of the search."""
    words = ["search.dashboard", "--storage", search.url, "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        env=clean_env(search.folder),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+/", line)
            if found is None:
                raise RuntimeError(f"no dashboard: {line}")
            yield found[0]
        finally:
            process.terminate()


def _looked_at(search: Search) -> tuple[list[str], int]:
    """Seconds until the sentence and the figures are there, of a fresh dashboard and again; bytes of the
    page."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,1000"):
        options.add_argument(argument)
    with _served(search) as address:
        browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            cells = []
            for _ in range(2):
                browser.get(address)
                cells += [f"{_when(browser, script) / 1000:.1f}" for script in (ANSWERED, DRAWN)]
        finally:
            browser.quit()
        return cells, len(_got(f"{address}studies/1"))


def _when(browser: Any, script: str) -> float:
    """Milliseconds after the page was asked for at which the script finds something."""
    while not (found := browser.execute_script(script)):
        time.sleep(0.02)
    return float(found)


def _got(address: str) -> bytes:
    with urlopen(Request(address)) as answer:
        return bytes(answer.read())


def _listed(search: Search) -> list[str]:
    """Seconds in which optuna-dashboard lists the trials, the second time."""
    with _served(search) as address:
        for _ in range(2):
            began = time.perf_counter()
            _got(f"{address}api/studies/1")
            seconds = time.perf_counter() - began
    return [f"{seconds:.1f}"]


def _searched(search: Search, trials: int, watched: bool) -> float:
    """Seconds of training of a search; `watched`: its page is open meanwhile."""
    if not watched:
        search.run(trials, workers=2)
        return seconds_of(search.trials())
    spec = load_spec(find_study(search.study))
    open_study(search.url, search.name, spec, load(spec.data).fingerprint(), trials)
    over = threading.Event()
    with _served(search) as address:

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                _got(address)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            search.run(trials, workers=2)
        finally:
            over.set()
            looking.join()
    return seconds_of(search.trials())
