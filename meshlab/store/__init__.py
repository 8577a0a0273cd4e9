"""The front door: ``open`` a ``Store``; each of its users is a ``UserStore``."""

from __future__ import annotations

from meshlab.store.store import Store, open
from meshlab.store.user import UserStore

__all__ = ["Store", "UserStore", "open"]
