"""optuna-dashboard's private names, all that the product uses of them.

tests/web/test_dashboard_internals.py fails when one of them goes, and pyproject.toml bounds the release.
"""

from __future__ import annotations

from typing import Any

from optuna_dashboard import _app, _note, _serializer  # type: ignore[import-untyped]
from optuna_dashboard._custom_plot_data import SYSTEM_ATTR_PLOT_DATA  # type: ignore[import-untyped]

FIGURE_PREFIX: str = SYSTEM_ATTR_PLOT_DATA
"""Beginning of the system attributes in which a study's figures are kept; their names follow."""


ARTIFACTS_OF_OLD = "dashboard:artifacts:"
"""Beginning of the study's attributes in which early versions of the dashboard kept trials' artifacts."""


def note_of(attrs: dict[str, Any], trial_id: int | None) -> str:
    """The note of a trial, or of the study, in a study's system attributes."""
    beginning, parts = _note.note_str_key_prefix(trial_id), list[str]()
    while (part := attrs.get(f"{beginning}{len(parts)}")) is not None:
        parts.append(part)
    return "".join(parts)


def note_rows(attrs: dict[str, Any], trial_id: int, body: str) -> dict[str, Any]:
    """The system attributes of a study that give a trial this note."""
    rows: dict[str, Any] = dict(_note.split_body(body, trial_id))
    beginning, version = _note.note_str_key_prefix(trial_id), _note.note_ver_key(trial_id)
    i = len(rows)
    while attrs.get(f"{beginning}{i}"):
        rows[f"{beginning}{i}"] = ""  # of a longer note before
        i += 1
    return {version: attrs.get(version, 0) + 1, **rows}


def read_notes_by_key() -> None:
    """Makes the dashboard look up a trial's note and artifacts: it looks through all attributes of the study
    for each trial."""
    stock = _serializer.list_trial_artifacts
    last: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    """The attributes of the study that was asked for last, and of these the ones about artifacts: a list of
    trials asks with the same ones for each of them."""

    def note(attrs: dict[str, Any], trial_id: int | None) -> dict[str, Any]:
        return {"version": attrs.get(_note.note_ver_key(trial_id), 0), "body": note_of(attrs, trial_id)}

    def artifacts(attrs: dict[str, Any], *rest: Any) -> Any:
        nonlocal last
        known = last
        if known[0] is not attrs:
            known = last = attrs, {k: v for k, v in attrs.items() if k.startswith(ARTIFACTS_OF_OLD)}
        return stock(known[1], *rest)

    _note.get_note_from_system_attrs, _serializer.list_trial_artifacts = note, artifacts


def sort_figures() -> None:
    """Makes the dashboard show figures by their names, in which order they are to be read: it hands them out
    as a set has them."""
    stock = _app.get_plotly_graph_objects
    _app.get_plotly_graph_objects = lambda attrs: dict(sorted(stock(attrs).items()))
