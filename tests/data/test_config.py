"""The [data] table: what each key may be."""

from __future__ import annotations

from typing import Any

import pytest

from search.data.config import DataConfig
from search.data.sources import SOURCES
from search.errors import SpecError

REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"name": "imagenet"},
        f"data.name must be one of {', '.join(SOURCES)}, got 'imagenet'",
    ),
    ({"name": "npz"}, "data.path must name the file or folder for data.name = 'npz', got None"),
    ({"name": "folder", "path": "", "image_size": 8}, "data.path must name the file or folder"),
    ({"name": "mnist", "path": "x"}, "data.path must be left out for data.name = 'mnist', got 'x'"),
    (
        {"name": "folder", "path": "x"},
        "data.image_size must be 1 to 512 pixels, or [height, width], for data.name = 'folder', got None",
    ),
    ({"name": "folder", "path": "x", "image_size": 0}, "got 0"),
    ({"name": "folder", "path": "x", "image_size": 513}, "got 513"),
    ({"name": "folder", "path": "x", "image_size": (8, 513)}, "got (8, 513)"),
    ({"name": "folder", "path": "x", "image_size": (8, 8, 3)}, "got (8, 8, 3)"),
    ({"name": "folder", "path": "x", "image_size": 8.0}, "got 8.0"),
    ({"name": "digits", "image_size": 8}, "data.image_size must be left out for data.name = 'digits', got 8"),
    ({"name": "digits", "limit": 1}, "data.limit must be a whole number of at least 2, got 1"),
    ({"name": "digits", "limit": "9"}, "data.limit must be a whole number of at least 2, got '9'"),
    ({"name": "digits", "val_fraction": 3}, "data.val_fraction must be above 0 and at most 0.9, got 3"),
    ({"name": "digits", "val_fraction": 0}, "data.val_fraction must be above 0 and at most 0.9, got 0"),
    (
        {"name": "digits", "test_fraction": 0.91},
        "data.test_fraction must be above 0 and at most 0.9, got 0.91",
    ),
    ({"name": "digits", "test_fraction": float("nan")}, "got nan"),
    ({"name": "digits", "val_fraction": True}, "got True"),
    ({"name": "digits", "seed": -1}, "data.seed must be a whole number of at least 0, got -1"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_config_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refusal:
        DataConfig(**settings)
    assert message in str(refusal.value)


def test_config_takes_a_size_as_a_list() -> None:
    size: Any = [32, 48]
    assert DataConfig(name="folder", path="x", image_size=size).image_size == (32, 48)


OWN: dict[str, Any] = {"name": "folder", "path": "x", "image_size": 8}


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "npz", "path": "~/a.npz"},
        {**OWN, "image_size": 1},
        {**OWN, "image_size": 512},
        {**OWN, "image_size": (1, 512)},
        {"name": "cifar100", "limit": 2, "seed": 0},
        {"name": "mnist", "val_fraction": 0.9, "test_fraction": 1e-6, "seed": 2**40},
    ],
)
def test_config_keeps_what_is_within_the_rules(settings: dict[str, Any]) -> None:
    config = DataConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_defaults_are_written_down() -> None:
    """Splits of studies that were made before hang on them."""
    assert vars(DataConfig(name="digits")) == {
        "name": "digits", "path": None, "image_size": None, "limit": None,
        "val_fraction": 0.2, "test_fraction": 0.2, "seed": 0,
    }  # fmt: skip
