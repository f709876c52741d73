"""Who may import whom, and who may call what: read from the source, late imports included, so that nothing
needs to run."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from models.arms.arm import ARMS

ORDER = (
    "models", "errors", "environment", "keys", "data", "spec", "stats", "training", "storage", "devices",
    "design", "analysis", "trials", "workers", "views", "web", "cli", "commands",
)  # fmt: skip
"""Packages and lone modules of the product. Each imports only from those before it."""
APART = [({"trials", "workers"}, {"views", "web"})]
"""Execution and presentation never import each other, in neither direction."""
WITHOUT = {
    "torch": {
        "errors", "environment", "keys", "spec", "stats", "storage", "design", "analysis", "views", "web",
        "cli", "commands",
    },
    "optuna": {"models", "errors", "environment", "keys", "data", "spec", "stats", "training", "devices"},
    "rich": set(ORDER) - {"views", "web", "cli", "commands"},
    "plotly": set(ORDER) - {"views", "web", "cli", "commands"},
}  # fmt: skip
"""Libraries, with the packages that import them nowhere, not even late."""
FOLDER_MOST = 13

MODULES = {
    ".".join(path.with_suffix("").parts): path
    for path in sorted([*Path("models").rglob("*.py"), *Path("search").rglob("*.py")])
    if path.name != "__init__.py"
}
FILES = MODULES | {
    ".".join(path.with_suffix("").parts): path
    for path in sorted([*Path("models").rglob("__init__.py"), *Path("search").rglob("__init__.py")])
}
"""Modules, and the files that make their folders packages."""


def package_of(module: str) -> str:
    """The part of the house that a module is in; what lies in search/ itself is a command."""
    top, second, *further = [*module.split("."), ""]
    if top == "models":
        return "models"
    if second in ("errors", "environment", "keys"):
        return second
    return second if any(further) and second != "secrets" else "commands"


@cache
def imports_of(path: Path, with_types: bool = False) -> frozenset[tuple[str, bool]]:
    """Modules that a file imports, be it by their names in strings, and whether it needs them at once: not
    within a function. `from search import x` is the module x. `with_types`: also what type checkers alone
    read."""
    found: set[tuple[str, bool]] = {(name, False) for name in named_in_strings(path)}

    def visit(node: ast.AST, at_once: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_once = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in [*node.orelse, *(node.body if with_types else [])]:
                visit(child, at_once)
            return
        if isinstance(node, ast.Import):
            found.update((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name in MODULES or Path(*name.split(".")).is_dir()
                found.add((name if is_module else str(node.module), at_once))
        for child in ast.iter_child_nodes(node):
            visit(child, at_once)

    visit(ast.parse(path.read_text()), True)
    return frozenset(found)


def named_in_strings(path: Path) -> set[str]:
    """Modules that are loaded by their names: all that import_module is given, and whatever else is the name
    of one of ours."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and node.value in MODULES:
            found.add(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.update(leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant))
    return {str(name) for name in found}


def ours(path: Path) -> set[str]:
    return {name for name, _ in imports_of(path, True) if name.split(".")[0] in ("models", "search")}


def test_a_package_itself_imports_nothing() -> None:
    assert [name for name in FILES.keys() - MODULES if FILES[name].read_text()] == []


@pytest.mark.parametrize("module", FILES)
def test_a_package_imports_only_packages_before_it(module: str) -> None:
    own = package_of(module)
    assert own in ORDER, f"{module} lies in no package of ORDER"
    for name in ours(FILES[module]):
        other = package_of(name)
        assert other in ORDER, f"{module} imports {name}, which lies in no package of ORDER"
        if other == own == "commands" or other == own:
            continue
        assert ORDER.index(other) < ORDER.index(own), f"{module} imports {name}"
        for one, another in APART:
            apart = (own in one and other in another) or (own in another and other in one)
            assert not apart, f"{module} imports {name}"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if package_of(m) == "commands" and m != "search.__main__"]
)
def test_a_command_imports_no_other_command(module: str) -> None:
    assert "commands" not in {package_of(name) for name in ours(MODULES[module])}


def test_no_two_modules_import_each_other() -> None:
    """Also not in a circle of several, and not within a package."""
    arrows = {m: {n for n, at_once in imports_of(p) if at_once and n in MODULES} for m, p in MODULES.items()}
    arrows["models.arms.arm"] -= {"models.arms.plain"}  # it finds its neighbours by their names
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join([*way[way.index(module) :], module])}"
        if module not in done:
            for other in arrows[module]:
                walk(other, (*way, module))
            done.add(module)

    for module in arrows:
        walk(module, ())


@pytest.mark.parametrize(("library", "packages"), WITHOUT.items())
def test_libraries_are_imported_where_they_belong(library: str, packages: set[str]) -> None:
    for module, path in FILES.items():
        names = {name.split(".")[0] for name, _ in imports_of(path)}
        if package_of(module) in packages:
            assert library not in names, f"{module} imports {library}"


def reaches(module: str, seen: set[str]) -> set[str]:
    """Libraries that importing a module brings in, through our own modules."""
    if module in seen or module not in MODULES:
        return set()
    seen.add(module)
    found: set[str] = set()
    for name, at_once in imports_of(MODULES[module]):
        if at_once:
            top = name.split(".")[0]
            found |= reaches(name, seen) if top in ("models", "search") else {top}
    return found


