"""Where a user is put together before it gets its place: a fresh directory on the same disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meshlab.errors import storage_errors
from meshlab.remote.notes import remote_folder

SCRATCH = "scratch"
_LOCK = ".in-use"
"""No user is called that: uids begin with a letter or a digit."""

_NEW = ".new-"
"""What a directory is called until it is locked."""

_ABANDONED = 3600
"""Seconds after which one that never was belongs to no one."""


@contextmanager
def scratch_folder(store: Path) -> Iterator[Path]:
    """A fresh directory in a store, which is deleted on the way out; what killed processes left goes first.

    Makes the store when there is none.  Raises ``StorageError``.
    """
    parent = remote_folder(store) / SCRATCH
    with storage_errors("make", parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        made = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
        fd = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        folder = made.rename(made.with_name(made.name.removeprefix(_NEW)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _sweep(parent: Path) -> None:
    """Delete directories that no living process holds."""
    for folder in parent.iterdir():
        with suppress(OSError):
            if folder.name.startswith(_NEW) and time.time() - folder.stat().st_mtime < _ABANDONED:
                continue
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)
