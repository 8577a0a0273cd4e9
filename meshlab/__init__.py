"""meshlab: durable per-user event logs for concept-mesh memories, and tools to look at them.

>>> import meshlab
>>> store = meshlab.open("mesh_store")
>>> store["ann"]
<UserStore ann: not created yet>
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlab.errors import MeshlabError
    from meshlab.events import Delete, Insert, MeshEvent, Other, SolitonMemory, Update
    from meshlab.phase1 import append_to_wal, replay_wal, user_root
    from meshlab.records import ComfortMetrics, EmotionalSignature
    from meshlab.store import Store, UserStore, open
    from meshlab.vault import SolitonVault, store_memory

_HOMES = {
    "errors": ("MeshlabError",),
    "events": ("Delete", "Insert", "MeshEvent", "Other", "SolitonMemory", "Update"),
    "records": ("ComfortMetrics", "EmotionalSignature"),
    "phase1": ("append_to_wal", "replay_wal", "user_root"),
    "store": ("Store", "UserStore", "open"),
    "vault": ("SolitonVault", "store_memory"),
}

__all__ = [
    "ComfortMetrics",
    "Delete",
    "EmotionalSignature",
    "Insert",
    "MeshEvent",
    "MeshlabError",
    "Other",
    "SolitonMemory",
    "SolitonVault",
    "Store",
    "Update",
    "UserStore",
    "append_to_wal",
    "open",
    "replay_wal",
    "store_memory",
    "user_root",
]

_home_of = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing meshlab stays cheap."""
    if name not in _home_of:
        raise AttributeError(f"module 'meshlab' has no attribute {name!r}")
    value = getattr(import_module(f"meshlab.{_home_of[name]}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext meshlab``: the magics ``%wal`` and ``%%wal_sql``, and ``df.wal``."""
    from meshlab.magics import load

    load(shell)


def __dir__() -> list[str]:
    return sorted(__all__)
