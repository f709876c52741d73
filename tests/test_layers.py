"""Who may import whom, and who may call what: read from the source, so that nothing needs to run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODULES = {path.stem: path for path in [*Path("models").glob("*.py"), *Path("search").glob("*.py")]}


def imports_of(path: Path) -> set[str]:
    """Full names of everything imported anywhere in a file, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reaches(path: Path, seen: set[Path]) -> set[str]:
    """Top-level packages that importing a module brings in, through our own modules."""
    if path in seen:
        return set()
    seen.add(path)
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:  # module level only: functions may import late
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]:
            top, _, rest = name.partition(".")
            if top in ("models", "search") and rest:
                found |= reaches(Path(top) / f"{rest}.py", seen)
            found.add(top)
    return found


def calls_in(path: Path) -> set[str]:
    return {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


@pytest.mark.parametrize("path", sorted(Path("models").glob("*.py")), ids=str)
def test_models_know_no_study(path: Path) -> None:
    assert not any(name.split(".")[0] in ("search", "optuna") for name in imports_of(path))


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("architecture", {"torch", "numpy", "optuna"}),
        ("errors", {"torch", "numpy", "optuna"}),
        ("spec", {"torch", "optuna"}),
        ("studyfile", {"torch", "optuna"}),
        ("datasets", {"torch", "optuna"}),
        ("train", {"optuna"}),
        ("data", {"optuna"}),
        ("claims", {"torch"}),
        ("arms", {"torch"}),
        ("storage", {"torch"}),
        ("loop", {"torch"}),
        ("heart", {"torch"}),
        ("findings", {"torch"}),
        ("verdict_figures", {"torch"}),
        ("confirm", {"torch"}),
        ("repeat", {"torch"}),
        ("checkpoints", {"optuna"}),
        ("optimization", {"optuna"}),
        ("graph", {"optuna"}),
        ("report", {"torch"}),
        ("progress", {"torch"}),
        ("run", {"torch"}),
        ("memory", {"torch", "optuna"}),
        ("places", {"torch", "optuna"}),
        ("statistics", {"torch", "optuna"}),
        ("dashboard", {"torch"}),
        ("guard", {"torch", "optuna"}),
    ],
)
def test_what_importing_a_module_must_not_bring_in(module: str, forbidden: set[str]) -> None:
    assert not reaches(MODULES[module], set()) & forbidden


@pytest.mark.parametrize(
    ("home", "calls"),
    [
        ("space", {"suggest_categorical", "suggest_int", "suggest_float"}),
        ("reporter", {"should_prune"}),
        ("storage", {"create_study", "load_study"}),
    ],
)
def test_calls_that_have_one_home(home: str, calls: set[str]) -> None:
    homes = {name for name, path in MODULES.items() if calls_in(path) & calls}
    assert homes <= {home}
    assert homes


def test_only_one_module_reads_the_storage_variable() -> None:
    users = {name for name, path in MODULES.items() if 'environ.get("OPTUNA_STORAGE' in path.read_text()}
    assert users == {"database"}


@pytest.mark.parametrize("path", sorted(MODULES.values()), ids=str)
def test_modules_stay_small_and_named_after_a_noun(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 260
    assert path.stem not in {"utils", "helpers", "common", "misc", "manager"}
