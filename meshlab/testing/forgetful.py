"""A disk that forgets: it keeps what was synced, and a crash shows what was not.

A SIGKILL cannot show a missing sync, because the page cache outlives the process.
``ForgetfulFiles.crash`` can: what was never synced is gone afterwards.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from random import Random

from meshlab.testing.names import Journal, is_at_or_below, move_back, moved, remove
from meshlab.wal.files import Files

Inode = tuple[int, int]


@dataclass
class _File:
    """One file: its bytes on the medium, the stretches that are not there yet, the paths it was seen at.

    ``last`` is what it held when a name was taken from it: all there is of a file without one.
    """

    paths: list[Path]
    durable: bytearray
    dirty: list[tuple[int, int]] = field(default_factory=list)
    last: bytes = b""

    def places(self, inode: Inode) -> list[Path]:
        """Where it is now; nowhere when its names went, or were given to another file."""
        return [path for path in dict.fromkeys(self.paths) if _still(path, inode)]


class ForgetfulFiles(Files):
    """A disk that keeps only what was synced, to be looked at after ``crash``.

    Writes go to the real directory, so readers see them at once.  Durable are: a
    file's bytes as of its last ``sync``, through whichever descriptor it came; a
    name as of the ``sync_directory`` of its parent; and everything that was there
    before.  Several writers may share one disk: they stand for several processes.
    Nothing is really synced, which makes the tests fast; renames and removals done
    beside the seam count as durable.

    A file renamed, linked or unlinked here has its old names back after a crash, until
    the directory is synced (of a rename, both: it survives whole or not at all).  And the
    sync of a name is not one of the bytes, as those find out who rename without it:

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
    >>> fd = disk.open(root / "log.new", os.O_CREAT | os.O_WRONLY)
    >>> disk.write(fd, b"better")
    6
    >>> disk.rename(root / "log.new", root / "log")
    >>> disk.sync_directory(root)
    >>> disk.crash(root)
    >>> (root / "log").read_bytes()
    b''
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._files: dict[Inode, _File] = {}
        self._names = Journal()

    def open(self, path: Path, flags: int) -> int:
        """Open a file; a name made here is lost until its directory is synced."""
        real = _real(path)
        with self._lock:
            existed = real.exists()
            if existed:
                self._learn(real)
            fd = super().open(path, flags)
            if not existed:
                self._names.note(_remove_first, real)
                self._files[_inode(fd)] = _File([real], bytearray())
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
            if file is None:
                return
            now = next(iter(file.places(_inode(fd))), None) if file.dirty else None
            for start, data in _stretches(file, now):
                _overwrite(file.durable, start, data)
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
        with self._lock:
            self._names.sync(path.resolve(strict=True))

    def mkdir(self, path: Path) -> None:
        """Make a directory, lost until its parent is synced."""
        with self._lock:
            super().mkdir(path)
            self._names.note(_remove_first, _real(path))

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file or directory; lost until the parents of both names are synced.

        After a crash the old name is back, and what the new one stood for before.
        """
        old, new = _real(source), _real(target)
        with self._lock:
            if _same(_status_of(old), _status_of(new)):
                return super().rename(source, target)  # two names of one file: rename(2) leaves both
            self._learn(old)
            put_back, replaced = self._way_back(new), _status_of(new)
            super().rename(source, target)
            self._forget(replaced)
            for file in self._files.values():
                file.paths += [moved(path, old, new) for path in file.paths if is_at_or_below(path, old)]

            def undo(names: list[Path]) -> None:
                move_back(names)
                _restore(put_back, names[1])

            self._names.note_move(undo, old, new)
            return None

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, lost until its parent is synced."""
        old, new = _real(source), _real(target)
        with self._lock:
            self._learn(old)
            super().link(source, target)
            self._learn(new)
            self._names.note(_remove_first, new)

    def unlink(self, path: Path) -> None:
        """Take a name away; it is back after a crash until its directory is synced."""
        real = _real(path)
        with self._lock:
            put_back, gone = self._way_back(real), _status_of(real)
            super().unlink(path)
            self._forget(gone)
            self._names.note(lambda names: _restore(put_back, names[0]), real)

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
        random start.  ``keep_names``: each unsynced change of a name survives by the toss
        of a coin, if the earlier ones of the same name did.
        ``keep``: files whose name matches this pattern lose no byte (the system had
        written them back by chance, and others not).
        Surviving files are new inodes: descriptors from before the crash can do no harm.
        Time stamps stay where no byte was lost.
        """
        rng = rng or Random(0)
        real = root.resolve()
        with self._lock:
            self._names.crash(real, lambda: keep_names and rng.random() < 0.5)
            for inode, file in list(self._files.items()):
                if any(is_at_or_below(path, real) for path in file.paths):
                    del self._files[inode]
                    places = file.places(inode)
                    now = places[0].read_bytes() if places else b""
                    left = _survivor(file, now, rng, keep_torn, holes)
                    for path in places:
                        _replace(path, now if fnmatchcase(path.name, keep) else left)

    def _forget(self, status: os.stat_result | None) -> None:
        """A file that lost its last name has no place: what bears its inode from now on is another."""
        if status is not None and status.st_nlink == 1 and _inode_of(status) in self._files:
            self._files[_inode_of(status)].paths.clear()

    def _learn(self, path: Path) -> None:
        """A file met for the first time is durable as it is; directories and links are left alone."""
        if path.is_symlink() or not path.is_file():
            return
        inode = _inode_of(path.stat())
        if inode not in self._files or not self._files[inode].places(inode):
            self._files[inode] = _File([path], bytearray(path.read_bytes()))
        elif path not in self._files[inode].paths:
            self._files[inode].paths.append(path)

    def _way_back(self, path: Path) -> Callable[[Path], None]:
        """How to bring back what has a name now, should it lose it."""
        if path.is_symlink():
            return partial(_link_again, path.readlink())
        if path.is_dir():
            return Path.mkdir
        if not path.exists():
            return _nothing
        self._learn(path)
        inode = _inode_of(path.stat())
        file = self._files[inode]
        file.last = path.read_bytes()
        return partial(self._put_back, file, inode, path.stat().st_mode & 0o777)

    def _put_back(self, file: _File, inode: Inode, mode: int, path: Path) -> None:
        """Give a file a name again, and if it has none left, the bytes it had."""
        places = file.places(inode) if self._files.get(inode) is file else []
        if places:
            os.link(places[0], path)
        else:
            path.write_bytes(file.last)
            path.chmod(mode)
            self._files[_inode_of(path.stat())] = file
        file.paths.append(path)

    def _note(self, fd: int, start: int, stop: int) -> None:
        file = self._files.get(_inode(fd))
        if file is not None and stop > start:
            file.dirty.append((start, stop))


def _survivor(file: _File, now: bytes, rng: Random, keep_torn: bool, holes: bool) -> bytes:
    if not keep_torn:
        return bytes(file.durable)
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


def _stretches(file: _File, now: Path | None) -> Iterator[tuple[int, bytes]]:
    """What the stretches that are not on the medium hold, in the file at a place or in the last one without a name."""
    if now is None:
        yield from ((start, file.last[start:stop]) for start, stop in file.dirty)
        return
    with now.open("rb", buffering=0) as held:
        yield from ((start, os.pread(held.fileno(), stop - start, start)) for start, stop in file.dirty)


def _overwrite(data: bytearray, start: int, new: bytes) -> None:
    if new:
        data.extend(bytes(max(0, start - len(data))))
        data[start : start + len(new)] = new


def _always_appends(fd: int) -> bool:
    return sys.platform == "linux" and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


def _real(path: Path) -> Path:
    return path.parent.resolve(strict=True) / path.name


def _inode(fd: int) -> Inode:
    return _inode_of(os.fstat(fd))


def _inode_of(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _status_of(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is not None and other is not None and os.path.samestat(one, other)


def _still(path: Path, inode: Inode) -> bool:
    status = _status_of(path)
    return status is not None and _inode_of(status) == inode


def _remove_first(names: list[Path]) -> None:
    remove(names[0])


def _restore(put_back: Callable[[Path], None], path: Path) -> None:
    """Bring back what had a name, unless the name or its directory was dealt with beside the seam."""
    if path.parent.is_dir() and not os.path.lexists(path):
        put_back(path)


def _nothing(path: Path) -> None:
    """What brings back a name that stood for nothing."""


def _link_again(target: Path, path: Path) -> None:
    path.symlink_to(target)


def _replace(path: Path, data: bytes) -> None:
    copy = path.with_name(path.name + ".after-crash")
    copy.write_bytes(data)
    copy.chmod(path.stat().st_mode & 0o777)
    if data == path.read_bytes():
        os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    copy.replace(path)
