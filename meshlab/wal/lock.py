"""``wal.lock``: mutual exclusion between writers, a hint where the log ends, and poison.

The file is 256 bytes, overwritten in place and never deleted: a hint record and a
poison record, each checked by its own digest.  The hint saves reading the log's tail;
it is believed only while the segment has exactly the size it tells.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import NamedTuple

from meshlab.wal.files import Files
from meshlab.wal.frame import frame_sum

_RECORD = 128
_SIZE = 2 * _RECORD
_NOTHING = b" " * (_RECORD - 1) + b"\n"
_GRAIN = 2_100_000_000
"""Nanoseconds within which two changes of a directory may bear the same time: up to two seconds."""


class Hint(NamedTuple):
    """Where the log ended after the last append: segment, its size, last seq and sum."""

    segment: str
    size: int
    seq: int
    sum: bytes


class Poison(NamedTuple):
    """A write or sync failed: bytes of ``segment`` from ``offset`` on may not be on disk."""

    segment: str
    offset: int


class LockFile:
    """The open lock file of one user; the lock is held between ``acquire`` and ``release``.

    The records are written through a memory map: a ``pwrite`` per append would touch the
    file's times, and each sync of the log would then have to bring those to disk too.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._directory = str(path.parent)
        self._files = files
        self._open()

    def _open(self) -> None:
        self._fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT)
        self._written = b""
        self._view: mmap.mmap | None = None
        self._seen: tuple[int, int, int] | None = None

    def acquire(self) -> bool:
        """Wait for the exclusive lock of the file that has the name now.

        Returns whether a name in the directory may have changed since the last time.
        """
        while True:
            if self._fd < 0:
                self._open()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            status = os.fstat(self._fd)
            place = os.stat(self._directory)
            seen = (place.st_dev, place.st_ino, place.st_mtime_ns)
            changed = seen != self._seen
            if not changed or self._is_named(status):
                break
            # Somebody deleted or moved the file: a lock on it excludes nobody.
            self.close()
        if changed:
            # A change within the clock's grain would not show: then look again next time.
            self._seen = seen if time.time_ns() - place.st_mtime_ns > _GRAIN else None
        if status.st_size < _SIZE or self._view is None:
            self._prepare(status.st_size)
        return changed

    def _is_named(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, os.lstat(self._path))
        except FileNotFoundError:
            return False

    def _prepare(self, size: int) -> None:
        # Written in full, so that poison can be noted on a full disk.
        if size < _SIZE and self._files.pwrite(self._fd, _NOTHING * 2, 0) < _SIZE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self._path))
        self._view = mmap.mmap(self._fd, _SIZE)

    def release(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def is_as_written(self) -> bool:
        """Whether the file still holds what this object wrote last: a valid hint, no poison."""
        return self._view is not None and self._view[:] == self._written

    def read(self) -> tuple[Hint | None, Poison | None]:
        """What the file tells; a record that fails its check tells nothing."""
        data = self._records[:]
        hint, poison = _parse(data[:_RECORD], b"hint", 4), _parse(data[_RECORD:], b"poison", 2)
        return (
            Hint(hint[0].decode(), int(hint[1]), int(hint[2]), hint[3]) if hint else None,
            Poison(poison[0].decode(), int(poison[1])) if poison else None,
        )

    def write_hint(self, hint: Hint) -> None:
        """Overwrite the hint."""
        record = _record(b"hint %b %d %d %b" % (hint.segment.encode(), hint.size, hint.seq, hint.sum))
        self._records[:_RECORD] = record
        self._written = record + _NOTHING

    def write_poison(self, poison: Poison | None) -> None:
        """Overwrite the poison record; None clears it."""
        text = b"poison %b %d" % (poison.segment.encode(), poison.offset) if poison else b""
        self._records[_RECORD:] = _record(text) if poison else _NOTHING

    def close(self) -> None:
        """Close the file, which also gives the lock back."""
        view, fd = self._view, self._fd
        self._view, self._fd = None, -1
        if view is not None:
            view.close()
        if fd >= 0:
            self._files.close(fd)

    @property
    def _records(self) -> mmap.mmap:
        assert self._view is not None, "the lock is not held"
        return self._view


def _record(text: bytes) -> bytes:
    return (text + b" " + frame_sum(text)[:8]).ljust(_RECORD - 1) + b"\n"


def _parse(record: bytes, name: bytes, count: int) -> list[bytes] | None:
    text, _, check = record.rstrip().rpartition(b" ")
    parts = text.split(b" ")
    if len(parts) != count + 1 or parts[0] != name:
        return None
    if frame_sum(text)[:8] != check:
        return None
    return parts[1:]
