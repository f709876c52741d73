"""What the documents say is so."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import benchmarks.__main__ as measuring
from search import __main__ as front
from search import confirm, dashboard, fetch, migrate, repeat, report, run
from search.errors import SearchError
from search.secrets import __main__ as secrets
from search.spec.study_file import find_study

README, CONTRIBUTING = Path("README.md"), Path("CONTRIBUTING.md")
ARCHITECTURE = Path("docs/architecture.md")
GUIDES = (README, CONTRIBUTING, *sorted(Path("docs").glob("*.md")), Path("studies/README.md"))
"""Documents that tell people what to type and where to look."""
PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
PRODUCT = [path for top in ("search", "models") for path in sorted(Path(top).rglob("*.py"))]
Parse = Callable[[Sequence[str] | None], argparse.Namespace]
PARSERS: dict[str, Parse] = {
    "confirm": confirm.parse, "dashboard": dashboard.parse, "fetch": fetch.parse, "migrate": migrate.parse,
    "repeat": repeat.parse, "report": report.parse, "run": run.parse, "secrets": secrets.parse,
}  # fmt: skip
HELP = "".join(module.EXAMPLES for module in (confirm, dashboard, fetch, migrate, repeat, report, run))
TYPED = "".join(path.read_text() for path in GUIDES) + HELP
COMMANDS = sorted(set(re.findall(r"-m search\.([a-z]+)(?: ([^`\n&>|]*))?", TYPED)))
MEASUREMENTS = sorted(set(re.findall(r"-m benchmarks(?: ([a-z ]+))?`", TYPED)))
PATH = r"[\w./*-]*\w\.(?:py|toml|md|yaml|yml|sh)|\.ci/run"


@pytest.mark.parametrize(("command", "line"), COMMANDS)
def test_every_command_line_parses(command: str, line: str) -> None:
    words = shlex.split(re.split(r"  +|: ", line)[0])
    if words == ["--help"] or words[:1] in (["TRIAL"], ["FILE"]):
        return
    options = PARSERS[command](["0"] if command == "repeat" and not words else words)
    study = getattr(options, "study", None) or "digits"
    if not study.endswith(".toml") and study != "NAME":
        find_study(study)


@pytest.mark.parametrize("names", MEASUREMENTS)
def test_every_measurement_that_is_named_exists(names: str) -> None:
    assert set(names.split()) <= {*measuring.ALL, "NAME"}


def test_lines_are_found_at_all() -> None:
    """A pattern that finds nothing would find no mistake either."""
    assert {command for command, _ in COMMANDS} >= {"run", "confirm", "repeat", "report", "dashboard"}
    assert ("run", "--study cifar10 --device cuda") in COMMANDS
    assert "many" in MEASUREMENTS


@pytest.mark.parametrize("command", PARSERS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        PARSERS[command](["--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 " in capsys.readouterr().out
    assert re.search(rf"python3? -m search\.{command}\b", README.read_text())


def test_every_command_is_behind_the_one_name() -> None:
    assert set(PARSERS) == set(front.COMMANDS)
    assert PROJECT["project"]["scripts"] == {"archsearch": "search.__main__:main"}


def subclasses(kind: type[SearchError]) -> Iterator[type[SearchError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_exit_code_is_in_the_readme() -> None:
    [line] = re.findall(r"Commands end with ([^.]*)\.", README.read_text())
    told = set(map(int, re.findall(r"\b\d+\b", line)))
    assert told == {0, 130, *(kind.exit_code for kind in subclasses(SearchError))}


def test_every_study_is_described() -> None:
    text = Path("studies/README.md").read_text()
    for path in Path("studies").glob("*.toml"):
        assert f"`{path.name}`" in text


def test_every_setting_is_in_the_readme() -> None:
    code, readme = "".join(path.read_text() for path in PRODUCT), README.read_text()
    names = set(re.findall(r"\b(?:ARCHSEARCH|OPTUNA)_[A-Z_]+\b", code))
    assert len(names) > 5
    for name in names:
        assert f"| `{name}` |" in readme
    for name in re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE):
        assert name in names, f"{name} is no setting"


def test_every_extra_is_named_and_no_other() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    assert set(re.findall(r"'\.\[(\w+)\]'", README.read_text())) == extras
    code = "".join(path.read_text() for path in Path("benchmarks").glob("*.py")) + CONTRIBUTING.read_text()
    assert set(re.findall(r"'\.\[(\w+)\]'", code)) <= extras


def test_every_package_is_on_the_readmes_map() -> None:
    [block] = re.findall(r"## The code\n\n```\n(.*?)```", README.read_text(), re.DOTALL)
    for folder in [*Path("search").iterdir(), *(Path(top) for top in ("models", "studies", "benchmarks"))]:
        if folder.is_dir() and folder.name != "__pycache__":
            assert re.search(rf"\b{folder.name}\b", block), f"{folder} is missing"
    for name in PARSERS:
        assert re.search(rf"\b{name}\b", block), f"{name} is missing"


@pytest.mark.parametrize("document", GUIDES, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert "://" in link or (document.parent / link).exists(), link


@pytest.mark.parametrize("document", [README, CONTRIBUTING, *Path("docs").glob("*.md")], ids=str)
def test_files_that_are_named_exist(document: Path) -> None:
    for name in named_in(document.read_text()):
        path = name.partition(":")[0]
        assert "NAME" in path or located(path), path


@pytest.mark.parametrize("top", ["search", "models", "benchmarks"])
def test_tests_and_documents_that_code_names_exist(top: str) -> None:
    for path in Path(top).rglob("*.py"):
        for name in re.findall(r"\b(?:tests|docs)/[\w/]+\.(?:py|md)\b", path.read_text()):
            assert Path(name).exists(), f"{path}: {name}"


def named_in(text: str) -> list[str]:
    """Paths in code spans, with what is named of them behind a colon."""
    return [
        span for span in re.findall(r"`([^`\n]+)`", text) if re.fullmatch(rf"(?:{PATH})(?::[\w.]+)?", span)
    ]


@cache
def located(name: str) -> Path | None:
    """The file that a document names: from the root, from a package, or by a name that it alone has."""
    for top in (Path(), Path("search"), Path("models")):
        if (top / name).exists():
            return top / name
    found = [path for path in PRODUCT if path.name == name]
    return found[0] if len(found) == 1 else None


def defined_in(path: Path) -> set[str]:
    """Functions, classes, constants, and what a class has, alone and as Class.name."""

    def names(body: Sequence[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield node.name
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                yield from (target.id for target in targets if isinstance(target, ast.Name))

    tree = ast.parse(path.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    held = [(c.name, name) for c in classes for name in names(c.body)]
    return {*names(tree.body), *(name for _, name in held), *map(".".join, held)}


def test_what_the_architecture_names_behind_a_colon_is_in_that_file() -> None:
    pointed = [name for name in named_in(ARCHITECTURE.read_text()) if ":" in name]
    assert len(pointed) > 10
    for name in pointed:
        path, _, thing = name.partition(":")
        found = located(path)
        assert found, path
        assert thing in defined_in(found), name


def test_whatever_the_architecture_names_is_defined_somewhere() -> None:
    """Names in capitals or with a capital, of functions with an underscore, of packages with a dot before."""
    defined = set().union(*(defined_in(path) for path in [*PRODUCT, Path("tests/test_layers.py")]))
    for name in re.findall(r"`@?([A-Za-z_]\w*(?:\.\w+)*)`", ARCHITECTURE.read_text()):
        if name == "NAME" or name.endswith(".py") or find_spec_of(name):
            continue
        looks_like_a_name = re.search(r"[A-Z]|_", name)
        assert not looks_like_a_name or name in defined, name


def find_spec_of(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def packages_of_the_table() -> list[str]:
    """The first column of the architecture's table of packages."""
    table = ARCHITECTURE.read_text().partition("| package |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name for cell in cells for name in re.findall(r"`(?:search)?\.?(\w+)`", cell)]


def test_the_table_of_packages_is_the_order_of_imports() -> None:
    """tests/test_layers.py holds every module against the same order."""
    tree = ast.parse(Path("tests/test_layers.py").read_text())
    [order] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    ]
    assert [*packages_of_the_table(), "commands"] == list(order)


