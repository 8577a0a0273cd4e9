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
        self._batch: list[Request] = []
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
                if self._busy:
                    gate = threading.Lock()
                    gate.acquire()
                    request.gate = gate
                else:
                    self._busy = request.heir = True
                self._queue.append(request)
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
            leading = request.heir and request in self._batch
            if waiting and not request.heir:
                self._queue.remove(request)
        if waiting and request.heir:
            self._lead()
        elif leading:
            self._finish()
        elif not waiting:
            request.gone = True
            _pass_on(request)

    def _lead(self) -> None:
        """Commit what waits, give the lead to the next that came meanwhile, wake the rest."""
        try:
            if self._crowd >= _CROWD:
                self._gather()
            with self._mutex:
                self._take_batch()
            self._commit(self._batch)
        except Exception as error:
            _fail(self._batch, error)
        finally:
            self._finish()

    def _gather(self) -> None:
        """After a large batch give its threads a moment to come back; a thread alone never waits."""
        end = time.perf_counter() + _MOMENT
        while 2 * len(self._queue) < self._crowd and time.perf_counter() < end:
            time.sleep(0)

    def _finish(self) -> None:
        """Find the next leader and start the chain; done again when a signal came between."""
        with self._mutex:
            _fail(self._batch, _INTERRUPTED)
            heir = self._queue[0] if self._queue else None
            if heir is not None:
                heir.heir = True
            elif self._afterwards is not None:
                with suppress(OSError):
                    self._afterwards()
                self._afterwards = None
            alone = heir is None and len(self._batch) == 1
            leader = None if alone else _link(self._batch, heir)
            # Nothing is called between the two: a signal finds both done or neither.
            self._batch, self._busy = [], heir is not None
        if leader is not None:
            _pass_on(leader)

    def _take_batch(self) -> None:
        """As many requests as one write may hold, at least one."""
        total = count = 0
        for request in self._queue:
            total += request.nbytes
            if count and total > MAX_FRAME:
                break
            count += 1
        self._crowd = count
        # Nothing is called between the two, so that a signal cannot lose a request.
        self._batch, self._queue = self._queue[:count], self._queue[count:]


_INTERRUPTED = "the append was interrupted"


def _fail(batch: list[Request], error: Exception | str) -> None:
    """Give the error to all that have no outcome yet."""
    for request in batch:
        if request.receipt is None and request.error is None:
            request.error = WriteFailed(error) if isinstance(error, str) else error


def _link(batch: list[Request], heir: Request | None) -> Request | None:
    """Say who wakes whom: the leader, those that waited for it, the next leader; returns the first."""
    if not batch:
        return None
    chain = [request for request in batch if request.heir]
    chain += [request for request in batch if not request.heir]
    if heir is not None:
        chain.append(heir)
    for request, following in pairwise(chain):
        request.following = following
    return chain[0]


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
