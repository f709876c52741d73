"""User attributes as fields with types: see trial_record and study_record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Attribute(Generic[T]):
    """A user attribute: read from a record, `default` where it is not stored. Its name is the field's, unless
    said otherwise."""

    def __init__(self, default: T, name: str = "") -> None:
        self.default, self.name = default, name

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = self.name or name

    @overload
    def __get__(self, record: None, owner: type[Any]) -> Attribute[T]: ...
    @overload
    def __get__(self, record: Stored, owner: type[Any]) -> T: ...
    def __get__(self, record: Stored | None, owner: type[Any]) -> T | Attribute[T]:
        return self if record is None else record.stored.get(self.name, self.default)


class Stored(ABC):
    """Something with user attributes."""

    @property
    @abstractmethod
    def stored(self) -> dict[str, Any]:
        """The user attributes as they are stored."""

    @classmethod
    def attributes(cls, **values: Any) -> dict[str, Any]:
        """User attributes to be stored, by the names of the fields; None is left out. Raises TypeError for a
        name that is no field."""
        found = {}
        for name, value in values.items():
            field = getattr(cls, name, None)
            if not isinstance(field, Attribute):
                raise TypeError(f"{cls.__name__} has no attribute {name}")
            if value is not None:
                found[field.name] = value
        return found
