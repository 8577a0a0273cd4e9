"""``wal.lock``: mutual exclusion between writers, a hint where the log ends, and poison.

The file is 256 bytes, overwritten in place and never deleted: a hint record and a
poison record, each checked by its own digest.  The hint saves reading the log's tail;
it is believed only while the segment has exactly the size it tells.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from meshlab.wal.files import Files

_RECORD = 128
_NOTHING = b" " * (_RECORD - 1) + b"\n"


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
    """The open lock file of one user; the lock is held between ``acquire`` and ``release``."""

    def __init__(self, path: Path, files: Files) -> None:
        self._files = files
        self._written = b""
        self._fd = files.open(path, os.O_RDWR | os.O_CREAT)
        if os.fstat(self._fd).st_size < 2 * _RECORD:
            # Written once in full, so that poison can be noted on a full disk.
            files.pwrite(self._fd, _NOTHING * 2, 0)

    def acquire(self) -> None:
        """Wait for the exclusive lock."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def is_as_written(self) -> bool:
        """Whether the file still holds what this object wrote last: a valid hint, no poison."""
        return os.pread(self._fd, 2 * _RECORD, 0) == self._written

    def read(self) -> tuple[Hint | None, Poison | None]:
        """What the file tells; a record that fails its check tells nothing."""
        data = os.pread(self._fd, 2 * _RECORD, 0)
        hint, poison = _parse(data[:_RECORD], b"hint", 4), _parse(data[_RECORD:], b"poison", 2)
        return (
            Hint(hint[0].decode(), int(hint[1]), int(hint[2]), hint[3]) if hint else None,
            Poison(poison[0].decode(), int(poison[1])) if poison else None,
        )

    def write_hint(self, hint: Hint) -> None:
        """Overwrite the hint."""
        text = b"hint %b %d %d %b" % (hint.segment.encode(), hint.size, hint.seq, hint.sum)
        record = _record(text)
        self._files.pwrite(self._fd, record, 0)
        self._written = record + _NOTHING

    def write_poison(self, poison: Poison | None) -> None:
        """Overwrite the poison record; None clears it."""
        text = b"poison %b %d" % (poison.segment.encode(), poison.offset) if poison else b""
        self._files.pwrite(self._fd, _record(text) if poison else _NOTHING, _RECORD)

    def close(self) -> None:
        """Close the file, which also gives the lock back."""
        self._files.close(self._fd)


def _record(text: bytes) -> bytes:
    checked = text + b" " + hashlib.md5(text, usedforsecurity=False).hexdigest()[:8].encode()
    return checked.ljust(_RECORD - 1) + b"\n"


def _parse(record: bytes, name: bytes, count: int) -> list[bytes] | None:
    text, _, check = record.rstrip().rpartition(b" ")
    parts = text.split(b" ")
    if len(parts) != count + 1 or parts[0] != name:
        return None
    if hashlib.md5(text, usedforsecurity=False).hexdigest()[:8].encode() != check:
        return None
    return parts[1:]
