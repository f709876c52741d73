"""The README says what is so."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from search import confirm, dashboard, fetch, migrate, repeat, report, run, secrets
from search.spec.study_file import find_study

README = Path("README.md").read_text()
Parse = Callable[[Sequence[str] | None], argparse.Namespace]
PARSERS: dict[str, Parse] = {
    module.__name__.removeprefix("search."): module.parse
    for module in (confirm, dashboard, fetch, migrate, repeat, report, run, secrets)
}
HELP = "".join(module.EXAMPLES for module in (confirm, dashboard, fetch, repeat, run))
COMMANDS = sorted(set(re.findall(r"python -m search\.([a-z]+)(?: ([^`\n&>]*))?", README + HELP)))


@pytest.mark.parametrize(("command", "line"), COMMANDS)
def test_every_command_line_parses(command: str, line: str) -> None:
    words = shlex.split(re.split(r"  +", line)[0])
    if words == ["--help"] or words[:1] in (["TRIAL"], ["FILE"]):
        return
    options = PARSERS[command](["0"] if command == "repeat" and not words else words)
    study = getattr(options, "study", None) or "digits"
    if not study.endswith(".toml"):
        find_study(study)


@pytest.mark.parametrize("command", PARSERS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        PARSERS[command](["--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 " in capsys.readouterr().out
    assert re.search(rf"python3? -m search\.{command}\b", README)


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
