"""Appending to a user's log, durably, from many threads and processes at once.

Threads of one writer share writes and syncs (group commit): the first that finds nobody
at work leads, writes the frames of all that wait with one ``write(2)``, syncs once, and
wakes them.  Processes exclude each other by ``wal.lock``.  docs/crash.md tells the steps
and what a crash between them leaves.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from meshlab.errors import BadEvent, WalPoisoned, WriteFailed, storage_errors
from meshlab.events import MeshEvent, encode_event, encode_events
from meshlab.times import DAY, day_of, format_time, midnight
from meshlab.wal.batch import frames
from meshlab.wal.commit import GroupCommit, Receipt, Request
from meshlab.wal.computed import Choose, Chosen, Compute, Computed, chosen_from, made_ready, turns
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.frame import EVENT_START, MAX_FRAME, check_key, read_tail, too_large
from meshlab.wal.lock import Hint, LockFile, Poison
from meshlab.wal.paths import LOCK, segment_days, segment_name
from meshlab.wal.recovery import LogEnd, find_end, look_behind

Durability = Literal["commit", "os"]
Event = MeshEvent | Mapping[str, Any]

_HEAL_STEP = 4 << 20
_ENDING = 160
"""Bytes at the end of a frame that hold its seq and sum, with room to spare."""

_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOTSUP)
_LEAST = EVENT_START + len(b',"seq":1}\n')
"""Fewest bytes a frame adds to an event."""


def wall_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Writer:
    """Appends to the log of one user.

    ``durability="commit"`` returns when the events are on disk, ``"os"`` when they are
    with the operating system: they survive a crash of the process, not of the machine.
    Nothing is touched before the first append, which creates what is missing.  A write
    or sync that fails ends this writer for good; a new one repairs and goes on.
    ``least_seq`` tells a seq that is known from elsewhere to have been used.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Durability = "commit",
        files: Files = REAL_FILES,
        clock: Callable[[], int] = wall_clock,
        least_seq: Callable[[], int] = lambda: 0,
    ) -> None:
        if durability not in ("commit", "os"):
            raise ValueError(f"durability is 'commit' or 'os', not {durability!r}")
        self.root = Path(root)
        self.durability = durability
        self._files = files
        self._clock = clock
        self._least_seq = least_seq
        self._computing = False
        self._forget()

    def _forget(self) -> None:
        """Start anew: on creation, and in a forked child, where nothing may be shared."""
        self._pid = os.getpid()
        self._group = GroupCommit(self._commit)
        self._lock: LockFile | None = None
        self._fd: int | None = None
        self._day: str | None = None
        self._end: LogEnd | None = None
        self._relist = True
        self._newest = ""
        self._synced = 0
        self._named: str | None = None
        self._created: list[Path] = []
        self._failed: WalPoisoned | None = None

    def _check_process(self) -> None:
        """In a forked child, let go of the parent's files: an open copy would keep its lock alive."""
        if self._pid != os.getpid():
            with suppress(OSError):
                self._close_files()
            self._forget()

    def append(self, event: Event, *, key: str | None = None) -> Receipt:
        """Append one event; returns when it is as durable as the writer promises.

        ``key`` is kept with the event for readers who look for repeats; the log does not.

        Raises ``BadEvent`` before anything is written, ``WriteFailed`` when the outcome
        is unknown, ``WalPoisoned`` after that.
        """
        return self._submit(Request([encode_event(event)], check_key(key) if key is not None else None))

    def append_many(self, events: Iterable[Event], *, key: str | None = None) -> Receipt:
        """Append a batch as one frame: all of it or nothing is in the log.

        Raises ``BadEvent`` naming the first event that is not valid, ``FrameTooLarge``.
        """
        encoded = encode_events(list(events))
        if not encoded:
            raise BadEvent("the batch is empty")
        return self._submit(Request(encoded, check_key(key) if key is not None else None))

    def append_computed(self, compute: Compute) -> Receipt:
        """Append, as one frame, what ``compute`` makes of the log as it stands.

        It is called with ``wal.lock`` held and told where the log ends: until its events
        are written no writer that takes the lock adds any.  What it raises is raised
        here, and nothing is written for it.  It may run in another thread of this writer
        and must not append.
        """
        self._computing = True
        return self._submit(Computed(compute))

    def append_chosen(self, choose: Choose) -> None:
        """Append, each as a frame of its own, the requests that ``choose`` makes of the log as it stands.

        Called as in ``append_computed``; it may choose none.  On return all that was in
        the log when it chose is on disk too, and each request has its receipt or error.
        """
        self._computing = True
        self._submit(Chosen(choose))

    def close(self) -> None:
        """Close the files, when the appends under way are done; a later append opens them again."""
        self._check_process()
        self._group.when_idle(self._close_files)

    def _submit(self, request: Request) -> Receipt:
        # Refused here, before even a directory is made: it fits no frame, whatever its seq.
        size = request.nbytes + len(request.events) * _LEAST
        if size > MAX_FRAME:
            raise too_large(len(request.events), size)
        if self._pid != os.getpid():
            self._check_process()
        return self._group.submit(request)

    def _commit(self, batch: list[Request]) -> None:
        if self._failed is not None:
            raise WalPoisoned(self._failed.message)
        lock = self._lock or self._open()
        try:
            self._acquire(lock)
            end = self._find_place(lock)
            receipts = self._write_in_turns(lock, batch, end) if self._computing else self._write(lock, batch, end)
        finally:
            if self._lock is lock:
                lock.release()
        if receipts and self._fd is not None and self.durability == "commit":
            self._sync(lock)
        for request, receipt in receipts:
            request.receipt = receipt

    # Finding the place

    def _open(self) -> LockFile:
        with storage_errors("append to", self.root):
            self._create_directories()
            self._lock = LockFile(self.root / LOCK, self._files)
        return self._lock

    def _acquire(self, lock: LockFile) -> None:
        try:
            if lock.acquire():
                self._relist = True
        except OSError as error:
            # The next append starts anew; if the directory was deleted, it makes another.
            self._close_files()
            with storage_errors("lock", self.root / LOCK):
                raise error

    def _create_directories(self) -> None:
        missing = []
        path = self.root
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for path in reversed(missing):
            try:
                self._files.mkdir(path)
            except FileExistsError:
                if not path.is_dir():
                    raise
            self._created.append(path)

    def _find_place(self, lock: LockFile) -> LogEnd:
        """Where the log ends, under the lock: as remembered if nothing changed, else from hint or log."""
        if self._end is not None and lock.is_as_written() and self._is_as_left(self._end):
            return self._end
        hint, poison = lock.read()
        if poison is not None:
            if self._end is not None:
                self._failed = WalPoisoned(f"{self.root}: a write or sync of {segment_name(poison.segment)} failed")
                raise WalPoisoned(self._failed.message)
            self._heal(lock, poison)
        with storage_errors("read the log in", self.root):
            # First of all, for it lets go of a segment that is not the one of that name any more.
            newer = self._has_newer(hint.segment if hint is not None else "")
            if self._end is None or hint is None or newer:
                return self._go_on(find_end(self.root, hint))
            end = LogEnd(hint.segment, hint.size, hint.seq, hint.sum, False, [], hint.segment)
            size = self._open_segment(hint.segment)
            if size != hint.size:
                return look_behind(self.root, end)
            return end if self._ends_with(hint) else find_end(self.root)

    def _go_on(self, found: LogEnd) -> LogEnd:
        """Never count below what was acknowledged or folded: what was taken away must leave a gap."""
        known = max(self._end.seq if self._end is not None else 0, self._least_seq())
        return found._replace(seq=known) if found.seq < known else found

    def _ends_with(self, hint: Hint) -> bool:
        """Whether the frame the hint tells of is the last of the open segment."""
        assert self._fd is not None
        tail = read_tail(os.pread(self._fd, _ENDING, max(0, hint.size - _ENDING)).rstrip(b"\n"))
        return tail is not None and (tail.seq, tail.sum) == (hint.seq, hint.sum)

    def _is_as_left(self, end: LogEnd) -> bool:
        """Whether the open segment has the size we left it with and is still the newest."""
        if end.segment is None or self._day != end.segment or (self._relist and self._has_newer(end.segment)):
            return False
        return self._fd is not None and self._newest <= end.segment and os.fstat(self._fd).st_size == end.size

    def _is_named(self) -> bool:
        """Whether the open segment is still the file that has its name."""
        if self._fd is None or self._day is None:
            return True
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.root / segment_name(self._day)))
        except FileNotFoundError:
            return False

    def _has_newer(self, segment: str) -> bool:
        """Whether a segment newer than this one exists; lists the directory when it has changed.

        Then also lets go of the open segment if it was deleted, moved or replaced.
        """
        if self._relist:
            if not self._is_named():
                self._close_segment()
            self._newest = max(segment_days(self.root), default="")
            self._relist = False
        return self._newest > segment

    def _open_segment(self, day: str) -> int:
        """Make the segment of a day the open one; returns its size."""
        if self._fd is None or self._day != day:
            self._close_segment()
            self._fd = self._files.open(self.root / segment_name(day), os.O_RDWR | os.O_APPEND | os.O_CREAT)
            self._day = day
            self._synced = 0
            self._named = None
        return os.fstat(self._fd).st_size

    def _close_segment(self) -> None:
        if self._fd is not None:
            self._files.close(self._fd)
        self._fd = self._day = None

    def _close_files(self) -> None:
        self._close_segment()
        if self._lock is not None:
            self._lock.close()
        self._lock = self._end = None

    def _heal(self, lock: LockFile, poison: Poison) -> None:
        """Write the bytes again that a failed sync may have lost, sync, and clear the poison.

        The one exception to append-only: the same bytes at the same place.  After a
        failed sync the kernel holds pages clean that never reached the disk; only
        writing them makes it try again.
        """
        for day in segment_days(self.root):
            if day >= poison.segment:
                path = self.root / segment_name(day)
                with storage_errors("repair", path):
                    self._rewrite(path, poison.offset if day == poison.segment else 0)
        with storage_errors("repair", self.root / LOCK):
            lock.write_poison(None)

    def _rewrite(self, path: Path, at: int) -> None:
        fd = self._files.open(path, os.O_RDWR)
        try:
            size = os.fstat(fd).st_size
            while at < size:
                data = os.pread(fd, min(_HEAL_STEP, size - at), at)
                at += self._files.pwrite(fd, data, at)
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    # Writing

    def _write(self, lock: LockFile, batch: list[Request], end: LogEnd) -> list[tuple[Request, Receipt]]:
        """Write the frames of a batch with one ``write(2)``, under the lock."""
        now = self._clock()
        day = max(day_of(now), end.segment or "")
        if day != self._day or day != end.segment or day != end.framed:
            end = self._turn_to(lock, day, end, now)
        data, receipts, after = frames(batch, end, format_time(now))
        if receipts:
            slipped = self._put(lock, day, data) - end.size
            if slipped:
                receipts = [
                    (request, receipt._replace(offset=receipt.offset + slipped)) for request, receipt in receipts
                ]
                after = after._replace(size=after.size + slipped)
            lock.write_hint(Hint(day, after.size, after.seq, after.sum))
            self._end = after
        return receipts

    def _write_in_turns(self, lock: LockFile, batch: list[Request], end: LogEnd) -> list[tuple[Request, Receipt]]:
        """Write a batch that may hold computed appends, each of which sees those before it in the file."""
        receipts: list[tuple[Request, Receipt]] = []
        for together in turns(batch):
            if ready := made_ready(together, end):
                written = self._write(lock, ready, end)
                receipts += written
                end = self._end if written and self._end is not None else end
            chosen = chosen_from(together)
            if chosen and not ready and end.segment is not None:
                # What it chose from may be another process's, and not on disk yet: the sync sees to it.
                with storage_errors("append to", self.root / segment_name(end.segment)):
                    self._open_segment(end.segment)
            receipts += chosen
        return receipts

    def _turn_to(self, lock: LockFile, day: str, end: LogEnd, now: int) -> LogEnd:
        """Make the segment of ``day`` the open one, and leave an earlier one in good order."""
        if midnight(day) > now + 2 * DAY:
            message = f"{self.root}: the newest segment {day} is days ahead of the clock"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        with storage_errors("append to", self.root / segment_name(day)):
            for earlier in sorted({name for name in (end.segment, end.framed) if name and name != day}):
                self._leave(lock, earlier)
            size = self._open_segment(day)
            if end.segment == day:
                return end
            if size:
                return find_end(self.root)
        return end._replace(segment=day, size=0, newline=False)

    def _put(self, lock: LockFile, day: str, data: bytes) -> int:
        """One write; returns where it went, which a writer without the lock may have moved."""
        assert self._fd is not None
        try:
            written = self._files.write(self._fd, data)
        except OSError as error:
            raise self._poison(lock, day, error) from error
        if written != len(data):
            raise self._poison(lock, day, f"only {written} of {len(data)} bytes were written")
        return os.lseek(self._fd, 0, os.SEEK_CUR) - written

    def _leave(self, lock: LockFile, day: str) -> None:
        """Sync the segment of an earlier day before the first frame of a new one."""
        self._open_segment(day)
        assert self._fd is not None
        try:
            self._files.sync(self._fd)
        except OSError as error:
            raise self._poison(lock, day, error) from error

    def _sync(self, lock: LockFile) -> None:
        """Sync the open segment and, the first time in it, the directories that name it."""
        assert self._fd is not None and self._day is not None
        try:
            self._files.sync(self._fd)
            if self._named != self._day:
                self._sync_names()
                self._named = self._day
        except OSError as error:
            lock.acquire()
            try:
                raise self._poison(lock, self._day, error) from error
            finally:
                lock.release()
        if self._end is not None and self._end.segment == self._day:
            self._synced = self._end.size

    def _sync_names(self) -> None:
        """Make the names on the way to the log durable."""
        sync_names(self.root, self._files, [path.parent for path in self._created])
        self._created.clear()

    def _poison(self, lock: LockFile, day: str, cause: OSError | str) -> WriteFailed:
        """Refuse all further appends, here and in other processes; returns the error to raise."""
        path = self.root / segment_name(day)
        self._failed = WalPoisoned(f"{path}: an earlier write or sync failed")
        try:
            found = Poison(day, self._synced if self._day == day else 0)
            known = lock.read()[1]
            lock.write_poison(min(found, known) if known else found)
        except OSError:
            # The disk takes nothing at all: this process refuses, others will fail for themselves.
            self._failed = WalPoisoned(f"{path}: an earlier write or sync failed and could not be noted in {LOCK}")
        reason = cause if isinstance(cause, str) else cause.strerror or str(cause)
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        return WriteFailed(f"cannot append to {path}: {reason}", hint=_FULL if full else None)


def sync_names(root: Path, files: Files, more: Iterable[Path] = ()) -> None:
    """Make the names on the way to a user's log durable, whoever made the files; and those in ``more``."""
    store = root.parent
    for directory in dict.fromkeys([root, store, *more]):
        files.sync_directory(directory)
    # The maker of the store may have died before it could do this; a parent that may
    # not be read, or cannot be synced, is somebody else's and was there before.
    try:
        files.sync_directory(store.absolute().parent)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise


_FULL = (
    "the disk is full: free space, reopen the store, and look at the end of the log before sending these events again"
)