def test_every_package_of_the_table_exists_and_none_is_missing() -> None:
    names = packages_of_the_table()
    for name in names:
        module = name if name == "models" else f"search.{name}"
        assert importlib.import_module(module).__file__
    folders = {path.name for path in Path("search").iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(names)


def test_every_home_of_private_names_has_its_test() -> None:
    rows = re.findall(r"^\| (\w+-?\w+) \|.*\| `(tests/[\w/.]+)` \|$", ARCHITECTURE.read_text(), re.MULTILINE)
    assert [library for library, _ in rows] == ["Optuna", "torch", "optuna-dashboard"]
    bounded = {re.split(r"[><=\[]", text)[0]: text for text in PROJECT["project"]["dependencies"]}
    for library, test in rows:
        assert Path(test).exists(), test
        assert ",<" in bounded[library.lower()], f"{library} is not bounded"


def test_hooks_run_tools_that_are_installed_with_the_tests() -> None:
    hooks = yaml.safe_load(Path(".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    installed = {
        re.split(r"[><=\[]", text)[0] for text in PROJECT["project"]["optional-dependencies"]["test"]
    }
    said = re.search(r"(?m)^\.venv/bin/ruff .*$", CONTRIBUTING.read_text())
    assert said, "CONTRIBUTING has a line that runs them all"
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy"}
    for hook in hooks:
        python, _, tool, *words = hook["entry"].split()
        assert python == ".venv/bin/python"
        assert tool in installed
        assert find_spec(tool)
        assert f".venv/bin/{' '.join([tool, *words[:1]])}" in said[0]


def test_markers_that_documents_name_exist() -> None:
    markers = {text.partition(":")[0] for text in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    named = set(re.findall(r"pytest -m '?(?:not )?(\w+)", TYPED))
    assert named
    assert named <= markers
