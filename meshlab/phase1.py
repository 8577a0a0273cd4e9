"""The functions of phase 1, over the default store: ``$MESH_STORE``, else ``./mesh_store``.

Programs that were written for it go on: they import the same names from ``meshlab``.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from meshlab.errors import StorageError
from meshlab.store import Store
from meshlab.wal import paths
from meshlab.wal.commit import Receipt
from meshlab.wal.writer import Event


def append_to_wal(uid: str, event: Event) -> Receipt:
    """Append one event, durably, to the log of a user in the default store.

    After a failed write the next call opens the log anew, which repairs it.

    >>> import os, tempfile
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MESH_STORE=tempfile.mkdtemp()):
    ...     append_to_wal("ann", {"Insert": {"id": "m1"}}).last_seq
    1
    """
    store = _default_store()
    try:
        return store[uid].append(event)
    except StorageError:
        store.close()
        raise


def user_root(uid: str) -> Path:
    """The directory of a user in the default store.  Raises ``BadUserId``; creates nothing.

    >>> import os
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MESH_STORE="/srv/mesh"):
    ...     user_root("ann")
    PosixPath('/srv/mesh/ann')
    """
    return paths.user_root(paths.store_root(), uid)


def replay_wal(uid: str) -> dict[str, dict[str, Any]]:
    """The memories of a user in the default store, by id, in their JSON form.

    >>> import os, tempfile
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MESH_STORE=tempfile.mkdtemp()):
    ...     _ = append_to_wal("ann", {"Insert": {"id": "m1", "amplitude": 0.5}})
    ...     replay_wal("ann")
    {'m1': {'id': 'm1', 'amplitude': 0.5}}
    """
    return {record["id"]: record for record in _default_store()[uid].state(progress=False).to_pylist()}


_stores: dict[Path, Store] = {}
_stores_mutex = threading.Lock()


def _default_store() -> Store:
    """The default store, shared by all calls so that threads share its writers."""
    path = paths.store_root().absolute()
    with _stores_mutex:
        return _stores.setdefault(path, Store(path))
