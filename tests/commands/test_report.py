"""What a study says, in a terminal, as JSON and as a page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.report import main
from search.spec.study import StudySpec
from search.storage.studies import open_study
from tests.support.made_trials import deep_pairs, made, study_of

pytestmark = pytest.mark.slow


@pytest.fixture
def url(tmp_path: Path, tiny: StudySpec) -> str:
    url = f"sqlite:///{tmp_path}/search.db"
    open_study(url, "tiny", tiny, "data", 100).add_trials(deep_pairs(14))
    return url


def test_tables_and_the_sentence(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--study", "some/where/tiny.toml", "--storage", url]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    said = "from 21 convs on pre-activation beats plain by 30 points [30, 30] (14 pairs)."
    assert f"Exploratory, 28 trials: {said}" in shown
    assert f"Next: python -m search.confirm --name tiny --storage {url} More: --details" in shown
    assert re.search(r"pre-activation 21\+ beats \+30 \[30, 30\] 14/0/0", shown)
    assert "Why trials ended as they did" not in shown
    assert main(["--name", "tiny", "--storage", url, "--details"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"pre-activation 21\+ beats \+30 \[30, 30\] 14 14/0/0", shown)
    assert "Why trials ended as they did" in shown


def test_a_trial_is_shown_with_its_twins(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "trial.html"
    words = ["--name", "tiny", "--storage", url, "--trial", "1"]
    assert main([*words, "--html", str(page)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Trial 1: preact, " in shown
    assert re.search(r"\+(29|30|31) points against its plain twin, trial 0", shown)
    assert f"python -m search.repeat 1 --name tiny --storage {url}" in shown
    assert "<title>tiny, trial 1</title>" in page.read_text()
    assert main([*words[:-1], "28"]) == 2
    assert "no trial 28 in the study 'tiny': it has 0 to 27" in capsys.readouterr().err


def test_json_is_the_evidence_and_nothing_else(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--name", "tiny", "--storage", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["study"], found["confirmation"]) == (5, "tiny", None)
    assert found["search"]["duels"][0]["word"] == "beats"
    assert found["search"]["baseline"] == "plain"


def test_the_page_is_one_file(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.html"
    assert main(["--name", "tiny", "--storage", url, "--html", str(path)]) == 0
    html = path.read_text()
    assert "plain by 30 points" in html
    assert "beats plain by 30 points" in capsys.readouterr().out.replace("\n", " "), (
        "the terminal says it too"
    )
    assert main(["--name", "tiny", "--storage", url, "--html", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "tiny"
    assert not re.search(r"""<(?:script|img|link|iframe)[^>]* (?:src|href)=""", html)


def test_a_page_that_cannot_be_written_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--name", "tiny", "--storage", url, "--html", "/nowhere/x.html"]) == 2
    assert "--html /nowhere/x.html cannot be written" in capsys.readouterr().err


def test_an_unknown_study_is_answered_with_those_that_exist(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--storage", url]) == 2
    assert capsys.readouterr().err == (
        "error: no study 'digits' in the database, which has: tiny; choose with --name\n"
    )


def test_no_database_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--storage", f"sqlite:///{tmp_path}/no/search.db"]) == 75
    assert main(["--storage", f"sqlite:///{tmp_path}/no.db"]) == 75
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.count("error: ") == 2


def test_a_report_changes_nothing(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tmp_path / "search.db").read_bytes()
    assert main(["--name", "tiny", "--storage", url]) == 0
    assert (tmp_path / "search.db").read_bytes() == before


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [made(0, "plain", state=TrialState.FAIL)],
        [made(0, "residual", state=TrialState.PRUNED)],
        study_of(30),
    ],
    ids=["empty", "failed", "pruned", "mixed"],
)
def test_a_study_in_any_state(
    trials: list[FrozenTrial], tmp_path: Path, tiny: StudySpec, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    open_study(url, "tiny", tiny, "data", 100).add_trials(trials)
    for option in ([], ["--json"], ["--html", str(tmp_path / "x.html")]):
        assert main(["--name", "tiny", "--storage", url, *option]) == 0
    assert "exploratory" in capsys.readouterr().out
