"""A file that is made once, from its first byte to its last, and is on the medium when it is closed."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from types import TracebackType

from meshlab.wal.files import REAL_FILES, Files

SYNC_STEP = 4 << 20
"""Bytes between two syncs: a big file at one go would hold up the syncs of the log behind it."""


class SyncedFile:
    """A new file for writing, through the seam; its name is for the caller to sync.

    Every 4 MiB are synced while it grows, the rest by ``close``; what is written is
    counted and hashed on the way.  ``pyarrow.PythonFile(sink, "w")`` and
    ``io.BufferedWriter(sink)`` take it for a file.  After a failed write or sync every
    later call fails with the same error, and so does ``close``, once: nobody takes the
    file for whole.  Left by an exception, ``with`` closes it without a sync.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "layer"
    >>> with SyncedFile(path) as sink:
    ...     sink.write(b"some ") + sink.write(b"bytes")
    10
    >>> sink.size, sink.hexdigest()[:8], path.read_bytes()
    (10, '0d22cdcc', b'some bytes')
    """

    def __init__(self, path: Path, files: Files = REAL_FILES) -> None:
        """Make the file.  Raises ``FileExistsError`` when the name is taken."""
        self._files = files
        self._fd = files.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        self.closed = False
        self._sum = hashlib.sha256()
        self.size = 0
        self._synced = 0
        self._error: BaseException | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of it; returns its length in bytes."""
        self._refuse_closed()
        left = memoryview(data).cast("B")
        count = len(left)
        try:
            while left:
                left = left[self._write_some(left) :]
        except BaseException as error:
            self._error = error
            raise
        return count

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def hexdigest(self) -> str:
        """SHA-256 of the bytes written so far, 64 hex digits."""
        return self._sum.hexdigest()

    def flush(self) -> None:
        """Nothing: no byte waits here, and syncing is for ``write`` and ``close``."""

    def writable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """No."""
        return False

    def seekable(self) -> bool:
        """No."""
        return False

    def close(self) -> None:
        """Sync what is not synced yet, and close; a second time, nothing."""
        if self.closed:
            return
        try:
            if self._error is not None:
                raise self._error
            if self._synced < self.size or not self.size:
                self._sync()
        finally:
            self.closed = True
            self._files.close(self._fd)

    def __enter__(self) -> SyncedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self.closed:
            self.closed = True
            self._files.close(self._fd)

    def _write_some(self, data: memoryview) -> int:
        """One write, up to the next sync, and that sync."""
        done = self._files.write(self._fd, data[: self._synced + SYNC_STEP - self.size])
        if not done:
            raise OSError(errno.EIO, "nothing was written")
        self._sum.update(data[:done])
        self.size += done
        if self.size == self._synced + SYNC_STEP:
            self._sync()
        return done

    def _sync(self) -> None:
        self._files.sync(self._fd)
        self._synced = self.size

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ValueError("write to closed file")
        if self._error is not None:
            raise self._error
