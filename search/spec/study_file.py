"""Study files: studies/*.toml, read into a StudySpec; every mistake named with its key, value and file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from models.arms.arm import ARMS
from models.presets import PRESETS, preset
from models.rules import OneOf, obey, short
from search.data.config import DataConfig
from search.errors import SpecError
from search.keys import checked, keys_of
from search.spec.study import StudySpec
from search.spec.tables import (
    DEFAULT_BASELINE,
    LEAD,
    PRUNERS,
    ConfirmSettings,
    SearchSettings,
    Space,
    TrainSettings,
)

STUDIES = Path("studies")
DEFAULT_STUDY = "digits"
MAX_FILE_BYTES = 1 << 20
TABLES: dict[str, type[Any]] = {
    "data": DataConfig,
    "space": Space,
    "train": TrainSettings,
    "search": SearchSettings,
    "confirm": ConfirmSettings,
}
Table = TypeVar("Table")


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
        raise SpecError(
            f"no study file {str(path)[:200]}: {STUDIES}/ has {names}; or give the path of a .toml file"
        )
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
        return _spec_from(tables, path.stem, seed)
    except (SpecError, ValueError) as error:
        raise SpecError(f"{error} (in {path})") from None


def _spec_from(tables: Mapping[str, Any], name: str, seed: int | None) -> StudySpec:
    """The spec in the tables. Raises SpecError, and ValueError with the words of a rule."""
    for key in tables:
        if key not in TABLES:
            raise SpecError(_unknown(f"[{key}]", key, list(TABLES)).replace("a key", "a table"))
    for key, values in tables.items():
        if not isinstance(values, dict):
            raise SpecError(f"{key} must be a table, [{key}], got {short(values)}")
    space_values = dict(tables.get("space", {}))
    search = tables.get("search", {})
    base = obey("space.preset", space_values.pop("preset", None), _preset_or_none)
    spec = StudySpec(
        name=name,
        data=_table(DataConfig, "data", tables.get("data", {})),
        space=_table(Space, "space", space_values, _preset_defaults(base) if base else {}, ["preset"]),
        train=_table(TrainSettings, "train", tables.get("train", {})),
        search=_table(SearchSettings, "search", search, _search_defaults(search)),
        open=frozenset({"design", "pruner"} - search.keys()),
        confirm=_table(ConfirmSettings, "confirm", tables.get("confirm", {})),
    )
    if seed is not None:
        spec = replace(spec, search=replace(spec.search, seed=seed))
    _check(spec)
    return spec


def _table(
    table: type[Table],
    name: str,
    values: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    further: Sequence[str] = (),
) -> Table:
    """A table from its TOML; `further` are keys that it may have besides."""
    keys = keys_of(table)
    for key in values:
        if key not in keys:
            raise SpecError(_unknown(f"{name}.{key}", key, [*further, *keys]))
    given = {**(defaults or {}), **checked(name, keys, values)}
    for field in fields(table):  # type: ignore[arg-type]
        if field.default is MISSING and field.name not in given:
            raise SpecError(f"{name}.{field.name} is missing")
    return table(**given)


def _preset_or_none(value: Any) -> str | None:
    return None if value is None else OneOf(*PRESETS)(value)


def _preset_defaults(name: str) -> dict[str, Any]:
    """The values that a known network has for keys of the space."""
    known = preset(name)
    return {
        "blocks": (known.stages[0].blocks,),
        "widths": tuple((stage.width,) for stage in known.stages),
        "norm": (known.norm,),
        "init": (known.init,),
        "zero_branch": (False,),
        **{key: getattr(known, key) for key in ("kernel", "padding", "stem_pool", "transition", "head")},
    }


def _search_defaults(given: Mapping[str, Any]) -> dict[str, str]:
    """What a new study takes for the design and the pruner that a file leaves out. A pruner that judges each
    trial for itself brings the design along in which it can."""
    alone = given.get("pruner", LEAD) not in (LEAD, "none")
    design = given.get("design", "matched" if alone else "stratified")
    return {"design": design, "pruner": LEAD if design == "stratified" else "hyperband"}


def _check(spec: StudySpec) -> None:
    """Raises SpecError where a rule between keys is broken."""
    space, search = spec.space, spec.search
    if search.sampler == "gp" and search.design != "free":
        raise SpecError('search.sampler = "gp" needs search.design = "free": it cannot look at one arm alone')
    allowed = (LEAD, "none") if search.design == "stratified" else [name for name in PRUNERS if name != LEAD]
    if search.pruner not in allowed:
        raise SpecError(
            f'search.pruner must be one of {", ".join(allowed)} with search.design = "{search.design}", got '
            f"{search.pruner!r}"
        )
    if search.baseline not in (DEFAULT_BASELINE, *space.block):
        raise SpecError(
            f"search.baseline must be an arm of space.block ({', '.join(space.block)}), "
            f"got {search.baseline!r}"
        )
    if search.strata != SearchSettings.strata and search.design != "stratified":
        raise SpecError(f'search.strata needs search.design = "stratified", got "{search.design}"')
    if search.design != "free":
        check_one_depth(space, 'or take search.design = "free", which makes no pairs')
    for i in range(1, len(space.widths)):
        if space.transition == "stride" and min(space.widths[i]) < max(space.widths[i - 1]):
            raise SpecError(
                f'space.widths[{i}] must not go below space.widths[{i - 1}] with transition = "stride" '
                f"(zero-padded shortcuts only add channels), got {min(space.widths[i])} after "
                f'{max(space.widths[i - 1])}; or take transition = "pool"'
            )


def check_one_depth(space: Space, way_out: str) -> None:
    """Raises SpecError where blocks of the arms have not all as many convs: as many blocks would be another
    depth. `way_out`: words for what else could be done."""
    depths = {name: ARMS[name].depth for name in space.block}
    if len(set(depths.values())) > 1:
        listed = ", ".join(f"{name} {depth}" for name, depth in depths.items())
        raise SpecError(
            f"space.block must list arms with as many convs in a block, so that they are compared at one "
            f"depth, got {listed}; {way_out}"
        )


def _unknown(what: str, key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{what} is not a key: {hint}Known: {', '.join(known)}"
