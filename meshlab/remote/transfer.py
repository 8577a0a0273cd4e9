"""Many requests at once, and never more than a few blocks in memory.

A block takes a slot before it is read and gives it back when it was put, so the memory
of all pushes together is bounded by ``SLOTS`` blocks, whatever the number of users.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CONNECTIONS = 8
"""Requests with a body at once."""

SLOTS = 12
"""Blocks in memory at once: those under way, and a few that are read and hashed meanwhile."""

USERS = 8
"""Users worked on at once: for small ones it is the answers of the server that take the time."""


class Lanes:
    """The connections all users share."""

    def __init__(self, connections: int = CONNECTIONS, slots: int = SLOTS) -> None:
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="meshlab-remote")
        self._slots = threading.BoundedSemaphore(slots)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="meshlab-check")

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._aside.shutdown(cancel_futures=True)

    def beside(self, work: Callable[[], R], *, small: bool) -> Future[R]:
        """Work that goes on beside the requests; one piece at a time, for it takes much memory, unless it is small."""
        if not small:
            return self._aside.submit(work)
        done: Future[R] = Future()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return done

    def sender(self) -> Sender:
        """For the blocks of one user."""
        return Sender(self._pool, self._slots)

    def fetch(self, request: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """What ``request`` gives for each item, in order; a few are asked for ahead."""
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                # Who holds blocks never waits for a slot: others may be waiting for his.
                while waiting and not self._slots.acquire(blocking=False):
                    yield self._next(waiting)
                if not waiting:
                    self._slots.acquire()
                waiting.append(self._pool.submit(request, item))
                if len(waiting) >= CONNECTIONS:
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        finally:
            for future in waiting:
                future.cancel()
                self._slots.release()

    def _next(self, waiting: deque[Future[R]]) -> R:
        try:
            return waiting.popleft().result()
        finally:
            self._slots.release()


class Sender:
    """The blocks of one user on their way; leave it by ``finish``, or by ``give_up``."""

    def __init__(self, pool: ThreadPoolExecutor, slots: threading.BoundedSemaphore) -> None:
        self._pool, self._slots = pool, slots
        self._sent: list[Future[None]] = []
        self._failed = threading.Event()

    def send(self, read: Callable[[], T], put: Callable[[T], None]) -> T:
        """Read a block now and put it soon; returns what was read.  Raises what an earlier put has raised."""
        self._slots.acquire()
        try:
            self._raise_failed()
            block = read()
            self._sent.append(self._pool.submit(self._put, put, block))
        except BaseException:
            self._slots.release()
            raise
        return block

    def finish(self) -> None:
        """Return when every block was put; raises what a put has raised."""
        for future in self._sent:
            future.result()

    def give_up(self) -> None:
        """Put nothing more, and return when nothing is under way."""
        self._failed.set()
        for future in self._sent:
            future.exception()

    def _put(self, put: Callable[[T], None], block: T) -> None:
        try:
            if not self._failed.is_set():
                put(block)
        except BaseException:
            self._failed.set()
            raise
        finally:
            self._slots.release()

    def _raise_failed(self) -> None:
        if self._failed.is_set():
            self.finish()


def in_turn(work: Callable[[T], R], items: Iterable[T], workers: int = USERS) -> Iterator[R]:
    """What ``work`` gives for each item, in order, with a few at work at once."""
    with ThreadPoolExecutor(workers, thread_name_prefix="meshlab-users") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
