"""Study files: studies/*.toml, read into a StudySpec; every mistake named with its key, value and file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from models.architecture import BLOCKS, INITS, NORMS, PRESETS, preset
from search.datasets import DataConfig
from search.errors import SpecError
from search.rules import FIXED, SPACE, TRAIN, choices, domain, number, one_of, whole
from search.spec import ConfirmSettings, Range, SearchSettings, Space, StudySpec, TrainSettings

STUDIES = Path("studies")
DEFAULT = "digits"
MAX_FILE_BYTES = 1 << 20


def find_study(study: str) -> Path:
    """The file of `--study`: a path, or a name in studies/. Raises SpecError listing the names."""
    path = Path(study)
    if path.suffix != ".toml" and path.name == study:
        path = STUDIES / f"{study}.toml"
    try:
        found = path.is_file()
    except OSError:  # a name too long, a folder that may not be read
        found = False
    if not found:
        names = ", ".join(sorted(p.stem for p in STUDIES.glob("*.toml"))) or "no study"
        shown = str(path)[:200]
        raise SpecError(f"no study file {shown}: {STUDIES}/ has {names}; or give the path of a .toml file")
    return path


def spec_of(study: str | None, name: str | None, stored: dict[str, Any]) -> StudySpec:
    """Of a study in the database, `stored` its attributes: from its file, or from itself where only `name` is
    given. Raises SpecError."""
    if "spec" not in stored:
        raise SpecError(f"the study {name!r} was not made by archsearch: choose another with --name")
    values = stored["spec"]
    if study is not None or name is None:
        return load_spec(find_study(study or DEFAULT), seed=values["search"]["seed"])
    if values["data"]["name"] in ("npz", "folder"):
        raise SpecError(f"--study FILE is needed as well: it says where the images of {name!r} lie")
    return StudySpec.from_canonical(name, values)


def load_spec(path: Path, *, seed: int | None = None) -> StudySpec:
    """The spec in a file, `seed` taking the place of search.seed. Raises SpecError naming key and file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SpecError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: not a study file")
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOML, UTF-8, numbers of 5,000 digits
        raise SpecError(f"{path} is not valid TOML: {str(error)[:200]}") from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return _parse(tables, path.stem, seed)
    except SpecError as error:
        raise SpecError(f"{error} (in {path})") from None


class _Table:
    """One table of the file: every key is taken once, what is left over is refused."""

    def __init__(self, tables: dict[str, Any], name: str) -> None:
        values = tables.pop(name, {})
        if not isinstance(values, dict):
            raise SpecError(f"{name} must be a table, [{name}], got {_short(values)}")
        self.name, self.values = name, dict(values)
        self.known: list[str] = []

    def take(self, key: str, parse: Callable[[Any], Any], default: Any = ...) -> Any:
        self.known.append(key)
        if key not in self.values:
            if default is ...:
                raise SpecError(f"{self.name}.{key} is missing")
            return default
        value = self.values.pop(key)
        try:
            return parse(value)
        except ValueError as error:
            raise SpecError(f"{self.name}.{key} {error}, got {_short(value)}") from None

    def done(self) -> None:
        for key in self.values:
            raise SpecError(_unknown(f"{self.name}.{key}", key, self.known))


