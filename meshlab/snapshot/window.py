"""A file read once from front to back through a window of bounded size."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from meshlab.errors import SnapshotError

WINDOW = 16 << 20
"""Bytes read at once."""

_U64 = struct.Struct("<Q")


class Window:
    """The stretch of the file in memory; ``data[0]`` is byte ``base`` of the file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.base = 0
        self.data = file.read(WINDOW)

    def move(self, position: int, needed: int) -> None:
        """Forget what is before ``position``; read on to hold ``needed`` bytes from there."""
        kept = self.data[position:]
        # At least twice as many as before, so that one huge record is scanned few times.
        more = self.file.read(max(WINDOW, len(kept), needed - len(kept)))
        found = len(kept) + len(more)
        if found < needed:
            raise self.error(position, f"expected {needed} bytes", f"{found}: the file shrank while it was read")
        self.base += position
        self.data = kept + more

    def error(self, position: int, expected: str, found: str, record: int | None = None) -> SnapshotError:
        """What is wrong at a place of the window, with its byte in the file and the number of the record."""
        where = f"{self.path}: byte {self.base + position}"
        if record is not None:
            where += f", record {record + 1}"
        return SnapshotError(f"{where}: {expected}, found {found}")


class Keys:
    """Finds a key that comes twice, with 16 bytes of memory per record."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.hashes: list[Any] = []
        self.starts: list[Any] = []

    def add(self, ids: pa.Array, starts: Any) -> None:
        """Note some keys and the bytes at which they start."""
        texts = ids.to_numpy(zero_copy_only=False)
        self.hashes.append(np.fromiter(map(hash, texts), np.int64, len(texts)))
        self.starts.append(starts)

    def check(self) -> None:
        """Raise for the first repeated key; equal hashes are settled by reading both keys."""
        if not self.hashes:
            return
        hashes = np.concatenate(self.hashes)
        starts = np.concatenate(self.starts)
        order = np.argsort(hashes, kind="stable")
        ranked = hashes[order]
        same = ranked[1:] == ranked[:-1]
        suspects = np.sort(order[np.append(same, False) | np.append(False, same)])
        seen: dict[bytes, int] = {}
        for record, start in zip(suspects.tolist(), starts[suspects].tolist(), strict=True):
            key = self.key(start)
            if key in seen:
                found = f"{key!r} again, the key of record {seen[key] + 1}"
                raise self.window.error(start - self.window.base, "expected a key of its own", found, record)
            seen[key] = record

    def key(self, start: int) -> bytes:
        """The key that starts at a byte, read anew."""
        self.window.file.seek(start)
        (length,) = _U64.unpack(self.window.file.read(8))
        return self.window.file.read(length)
