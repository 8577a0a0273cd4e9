"""A disk that forgets: it keeps what was synced, and a crash shows what was not.

A SIGKILL cannot show a missing sync, because the page cache outlives the process.
``ForgetfulFiles.crash`` can: what was never synced is gone afterwards.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

from meshlab.wal.files import Files

Inode = tuple[int, int]


@dataclass
class _File:
    """One file: its path, its bytes on the medium, and the stretches that are not there yet."""

    path: Path
    durable: bytearray
    dirty: list[tuple[int, int]] = field(default_factory=list)


class ForgetfulFiles(Files):
    """A disk that keeps only what was synced, to be looked at after ``crash``.

    Writes go to the real directory, so readers see them at once.  Durable are: a
    file's bytes as of its last ``sync``, through whichever descriptor it came; a
    name as of the ``sync_directory`` of its parent; and everything that was there
    before.  Several writers may share one disk: they stand for several processes.
    Nothing is really synced, which makes the tests fast; renames and removals done
    beside the seam count as durable.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> disk = ForgetfulFiles()
    >>> fd = disk.open(root / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    >>> disk.write(fd, b"kept")
    4
    >>> disk.sync(fd)
    >>> disk.sync_directory(root)
    >>> disk.write(fd, b" and lost")
    9
    >>> disk.crash(root)
    >>> (root / "log").read_bytes()
    b'kept'
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._files: dict[Inode, _File] = {}
        self._new_names: set[Path] = set()

    def open(self, path: Path, flags: int) -> int:
        """Open a file; a name made here is lost until its directory is synced."""
        real = _real(path)
        with self._lock:
            existed = real.exists()
            if existed:
                self._learn(real)
            fd = super().open(path, flags)
            if not existed:
                self._new_names.add(real)
                self._files[_inode(fd)] = _File(real, bytearray())
            elif flags & os.O_TRUNC:
                self._note(fd, 0, len(self._files[_inode(fd)].durable))
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write at the descriptor's place (the end, with ``O_APPEND``)."""
        with self._lock:
            done = super().write(fd, data)
            stop = os.lseek(fd, 0, os.SEEK_CUR)
            self._note(fd, stop - done, stop)
        return done

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write in place (Linux puts it at the end all the same when the descriptor has ``O_APPEND``)."""
        with self._lock:
            done = super().pwrite(fd, data, offset)
            start = os.fstat(fd).st_size - done if _always_appends(fd) else offset
            self._note(fd, start, start + done)
        return done

    def sync(self, fd: int) -> None:
        """Make every byte written to the file so far durable."""
        with self._lock:
            file = self._files.get(_inode(fd))
            if file is not None and _still(file.path, _inode(fd)):
                with file.path.open("rb", buffering=0) as now:
                    for start, stop in file.dirty:
                        _overwrite(file.durable, start, os.pread(now.fileno(), stop - start, start))
                del file.durable[os.fstat(fd).st_size :]
                file.dirty.clear()

    def drop_writes(self, fd: int) -> None:
        """What a failed sync leaves: unsynced bytes count as written and are nowhere.

        The page cache still shows them, and the next sync succeeds without them.
        """
        with self._lock:
            file = self._files.get(_inode(fd))
            if file is not None:
                file.dirty.clear()

    def sync_directory(self, path: Path) -> None:
        """Make every name in the directory durable, but nothing in the files."""
        real = path.resolve(strict=True)
        with self._lock:
            self._new_names = {name for name in self._new_names if name.parent != real}

    def mkdir(self, path: Path) -> None:
        """Make a directory, lost until its parent is synced."""
        with self._lock:
            super().mkdir(path)
            self._new_names.add(_real(path))

    def crash(
        self,
        root: Path,
        *,
        rng: Random | None = None,
        keep_torn: bool = False,
        holes: bool = False,
        keep_names: bool = False,
        keep: str = "",
    ) -> None:
        """Leave under ``root`` what a power cut would, and start anew from there.

        ``keep_torn``: of the bytes appended since the last sync a random part survives
        (with ``holes``, a stretch of it as NULs), and of each unsynced write in place a
        random start.  ``keep_names``: each unsynced name survives by the toss of a coin.
        ``keep``: files whose name matches this pattern lose no byte (the system had
        written them back by chance, and others not).
        Surviving files are new inodes: descriptors from before the crash can do no harm.
        """
        rng = rng or Random(0)
        real = root.resolve()
        with self._lock:
            for name in sorted(_below(self._new_names, real)):
                if not (keep_names and rng.random() < 0.5):
                    _remove(name)
            for inode, file in list(self._files.items()):
                if file.path.is_relative_to(real):
                    del self._files[inode]
                    if _still(file.path, inode) and not fnmatchcase(file.path.name, keep):
                        _replace(file.path, _survivor(file, rng, keep_torn, holes))
                    elif _still(file.path, inode):
                        _replace(file.path, file.path.read_bytes())
            self._new_names -= set(_below(self._new_names, real))

    def _learn(self, path: Path) -> None:
        """A file met for the first time is durable as it is; directories are left alone."""
        status = path.stat()
        inode = status.st_dev, status.st_ino
        if inode not in self._files and path.is_file():
            self._files[inode] = _File(path, bytearray(path.read_bytes()))

    def _note(self, fd: int, start: int, stop: int) -> None:
        file = self._files.get(_inode(fd))
        if file is not None and stop > start:
            file.dirty.append((start, stop))


def _survivor(file: _File, rng: Random, keep_torn: bool, holes: bool) -> bytes:
    if not keep_torn:
        return bytes(file.durable)
    now = file.path.read_bytes()
    after = bytearray(file.durable)
    synced = len(after)
    for start, stop in file.dirty:
        if start < synced:
            _overwrite(after, start, now[start : rng.randint(start, min(stop, synced))])
    after += now[synced : rng.randint(synced, max(synced, len(now)))]
    if holes and len(after) > synced:
        start = rng.randrange(synced, len(after))
        stop = rng.randint(start, len(after))
        after[start:stop] = bytes(stop - start)
    return bytes(after)


def _overwrite(data: bytearray, start: int, new: bytes) -> None:
    if new:
        data.extend(bytes(max(0, start - len(data))))
        data[start : start + len(new)] = new


def _always_appends(fd: int) -> bool:
    return sys.platform == "linux" and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


def _real(path: Path) -> Path:
    return path.parent.resolve(strict=True) / path.name


def _inode(fd: int) -> Inode:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _still(path: Path, inode: Inode) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == inode


def _below(names: set[Path], root: Path) -> Iterator[Path]:
    return (name for name in names if name.is_relative_to(root))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            _remove(entry)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    copy = path.with_name(path.name + ".after-crash")
    copy.write_bytes(data)
    copy.chmod(path.stat().st_mode & 0o777)
    copy.replace(path)
