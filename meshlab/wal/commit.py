"""Group commit: threads that append at the same time share one write and one sync."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from meshlab.errors import WriteFailed
from meshlab.wal.frame import MAX_FRAME


class Receipt(NamedTuple):
    """Where an append stands in the log; with durability ``commit`` it is on disk.

    ``first_seq`` and ``last_seq`` are equal for one event; ``offset`` is that of the
    first line in ``segment``, ``nbytes`` the size of the frame.
    """

    first_seq: int
    last_seq: int
    segment: str
    offset: int
    nbytes: int

    @property
    def lsn(self) -> str:
        """The log sequence number of the first event, ``YYYYMMDD:offset``."""
        return f"{self.segment}:{self.offset}"


class Request:
    """One append under way: what to write, where its thread waits, whether it has the lead."""

    __slots__ = ("error", "events", "gate", "heir", "key", "nbytes", "receipt")

    def __init__(self, events: list[bytes], key: bytes | None) -> None:
        self.events = events
        self.key = key
        self.nbytes = sum(map(len, events))
        self.receipt: Receipt | None = None
        self.error: Exception | None = None
        self.gate: threading.Lock | None = None
        self.heir = False


class GroupCommit:
    """Lets threads share commits: whoever finds nobody at work leads for all that wait.

    ``commit`` is called by one thread at a time with a batch of requests; it gives each
    a receipt or an error, or raises for the whole batch.
    """

    def __init__(self, commit: Callable[[list[Request]], None]) -> None:
        self._commit = commit
        self._mutex = threading.Lock()
        self._queue: list[Request] = []
        self._busy = False
        self._afterwards: Callable[[], None] | None = None

    def when_idle(self, act: Callable[[], None]) -> None:
        """Do something when no commit is under way: at once, or after the last that waits."""
        with self._mutex:
            if self._busy:
                self._afterwards = act
            else:
                act()

    def submit(self, request: Request) -> Receipt:
        """Wait until the request is committed.  Raises its error."""
        try:
            with self._mutex:
                self._queue.append(request)
                if self._busy:
                    request.gate = threading.Lock()
                    request.gate.acquire()
                else:
                    self._busy = request.heir = True
            if request.gate is not None:
                request.gate.acquire()
            if request.receipt is None and request.error is None:
                self._lead()
        except BaseException:
            self._give_way(request)
            raise
        if request.error is not None:
            raise request.error
        assert request.receipt is not None
        return request.receipt

    def _give_way(self, request: Request) -> None:
        """Interrupted: leave the queue, or, when the lead has come, do what is owed to the others."""
        with self._mutex:
            waiting = request in self._queue
            if waiting and not request.heir:
                self._queue.remove(request)
        if waiting and request.heir:
            self._lead()

    def _lead(self) -> None:
        """Commit what waits, hand the lead to the next that came meanwhile, wake the rest."""
        batch: list[Request] = []
        try:
            with self._mutex:
                batch = self._take_batch()
            self._commit(batch)
        except Exception as error:
            _fail(batch, error)
        except BaseException:
            _fail(batch, WriteFailed("the append was interrupted"))
            raise
        finally:
            with self._mutex:
                heir = self._queue[0] if self._queue else None
                self._busy = heir is not None
                if heir is not None:
                    heir.heir = True
                elif self._afterwards is not None:
                    with suppress(OSError):
                        self._afterwards()
                    self._afterwards = None
            # The next leader first: the disk idles until it runs.
            for request in [heir, *batch] if heir is not None else batch:
                if request.gate is not None:
                    request.gate.release()

    def _take_batch(self) -> list[Request]:
        """As many requests as one write may hold, at least one."""
        total = count = 0
        for request in self._queue:
            total += request.nbytes
            if count and total > MAX_FRAME:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch


def _fail(batch: list[Request], error: Exception) -> None:
    for request in batch:
        if request.receipt is None and request.error is None:
            request.error = error
