"""Group commit: threads that append at the same time share one write and one sync."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from meshlab.errors import WriteFailed
from meshlab.wal.frame import MAX_FRAME

_MOMENT = 0.0005
"""Seconds a leader waits at most for the threads it has just woken to come back."""

_CROWD = 4
"""Requests in a batch from which on it is worth while to wait for the next ones."""


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
    """One append under way: what to write, where its thread waits, whom it wakes.

    ``heir`` tells that its thread has the lead or is the next to have it, ``gone`` that
    its thread was interrupted and waits no more.
    """

    __slots__ = ("error", "events", "following", "gate", "gone", "heir", "key", "nbytes", "receipt")

    def __init__(self, events: list[bytes], key: bytes | None) -> None:
        self.events = events
        self.key = key
        self.nbytes = sum(map(len, events))
        self.receipt: Receipt | None = None
        self.error: Exception | None = None
        self.gate: threading.Lock | None = None
        self.following: Request | None = None
        self.heir = self.gone = False


class GroupCommit:
    """Lets threads share commits: whoever finds nobody at work leads for all that wait.

    ``commit`` is called by one thread at a time with a batch of requests; it gives each
    a receipt or an error, or raises for the whole batch.

    Threads wake one another in a chain: the leader wakes one, and each wakes the next
    before it returns.  Woken all at once they would fight for the interpreter lock.
    The next leader comes last: by then most of the others wait for it again.
    """

    def __init__(self, commit: Callable[[list[Request]], None]) -> None:
        self._commit = commit
        self._mutex = threading.Lock()
        self._queue: list[Request] = []
        self._busy = False
        self._crowd = 0
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
                _pass_on(request)
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
        """Interrupted: leave the queue, or do what is owed to the others: lead, or wake the next."""
        with self._mutex:
            waiting = request in self._queue
            if waiting and not request.heir:
                self._queue.remove(request)
        if waiting and request.heir:
            self._lead()
        elif not waiting:
            request.gone = True
            _pass_on(request)

    def _lead(self) -> None:
        """Commit what waits, give the lead to the next that came meanwhile, wake the rest."""
        batch: list[Request] = []
        try:
            self._gather()
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
                heir = self._find_heir()
            _wake(batch, heir)

    def _gather(self) -> None:
        """After a large batch give its threads a moment to come back; a thread alone never waits."""
        if self._crowd < _CROWD:
            return
        end = time.perf_counter() + _MOMENT
        while 2 * len(self._queue) < self._crowd and time.perf_counter() < end:
            time.sleep(0)

    def _find_heir(self) -> Request | None:
        """The next leader; without one, do what had to wait until nobody is at work."""
        heir = self._queue[0] if self._queue else None
        self._busy = heir is not None
        if heir is not None:
            heir.heir = True
        elif self._afterwards is not None:
            with suppress(OSError):
                self._afterwards()
            self._afterwards = None
        return heir

    def _take_batch(self) -> list[Request]:
        """As many requests as one write may hold, at least one."""
        total = count = 0
        for request in self._queue:
            total += request.nbytes
            if count and total > MAX_FRAME:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        self._crowd = count
        return batch


def _fail(batch: list[Request], error: Exception) -> None:
    for request in batch:
        if request.receipt is None and request.error is None:
            request.error = error


def _wake(batch: list[Request], heir: Request | None) -> None:
    """Link the leader, those that waited for it, and the next leader; start the chain."""
    chain = [request for request in batch if request.heir]
    chain += [request for request in batch if not request.heir]
    if heir is not None and heir.gate is not None:
        chain.append(heir)
    for request, following in pairwise(chain):
        request.following = following
    if chain:
        _pass_on(chain[0])


def _pass_on(request: Request) -> None:
    """Wake the thread behind this one; behind one that is gone, the next.

    Between taking ``following`` and the release nothing is called, so no signal can come
    and lose it.  A thread that goes first says so and then passes on: whichever of the
    two comes later finds the work done.
    """
    while (following := request.following) is not None:
        request.following = None
        assert following.gate is not None
        following.gate.release()
        if not (following.gone and following.gate.acquire(blocking=False)):
            return
        request = following
