"""The one seam between the log and the operating system.

Whatever must outlive a loss of power is done through a ``Files`` object.
``meshlab.testing`` has one that forgets what was not synced and one that fails on
purpose; they subclass this.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from pathlib import Path


def open_regular(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that is one: no symbolic link, no pipe, no device; an ``opener`` for ``open``."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # a directory has an error of its own
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


class Files:
    """File operations on the real operating system; all raise ``OSError``."""

    def open(self, path: Path, flags: int) -> int:
        """Open (and with ``O_CREAT`` create) a regular file; returns a descriptor.

        A symbolic link could lead out of the store, a pipe would wait for ever: both
        are refused.
        """
        return open_regular(path, flags)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """One ``write(2)``; returns the bytes written, which may be fewer."""
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """One ``pwrite(2)`` at an offset."""
        return os.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Return when the file's bytes and size are on the medium."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def sync_file(self, path: Path) -> None:
        """Return when the bytes and the size of the file of that name are on the medium."""
        fd = self.open(path, os.O_RDONLY)
        try:
            self.sync(fd)
        finally:
            self.close(fd)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in a directory are on the medium."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def mkdir(self, path: Path) -> None:
        """Create one directory; its parent must exist."""
        os.mkdir(path, 0o755)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or directory another name, in place of what had it; durable once both parents are synced."""
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name that nothing has yet; durable once its parent is synced."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Take a name from a file; durable once its parent is synced."""
        os.unlink(path)


REAL_FILES = Files()
