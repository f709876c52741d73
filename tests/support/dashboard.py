"""The dashboard as a person meets it: a real server, a real browser."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.paths import REPOSITORY

LOGIN = "ada:correct horse"


def make_login(login: str) -> str:
    user, _, password = login.partition(":")
    words = [sys.executable, "-m", "search.dashboard", "--make-login", user]
    return subprocess.run(
        words, cwd=REPOSITORY, input=password + "\n", stdout=subprocess.PIPE, text=True, check=True
    ).stdout


class Server:
    """`python -m search.dashboard` on a free port."""

    def __init__(self, folder: Path, *options: str) -> None:
        words = ["--storage", f"sqlite:///{folder}/search.db", "--artifacts", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "search.dashboard", *words, *options],
            cwd=REPOSITORY,
            env={k: v for k, v in os.environ.items() if not k.startswith("OPTUNA")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.says = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.says)
        assert found, self.says + self.close()
        self.port = int(found[1])

    def ask(
        self, method: str, path: str, login: str | None = None, body: str | None = None, **headers: str
    ) -> tuple[int, HTTPMessage, bytes]:
        if login is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def studies(self, login: str | None = None) -> list[str]:
        status, _, body = self.ask("GET", "/api/studies", login)
        assert status == 200
        return [study["study_name"] for study in json.loads(body)["study_summaries"]]

    def close(self, number: signal.Signals = signal.SIGTERM) -> str:
        """What it printed while it served. It ends well."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode in (0, 2, 75), err
        return out + err


CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,1000",
]

SIZES = [(1300, 1000), (1024, 800), (390, 844)]
"""Screens of a laptop, of an old one and of a phone, in pixels."""

COLLECT = """
window.violations = []
addEventListener("securitypolicyviolation", (v) => violations.push(v.violatedDirective + " " + v.blockedURI))
"""
"""The console does not tell of those that a page expects and works around."""


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the page's policy forbade it, and errors on the console since the last call."""
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    violations: list[str] = browser.execute_script("return window.violations || []")
    return violations + errors


def look_at(browser: webdriver.Chrome, size: tuple[int, int], scheme: str) -> None:
    """The page as a screen of this size shows it, in a theme."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    theme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
    browser.refresh()


def shows(browser: webdriver.Chrome, selector: str, text: str = "") -> None:
    WebDriverWait(browser, 60).until(
        lambda _: any(text in found.text for found in browser.find_elements(By.CSS_SELECTOR, selector))
    )


@contextmanager
def a_browser(folder: Path) -> Iterator[webdriver.Chrome]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        message = "NOT TESTED IN A BROWSER: install chromium and chromium-driver"
        pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in [*CHROMIUM, f"--user-data-dir={folder}/browser"]:
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(driver))
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COLLECT})
    try:
        yield browser
    finally:
        browser.quit()
