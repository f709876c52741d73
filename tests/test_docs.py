"""The README says what is so."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from search.run import EXAMPLES, parse
from search.studyfile import find_study

README = Path("README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python -m search\.run ?(--[^`\n&]*)?", README + EXAMPLES)) - {""})


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_parses(line: str) -> None:
    words = shlex.split(re.split(r"  +", line)[0])
    if words == ["--help"]:
        with pytest.raises(SystemExit):
            parse(words)
        return
    options = parse(words)
    if not options.study.endswith(".toml"):
        find_study(options.study)


def test_every_option_is_in_the_readme_or_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = capsys.readouterr().out
    options = re.findall(r'add_argument\(\s*"(--[a-z]+)"', Path("search/run.py").read_text())
    assert len(options) > 5
    for option in options:
        assert option in shown


def test_every_study_is_described() -> None:
    text = Path("studies/README.md").read_text()
    for path in Path("studies").glob("*.toml"):
        assert f"`{path.name}`" in text


def test_every_module_is_on_the_map() -> None:
    for path in [*Path("models").glob("*.py"), *Path("search").glob("*.py")]:
        if path.stem not in ("__init__", "errors", "downloads", "imagefiles"):
            assert path.name in README, f"{path} is missing in the README's list"


def test_every_setting_is_in_the_readme() -> None:
    code = "".join(path.read_text() for path in Path("search").glob("*.py"))
    for name in set(re.findall(r"\b(?:ARCHSEARCH|OPTUNA)_[A-Z_]+\b", code)):
        assert f"`{name}`" in README


def test_the_set_up_lines_install_what_pyproject_names() -> None:
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"'\.\[(\w+)\]'", README)) == set(extras)