def _unknown(what: str, key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{what} is not a key: {hint}Known: {', '.join(known)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _per_stage(value: Any) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise ValueError("must list 1 to 8 stages, each a width or a list of widths")
    return tuple(choices(SPACE["width"])(stage) for stage in value)


def _parse(tables: dict[str, Any], name: str, seed: int | None) -> StudySpec:
    known = ["data", "space", "train", "search", "confirm"]
    for key in tables:
        if key not in known:
            raise SpecError(_unknown(f"[{key}]", key, known).replace("a key", "a table"))
    data, space = _parse_data(_Table(tables, "data")), _parse_space(_Table(tables, "space"))
    train, search = _parse_train(_Table(tables, "train")), _parse_search(_Table(tables, "search"))
    if seed is not None:
        search = replace(search, seed=seed)
    if search.sampler == "gp" and search.design == "matched":
        raise SpecError('search.sampler = "gp" needs search.design = "free": it cannot look at one arm alone')
    confirm = _parse_confirm(_Table(tables, "confirm"))
    return StudySpec(name=name, data=data, space=space, train=train, search=search, confirm=confirm)


def _parse_data(table: _Table) -> DataConfig:
    """DataConfig checks its own values: data sets are also loaded without a study file."""
    keys = [field.name for field in fields(DataConfig)]
    values = {key: table.take(key, lambda value: value) for key in keys if key in table.values}
    table.known = keys
    table.done()
    if "name" not in values:
        raise SpecError("data.name is missing")
    return DataConfig(**values)


def _parse_space(table: _Table) -> Space:
    base = table.take("preset", one_of(*PRESETS), None)
    known = preset(base) if base else None

    def default(key: str, otherwise: Any) -> Any:
        return getattr(known, key) if known else otherwise

    space = Space(
        block=table.take("block", choices(SPACE["block"]), BLOCKS),
        blocks=table.take("blocks", domain(SPACE["blocks"]), (known.stages[0].blocks,) if known else ...),
        widths=table.take("widths", _per_stage, tuple((s.width,) for s in known.stages) if known else ...),
        norm=table.take("norm", choices(SPACE["norm"]), (known.norm,) if known else NORMS),
        init=table.take("init", choices(SPACE["init"]), (known.init,) if known else INITS),
        zero_branch=table.take(
            "zero_branch", choices(SPACE["zero_branch"]), (False,) if known else (False, True)
        ),
        optimizer=table.take("optimizer", choices(SPACE["optimizer"]), ("sgd", "adamw")),
        lr_sgd=table.take("lr_sgd", domain(SPACE["lr_sgd"]), Range(low=1e-3, high=0.3, log=True)),
        lr_adamw=table.take("lr_adamw", domain(SPACE["lr_adamw"]), Range(low=1e-4, high=1e-2, log=True)),
        weight_decay=table.take(
            "weight_decay", domain(SPACE["weight_decay"]), Range(low=1e-6, high=1e-3, log=True)
        ),
        warmup=table.take("warmup", domain(SPACE["warmup"]), (0.0, 0.05, 0.1)),
        max_params=table.take("max_params", FIXED["max_params"], None),
        kernel=table.take("kernel", FIXED["kernel"], default("kernel", 3)),
        padding=table.take("padding", FIXED["padding"], default("padding", "same")),
        stem_pool=table.take("stem_pool", FIXED["stem_pool"], default("stem_pool", False)),
        transition=table.take("transition", FIXED["transition"], default("transition", "pool")),
        head=table.take("head", FIXED["head"], default("head", "average")),
    )
    table.done()
    for i in range(1, len(space.widths)):
        if space.transition == "stride" and min(space.widths[i]) < max(space.widths[i - 1]):
            raise SpecError(
                f'space.widths[{i}] must not go below space.widths[{i - 1}] with transition = "stride" '
                f"(zero-padded shortcuts only add channels), got {min(space.widths[i])} after "
                f'{max(space.widths[i - 1])}; or take transition = "pool"'
            )
    return space


def _parse_train(table: _Table) -> TrainSettings:
    d = TrainSettings()
    settings = TrainSettings(**{key: table.take(key, rule, getattr(d, key)) for key, rule in TRAIN.items()})
    table.done()
    return settings


def _parse_search(table: _Table) -> SearchSettings:
    d = SearchSettings()
    settings = SearchSettings(
        design=table.take("design", one_of("matched", "free"), d.design),
        sampler=table.take("sampler", one_of("tpe", "random", "gp"), d.sampler),
        pruner=table.take("pruner", one_of("hyperband", "halving", "median", "none"), d.pruner),
        seed=table.take("seed", whole(0, 2**31 - 1), d.seed),
    )
    table.done()
    return settings


def _parse_confirm(table: _Table) -> ConfirmSettings:
    d = ConfirmSettings()
    settings = ConfirmSettings(
        depths=table.take("depths", choices(whole(1, 2000)), d.depths),
        seeds=table.take("seeds", whole(1, 1000), d.seeds),
        margin=table.take("margin", number(0, 100), d.margin),
    )
    table.done()
    return settings
