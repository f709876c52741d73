"""A study as a value: what is trained, over which space, searched how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from search.data.config import DataConfig
from search.errors import SpecError
from search.keys import Key, added_defaults, checked, keys_of
from search.spec.tables import ConfirmSettings, SearchSettings, Space, TrainSettings


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The tables of a study file."""

    name: str
    data: DataConfig
    space: Space
    train: TrainSettings
    search: SearchSettings
    confirm: ConfirmSettings
    open: frozenset[str] = field(default=frozenset(), compare=False)
    """Keys of [search] that the file leaves to the study, and a new one to the design of today."""

    def continuing(self, stored: Mapping[str, Any]) -> StudySpec:
        """The spec for a study that is stored, `stored` its canonical spec: what the file leaves out is as it
        was when the study was made."""
        kept = {name: value for name, value in stored.get("search", {}).items() if name in self.open}
        return replace(self, search=replace(self.search, **kept))

    def canonical(self) -> dict[str, Any]:
        """Everything that decides a result, as JSON has it. Not the name, nor where the data lies: its
        fingerprint is compared instead; nor how the search will be confirmed."""
        tables: dict[str, Any] = {
            "data": self.data, "space": self.space, "train": self.train, "search": self.search
        }  # fmt: skip
        values = {
            name: {k: v for k, v in asdict(table).items() if k not in added_defaults(table)}
            for name, table in tables.items()
        }
        del values["data"]["path"]
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    def how_to_confirm(self) -> dict[str, Any]:
        """[confirm] as JSON has it."""
        return json.loads(json.dumps(asdict(self.confirm)))  # type: ignore[no-any-return]

    @staticmethod
    def from_canonical(
        name: str, values: dict[str, Any], confirm: Mapping[str, Any] | None = None
    ) -> StudySpec:
        """The spec that a study was made with, but for where its data lie; `confirm`: its [confirm]. Raises
        SpecError for a key, an arm, a norm or a source that is not installed here."""
        tables = {"data": DataConfig, "space": Space, "train": TrainSettings, "search": SearchSettings,
                  "confirm": ConfirmSettings}  # fmt: skip
        stored = values | {"confirm": confirm or {}}
        try:
            made = {key: table(**_checked(key, keys_of(table), stored[key])) for key, table in tables.items()}
        except ValueError as error:
            raise SpecError(f"the study {name!r} was made by another installation: {error}") from None
        return StudySpec(name=name, **made)

    def fingerprint(self) -> str:
        """16 hex digits of the canonical spec."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()[:16]


def _checked(table: str, keys: Mapping[str, Key], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored table. Raises ValueError."""
    if unknown := values.keys() - keys:
        raise ValueError(f"{table}.{min(unknown)} is not a key here")
    return checked(table, keys, values)


def spec_differences(stored: dict[str, Any], given: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for each key whose value is not the same in two canonical specs."""
    lines = []
    for key in sorted(stored.keys() | given.keys()):
        old, new = stored.get(key, "(absent)"), given.get(key, "(absent)")
        if isinstance(old, dict) and isinstance(new, dict):
            lines += spec_differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {json.dumps(old)} in the study, {json.dumps(new)} now")
    return lines