@pytest.mark.parametrize(
    ("packages", "forbidden"),
    [
        ({"errors", "environment", "keys"}, {"torch", "numpy", "optuna"}),
        ({"spec", "stats"}, {"torch", "optuna"}),
        ({"data"}, {"optuna"}),
        ({"training", "devices"}, {"optuna"}),
        ({"storage", "design", "analysis", "views", "web"}, {"torch"}),
        ({"commands"}, {"torch"}),
    ],
)
def test_what_importing_a_package_must_not_bring_in(packages: set[str], forbidden: set[str]) -> None:
    for module in MODULES:
        if package_of(module) in packages:
            assert not reaches(module, set()) & forbidden, module


@pytest.mark.parametrize(
    "module",
    [
        "models.architecture", "models.arms.arm", "models.cost", "models.norms", "models.inits",
        "models.heads", "models.parts", "search.workers.trial_loop", "search.workers.heartbeat",
        "search.workers.watchdog", "search.workers.stop", "search.workers.job", "search.workers.pool",
        "search.data.datasets", "search.data.config",
    ],
)  # fmt: skip
def test_what_can_be_read_without_torch(module: str) -> None:
    assert "torch" not in reaches(module, set())


@pytest.mark.parametrize("module", ["search.secrets.__main__", "search.web.passwords", "search.cli.options"])
def test_what_needs_nothing_but_python(module: str) -> None:
    import sys

    assert reaches(module, set()) <= set(sys.stdlib_module_names)


def calls_in(path: Path) -> set[str]:
    return {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


@pytest.mark.parametrize(
    ("homes", "calls"),
    [
        ({"search.design.space"}, {"suggest_categorical", "suggest_int", "suggest_float"}),
        ({"search.trials.reporter"}, {"should_prune"}),
        ({"search.storage.studies"}, {"create_study", "load_study"}),
    ],
)
def test_calls_that_have_one_home(homes: set[str], calls: set[str]) -> None:
    assert {name for name, path in MODULES.items() if calls_in(path) & calls} == homes


@pytest.mark.parametrize(
    ("text", "homes"),
    [
        (r"environ\.get\(.OPTUNA_STORAGE.\)", {"search.storage.urls"}),
        (r"user_attrs\[[\"']|user_attrs\.get|\.set_user_attr\(|\.user_attrs\b(?!\[|,| =)",
         {"search.storage.trial_record", "search.storage.study_record", "search.storage.studies"}),
        (r"system_attrs\[[\"']|system_attrs\.get\(", {"search.storage.trial_record"}),
        (r"os\.environ\.get\((?!.OPTUNA|.CUDA)", {"search.environment"}),
    ],
)  # fmt: skip
def test_names_that_have_one_home(text: str, homes: set[str]) -> None:
    """Addresses, attributes and settings."""
    code = {name: re.sub(r'"""(?s:.*?)"""', "", path.read_text()) for name, path in MODULES.items()}
    found = {
        name for name, lines in code.items() if any(re.search(text, line) for line in lines.splitlines())
    }
    assert found <= homes, found - homes
    assert found


PRIVATE_HOMES = {
    "search.storage.internals", "search.storage.row_storage", "search.storage.claim_storage",
    "search.training.kernels", "search.web.dashboard_internals",
}  # fmt: skip
"""Modules that use private names of Optuna, torch and optuna-dashboard; tests beside them pin each."""


@pytest.mark.parametrize("module", [name for name in MODULES if name not in PRIVATE_HOMES])
def test_private_names_of_others_have_few_homes(module: str) -> None:
    """A name with an underscore is asked of oneself alone."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        private = isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
        if private and not is_self(node.value):
            raise AssertionError(f"{module}, line {node.lineno}: {ast.unparse(node)}")
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and not node.module.startswith(("search", "models"))
        ):
            assert not any(part.startswith("_") for part in node.module.split(".") if part != "__future__")
            assert not any(alias.name.startswith("_") for alias in node.names), (
                f"{module}: {ast.unparse(node)}"
            )


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "os")  # os._exit is public by its use


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("models.arms.")])
def test_no_arm_is_named_outside_its_file(module: str) -> None:
    """But as values written down: defaults of studies, and of the presets."""
    if module in ("search.spec.tables", "models.presets"):
        return
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        assert not (isinstance(node, ast.Constant) and node.value in ARMS), f"{module}, line {node.lineno}"


def test_folders_and_modules_stay_small() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        assert len([path for path in MODULES.values() if path.parent == folder]) <= FOLDER_MOST, folder
    for module, path in MODULES.items():
        assert len(path.read_text().splitlines()) <= 260, module


def test_no_two_things_have_one_name() -> None:
    """Classes, constants and public functions of the product; every command has its own main, parse, run."""
    homes: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                homes[node.name].add(module)
            elif isinstance(node, ast.Assign):
                targets = [leaf for t in node.targets for leaf in ast.walk(t) if isinstance(leaf, ast.Name)]
                for target in targets:
                    homes[target.id].add(module)
    allowed = {"main", "parse", "run", "EXAMPLES", "FIGURES", "MAKERS"}
    shared = {n: h for n, h in homes.items() if len(h) > 1 and n not in allowed and not n.startswith("_")}
    assert not shared


@pytest.mark.parametrize("module", MODULES)
def test_no_module_hides_one_of_the_standard_library(module: str) -> None:
    """For whatever is run from its folder, that folder is looked into first."""
    import sys

    path = MODULES[module]
    is_package = (path.parent / "__init__.py").exists()  # search/secrets is none, and hides nothing
    names = {path.stem, path.parent.name if is_package else ""} - {"__main__"}
    assert not names & set(sys.stdlib_module_names)
