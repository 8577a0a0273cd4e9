"""How fast a migration writes: a limit for all its processes together, and a file that makes them wait.

>>> pace = Pace(told=lambda count: None)
>>> pace.spend(1000)
>>> pace.spent
1000
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from meshlab.errors import MeshlabError
from meshlab.migrate.bars import Progress, open_bar
from meshlab.migrate.plan import PlannedUser
from meshlab.wal.files import REAL_FILES, Files

_POLL = 0.2
"""Seconds between two looks whether the pause is over."""

_TIME = struct.Struct("<d")


class Pace:
    """Lets bytes through at ``rate`` a second, and none while the file ``pause`` exists.

    ``shared`` is a file through which the processes of one migration share the rate: it
    holds the moment up to which it is used up.  ``told`` hears of the bytes as they are
    spent, ``spent`` counts them.
    """

    def __init__(
        self,
        *,
        rate: float | None = None,
        pause: Path | None = None,
        shared: Path | None = None,
        told: Callable[[int], object] | None = None,
    ) -> None:
        if rate is not None and not rate > 0:
            raise MeshlabError(f"a rate of {rate} bytes a second lets nothing through", hint="give a rate above 0")
        self.rate, self.pause, self.shared, self.told = rate, pause, shared, told
        self.spent = 0
        self._used_up = 0.0

    def spend(self, count: int) -> None:
        """Wait until ``count`` more bytes may be written."""
        self.wait()
        if self.rate is not None:
            now = time.monotonic()
            time.sleep(max(0.0, self._reserve(now, count / self.rate) - now))
        self.spent += count
        if self.told is not None:
            self.told(count)

    def wait(self) -> None:
        """Wait while the pause lasts."""
        while self.pause is not None and os.path.lexists(self.pause):
            time.sleep(_POLL)

    def _reserve(self, now: float, seconds: float) -> float:
        """Take the next free stretch of time; returns when it begins (monotonic, the same for all processes)."""
        if self.shared is None:
            start = max(now, self._used_up)
            self._used_up = start + seconds
            return start
        fd = os.open(self.shared, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            held = os.pread(fd, _TIME.size, 0)
            start = max(now, _TIME.unpack(held)[0] if len(held) == _TIME.size else 0.0)
            os.pwrite(fd, _TIME.pack(start + seconds), 0)
        finally:
            os.close(fd)
        return start


class PacedFiles(Files):
    """Passes every operation on to another ``Files``, at a pace.

    What makes or changes something waits; what reads, syncs or deletes does not.
    """

    def __init__(self, inner: Files, pace: Pace) -> None:
        self.inner, self.pace = inner, pace

    @property
    def is_real(self) -> bool:
        """Whether the operating system is right behind it."""
        return self.inner is REAL_FILES

    def open(self, path: Path, flags: int) -> int:
        """Open a file."""
        return self.inner.open(path, flags)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self.inner.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, when it is time."""
        self.pace.spend(len(data))
        return self.inner.write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at an offset, when it is time."""
        self.pace.spend(len(data))
        return self.inner.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Sync a file."""
        self.inner.sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Sync the names in a directory."""
        self.inner.sync_directory(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory, when it is time."""
        self.pace.wait()
        self.inner.mkdir(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, when it is time."""
        self.pace.wait()
        self.inner.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, when it is time."""
        self.pace.wait()
        self.inner.link(source, target)

    def unlink(self, path: Path) -> None:
        """Take a name from a file."""
        self.inner.unlink(path)


class Bar:
    """One bar of bytes over all users; each counts as many as the plan expects of it."""

    def __init__(self, todo: Sequence[PlannedUser], progress: Progress) -> None:
        self._bar = open_bar(progress, "migrate", sum(user.bytes_to_write for user in todo))
        self._spent: dict[str, int] = {}

    def counter(self, user: PlannedUser) -> Callable[[int], None]:
        """What hears of the bytes of a user."""

        def add(count: int) -> None:
            before = self._spent.get(user.uid, 0)
            now = min(before + count, user.bytes_to_write)
            self._spent[user.uid] = now
            self._bar.update(now - before)

        return add

    def done(self, user: PlannedUser) -> None:
        """A user took fewer bytes than expected, or failed."""
        self._bar.update(user.bytes_to_write - self._spent.get(user.uid, 0))
        self._spent[user.uid] = user.bytes_to_write

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
