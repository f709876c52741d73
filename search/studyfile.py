"""Study files: studies/*.toml, read into a StudySpec; every mistake named with its key, value and file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from models.architecture import BLOCKS, HEADS, INITS, NORMS, PADDINGS, PRESETS, TRANSITIONS, preset
from search.datasets import DataConfig
from search.errors import SpecError
from search.spec import ConfirmSettings, Domain, Range, SearchSettings, Space, StudySpec, TrainSettings

STUDIES = Path("studies")
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


def _one_of(*allowed: Any) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if not any(value == choice and type(value) is type(choice) for choice in allowed):
            raise ValueError(f"must be one of {', '.join(str(choice).lower() for choice in allowed)}")
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def _number(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return parse


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _choices(parse: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def parse_all(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        choices = tuple(parse(item) for item in values)
        if not 1 <= len(set(choices)) == len(choices) <= 100:
            raise ValueError("must list 1 to 100 choices, none of them twice")
        return choices

    return parse_all


def _domain(parse: Callable[[Any], Any]) -> Callable[[Any], Domain]:
    def parse_domain(value: Any) -> Domain:
        if not isinstance(value, dict):
            return _choices(parse)(value)
        if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
            raise ValueError("must be a value, a list, or a range {low = .., high = .., log = true}")
        low, high, log = parse(value["low"]), parse(value["high"]), _flag(value.get("log", False))
        if not low < high:
            raise ValueError("must have low below high")
        if log and low <= 0:
            raise ValueError("must have low above 0 with log = true")
        return Range(low=low, high=high, log=log)

    return parse_domain


def _per_stage(value: Any) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise ValueError("must list 1 to 8 stages, each a width or a list of widths")
    return tuple(_choices(_whole(1, 4096))(stage) for stage in value)


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
    base = table.take("preset", _one_of(*PRESETS), None)
    known = preset(base) if base else None

    def default(key: str, otherwise: Any) -> Any:
        return getattr(known, key) if known else otherwise

    space = Space(
        block=table.take("block", _choices(_one_of(*BLOCKS)), BLOCKS),
        blocks=table.take("blocks", _domain(_whole(1, 128)), (known.stages[0].blocks,) if known else ...),
        widths=table.take("widths", _per_stage, tuple((s.width,) for s in known.stages) if known else ...),
        norm=table.take("norm", _choices(_one_of(*NORMS)), (known.norm,) if known else NORMS),
        init=table.take("init", _choices(_one_of(*INITS)), (known.init,) if known else INITS),
        zero_branch=table.take("zero_branch", _choices(_flag), (False,) if known else (False, True)),
        optimizer=table.take("optimizer", _choices(_one_of("sgd", "adamw")), ("sgd", "adamw")),
        lr_sgd=table.take("lr_sgd", _domain(_number(1e-8, 100)), Range(low=1e-3, high=0.3, log=True)),
        lr_adamw=table.take("lr_adamw", _domain(_number(1e-8, 100)), Range(low=1e-4, high=1e-2, log=True)),
        weight_decay=table.take(
            "weight_decay", _domain(_number(0, 10)), Range(low=1e-6, high=1e-3, log=True)
        ),
        warmup=table.take("warmup", _domain(_number(0, 0.9)), (0.0, 0.05, 0.1)),
        max_params=table.take("max_params", _whole(1, 10**10), None),
        kernel=table.take("kernel", _one_of(1, 3, 5, 7), default("kernel", 3)),
        padding=table.take("padding", _one_of(*PADDINGS), default("padding", "same")),
        stem_pool=table.take("stem_pool", _flag, default("stem_pool", False)),
        transition=table.take("transition", _one_of(*TRANSITIONS), default("transition", "pool")),
        head=table.take("head", _one_of(*HEADS), default("head", "average")),
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
    settings = TrainSettings(
        epochs=table.take("epochs", _whole(1, 100_000), d.epochs),
        batch_size=table.take("batch_size", _whole(1, 65_536), d.batch_size),
        precision=table.take("precision", _one_of("auto", "float32", "bfloat16"), d.precision),
        momentum=table.take("momentum", _number(0, 0.9999), d.momentum),
        clip=table.take("clip", _number(1e-6, 1e6), d.clip),
        label_smoothing=table.take("label_smoothing", _number(0, 0.9), d.label_smoothing),
        crop=table.take("crop", _whole(0, 64), d.crop),
        flip=table.take("flip", _flag, d.flip),
    )
    table.done()
    return settings


def _parse_search(table: _Table) -> SearchSettings:
    d = SearchSettings()
    settings = SearchSettings(
        design=table.take("design", _one_of("matched", "free"), d.design),
        sampler=table.take("sampler", _one_of("tpe", "random", "gp"), d.sampler),
        pruner=table.take("pruner", _one_of("hyperband", "halving", "median", "none"), d.pruner),
        seed=table.take("seed", _whole(0, 2**31 - 1), d.seed),
    )
    table.done()
    return settings


def _parse_confirm(table: _Table) -> ConfirmSettings:
    d = ConfirmSettings()
    settings = ConfirmSettings(
        depths=table.take("depths", _choices(_whole(1, 2000)), d.depths),
        seeds=table.take("seeds", _whole(1, 1000), d.seeds),
        margin=table.take("margin", _number(0, 100), d.margin),
    )
    table.done()
    return settings
