"""optuna-dashboard's private names, all that the product uses of them.

tests/web/test_dashboard_internals.py fails when one of them goes, and pyproject.toml bounds the release.
"""

from __future__ import annotations

from optuna_dashboard import _app  # type: ignore[import-untyped]
from optuna_dashboard._custom_plot_data import SYSTEM_ATTR_PLOT_DATA  # type: ignore[import-untyped]

FIGURE_PREFIX: str = SYSTEM_ATTR_PLOT_DATA
"""Beginning of the system attributes in which a study's figures are kept; their names follow."""


def sort_figures() -> None:
    """Makes the dashboard show figures by their names, in which order they are to be read: it hands them out
    as a set has them."""
    stock = _app.get_plotly_graph_objects
    _app.get_plotly_graph_objects = lambda attrs: dict(sorted(stock(attrs).items()))
