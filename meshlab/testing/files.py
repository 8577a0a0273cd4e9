"""Files that fail on purpose, and files that keep a diary.

Each stands where ``meshlab.wal.files.REAL_FILES`` stands and wraps another ``Files``,
so they can be stacked on each other and on a ``ForgetfulFiles``::

    disk = ForgetfulFiles()
    files = FailingFiles(RecordingFiles(disk), "sync", 3)
"""

from __future__ import annotations

import errno as codes
import os
import threading
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from meshlab.testing.forgetful import ForgetfulFiles
from meshlab.wal.files import REAL_FILES, Files

__all__ = [
    "AttemptedFiles",
    "FailingFiles",
    "ForgetfulFiles",
    "Operation",
    "PowerCut",
    "RecordingFiles",
    "UnsyncedFiles",
    "WrappedFiles",
]


class WrappedFiles(Files):
    """Passes every operation on to another ``Files``; the base of the two below.

    >>> class Counted(WrappedFiles):
    ...     syncs = 0
    ...
    ...     def sync(self, fd):
    ...         self.syncs += 1
    ...         super().sync(fd)
    >>> import meshlab, tempfile
    >>> files = Counted()
    >>> with meshlab.Store(tempfile.mkdtemp(), files=files) as store:
    ...     _ = store["ann"].append({"Delete": "m0"})
    >>> files.syncs
    1
    """

    def __init__(self, inner: Files = REAL_FILES) -> None:
        self.inner = inner
        self._paths: dict[int, Path] = {}

    def path(self, fd: int) -> Path:
        """The path a descriptor was opened by."""
        return self._paths.get(fd, Path("?"))

    def open(self, path: Path, flags: int) -> int:
        """Open a file of the inner ``Files``."""
        fd = self.inner.open(path, flags)
        self._paths[fd] = path
        return fd

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self._paths.pop(fd, None)
        self.inner.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """One write of the inner ``Files``."""
        return self.inner.write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """One write at an offset."""
        return self.inner.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Sync a file."""
        self.inner.sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Sync the names in a directory."""
        self.inner.sync_directory(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        self.inner.mkdir(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file or directory."""
        self.inner.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        self.inner.link(source, target)

    def unlink(self, path: Path) -> None:
        """Take a name from a file."""
        self.inner.unlink(path)

    def drop_writes(self, fd: int) -> None:
        """Let the disk at the bottom lose its unsynced bytes, if it is one that can."""
        if isinstance(self.inner, (ForgetfulFiles, WrappedFiles)):
            self.inner.drop_writes(fd)


class UnsyncedFiles(Files):
    """Real files without the syncs: for tests that lose no power.

    >>> import meshlab, tempfile
    >>> with meshlab.Store(tempfile.mkdtemp(), files=UnsyncedFiles()) as store:
    ...     store["ann"].append({"Delete": "m0"}).last_seq
    1
    """

    def sync(self, fd: int) -> None:
        """Nothing: the bytes stay in the page cache."""

    def sync_directory(self, path: Path) -> None:
        """Nothing: the names stay in the page cache."""


class Operation(NamedTuple):
    """One operation that returned: its name, its path, and the bytes it wrote.

    >>> Operation("write", Path("wal-20250701.log"), 5).size
    5
    """

    name: str
    path: Path
    size: int


class RecordingFiles(WrappedFiles):
    """Notes every operation that succeeded, in the order they returned, in ``operations``.

    >>> import tempfile
    >>> files = RecordingFiles(ForgetfulFiles())
    >>> path = Path(tempfile.mkdtemp()) / "log"
    >>> fd = files.open(path, os.O_CREAT | os.O_WRONLY)
    >>> files.write(fd, b"12345")
    5
    >>> files.sync(fd)
    >>> [(name, path.name, size) for name, path, size in files.operations]
    [('open', 'log', 0), ('write', 'log', 5), ('sync', 'log', 0)]
    """

    def __init__(self, inner: Files = REAL_FILES) -> None:
        super().__init__(inner)
        self.operations: list[Operation] = []

    def names(self, pattern: str = "*") -> list[str]:
        """The names of the operations on files and directories whose name matches."""
        return [done.name for done in self.operations if fnmatchcase(done.path.name, pattern)]

    def open(self, path: Path, flags: int) -> int:
        """Open, and note it."""
        fd = super().open(path, flags)
        self._note("open", path)
        return fd

    def close(self, fd: int) -> None:
        """Close, and note it."""
        path = self.path(fd)
        super().close(fd)
        self._note("close", path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, and note the bytes written."""
        done = super().write(fd, data)
        self._note("write", self.path(fd), done)
        return done

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write in place, and note the bytes written."""
        done = super().pwrite(fd, data, offset)
        self._note("pwrite", self.path(fd), done)
        return done

    def sync(self, fd: int) -> None:
        """Sync, and note it."""
        super().sync(fd)
        self._note("sync", self.path(fd))

    def sync_directory(self, path: Path) -> None:
        """Sync a directory, and note it."""
        super().sync_directory(path)
        self._note("sync_directory", path)

    def mkdir(self, path: Path) -> None:
        """Make a directory, and note it."""
        super().mkdir(path)
        self._note("mkdir", path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and note the new name."""
        super().rename(source, target)
        self._note("rename", target)

    def link(self, source: Path, target: Path) -> None:
        """Link, and note the new name."""
        super().link(source, target)
        self._note("link", target)

    def unlink(self, path: Path) -> None:
        """Unlink, and note the name that is gone."""
        super().unlink(path)
        self._note("unlink", path)

    def _note(self, name: str, path: Path, size: int = 0) -> None:
        self.operations.append(Operation(name, path, size))


class PowerCut(Exception):
    """Raised by ``FailingFiles`` to stop a writer where it stands; no ``OSError``, so nothing mends it.

    >>> import meshlab, tempfile
    >>> cut = FailingFiles(kind="sync", nth=1, name="wal-*", error=PowerCut())
    >>> meshlab.Store(tempfile.mkdtemp(), files=cut)["ann"].append({"Delete": "m0"})
    Traceback (most recent call last):
    meshlab.testing.files.PowerCut
    """


class FailingFiles(WrappedFiles):
    """Fails the ``nth`` operation of a kind (from 1) on files whose name matches ``name``.

    ``kind`` is ``open close write pwrite sync sync_directory mkdir rename link unlink`` or
    ``any`` (all but ``close``).  ``error`` is an errno or an exception to raise.  ``forever`` fails every
    later one too.  ``short=k`` writes only the first k bytes instead of failing.  A
    failed sync also drops the unsynced bytes (``ForgetfulFiles.drop_writes``).
    ``hits`` counts the faults: assert on it, or loop ``nth`` from 1 until it stays 0.

    >>> files = FailingFiles(kind="mkdir", nth=1, error=codes.ENOSPC)
    >>> files.mkdir(Path("full"))
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'full'
    >>> files.hits
    1
    """

    def __init__(
        self,
        inner: Files = REAL_FILES,
        kind: str = "any",
        nth: int = 1,
        *,
        name: str = "*",
        error: int | Exception = codes.EIO,
        forever: bool = False,
        short: int | None = None,
    ) -> None:
        super().__init__(inner)
        self.kind, self.nth, self.name = kind, nth, name
        self.error, self.forever, self.short = error, forever, short
        self.seen = 0
        self.hits = 0
        self._count_lock = threading.Lock()

    def open(self, path: Path, flags: int) -> int:
        """Open, or fail."""
        self._raise_if_due("open", path)
        return super().open(path, flags)

    def close(self, fd: int) -> None:
        """Close; when it fails, the descriptor is closed all the same, as on Linux."""
        path = self.path(fd)
        super().close(fd)
        self._raise_if_due("close", path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write all, some, or fail."""
        return super().write(fd, self._cut("write", fd, data))

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write all, some, or fail."""
        return super().pwrite(fd, self._cut("pwrite", fd, data), offset)

    def sync(self, fd: int) -> None:
        """Sync, or fail and lose what was unsynced."""
        if self._due("sync", self.path(fd)):
            self.drop_writes(fd)
            raise self._exception(self.path(fd))
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Sync a directory, or fail."""
        self._raise_if_due("sync_directory", path)
        super().sync_directory(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory, or fail."""
        self._raise_if_due("mkdir", path)
        super().mkdir(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or fail; it is the new name that must match."""
        self._raise_if_due("rename", target)
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Link, or fail; it is the new name that must match."""
        self._raise_if_due("link", target)
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        """Unlink, or fail."""
        self._raise_if_due("unlink", path)
        super().unlink(path)

    def _due(self, kind: str, path: Path) -> bool:
        wanted = self.kind == kind or (self.kind == "any" and kind != "close")
        if not wanted or not fnmatchcase(path.name, self.name):
            return False
        with self._count_lock:
            self.seen += 1
            due = self.seen == self.nth or (self.forever and self.seen > self.nth)
            self.hits += due
        return due

    def _cut(self, kind: str, fd: int, data: bytes | memoryview) -> bytes | memoryview:
        if not self._due(kind, self.path(fd)):
            return data
        if self.short is None:
            raise self._exception(self.path(fd))
        return data[: self.short]

    def _raise_if_due(self, kind: str, path: Path) -> None:
        if self._due(kind, path):
            raise self._exception(path)

    def _exception(self, path: Path) -> Exception:
        if isinstance(self.error, Exception):
            return self.error
        return OSError(self.error, os.strerror(self.error), os.fspath(path))


class AttemptedFiles(FailingFiles):
    """Fails nothing and notes the kind and path of whatever is tried, in ``attempts``.

    The nth attempt is what ``FailingFiles(kind="any", nth=n)`` fails: run an action once with
    this to learn at how many places it can be broken off.

    >>> files = AttemptedFiles(ForgetfulFiles())
    >>> files.mkdir(Path("/no/such/place"))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: '/no/such/place'
    >>> [(kind, path.name) for kind, path in files.attempts]
    [('mkdir', 'place')]
    """

    def __init__(self, inner: Files = REAL_FILES) -> None:
        super().__init__(inner, nth=0)
        self.attempts: list[tuple[str, Path]] = []

    def _due(self, kind: str, path: Path) -> bool:
        if kind != "close":
            self.attempts.append((kind, path))
        return False
