"""Where a user is put together before it gets its place: a fresh directory on the same disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meshlab.errors import storage_errors
from meshlab.remote.notes import remote_folder

SCRATCH = "scratch"
_LOCK = "in-use"


@contextmanager
def scratch_folder(store: Path) -> Iterator[Path]:
    """A fresh directory in a store, which is deleted on the way out; what killed processes left goes first.

    Makes the store when there is none.  Raises ``StorageError``.
    """
    parent = remote_folder(store) / SCRATCH
    with storage_errors("make", parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _sweep(parent: Path) -> None:
    """Delete directories that no living process holds; one without a lock is just being made, or empty."""
    for folder in parent.iterdir():
        with suppress(OSError):
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)
