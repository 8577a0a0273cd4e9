"""Controls for notebooks: one class per module, each with ``.ui``, and a picture for where nothing can be clicked.

>>> from meshlab.widgets import ReplayExplorer
>>> ReplayExplorer(user)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlab.widgets.growth import GrowthDashboard
    from meshlab.widgets.migration import MigrationRehearsal
    from meshlab.widgets.replay import ReplayExplorer
    from meshlab.widgets.tail import WalTail

_HOMES = {"GrowthDashboard": "growth", "MigrationRehearsal": "migration", "ReplayExplorer": "replay", "WalTail": "tail"}

__all__ = ["GrowthDashboard", "MigrationRehearsal", "ReplayExplorer", "WalTail"]


def __getattr__(name: str) -> Any:
    """Load a widget on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'meshlab.widgets' has no attribute {name!r}")
    value = getattr(import_module(f"meshlab.widgets.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
