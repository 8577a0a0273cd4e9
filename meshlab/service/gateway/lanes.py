"""One lane per user: what arrives while a commit is under way is committed together by the next.

The event loop's thread owns the lanes and their queues.  A commit runs in a thread of a
small pool: it takes what waits in one lane, in order, as one ``append_chosen``: under
the log's lock it asks the index of keys which drafts are in the log already, the others
become frames of one write and one sync.  A lane has one commit at a time, so order is
kept and the index needs no lock of its own.

A log that fails takes no appends until ``mend`` has opened it anew, which writes again
what a failed sync may have lost.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Protocol

from meshlab.errors import MeshlabError, NotFound, StorageError, WriteFailed
from meshlab.service.gateway.admission import Admission
from meshlab.service.gateway.descriptors import MOST_LOGS
from meshlab.service.gateway.keys import KeyIndex, KeysFull, Room
from meshlab.service.gateway.posts import Draft
from meshlab.service.gateway.refusals import RETRY_SECONDS, Conflict, Overloaded, Unavailable, is_trouble
from meshlab.store import Store
from meshlab.wal.commit import Request
from meshlab.wal.recovery import LogEnd

THREADS = 8
_OPEN = 256
"""Logs kept open that nobody appends to."""

_AT_ONCE = 4096
_AT_ONCE_BYTES = 4 << 20
"""Most drafts, and their bytes, of one commit."""


class Watch(Protocol):
    """Who wants to know what commits do; called from their threads."""

    def committed(self, batch: list[Draft], frames: int) -> None:
        """A commit is done: its drafts have their outcome, ``frames`` were written."""

    def joined(self, count: int) -> None:
        """So many drafts had the outcome of one that was under way; called in the event loop's thread."""

    def failed(self, uid: str, error: MeshlabError) -> None:
        """A log takes no appends from now on."""


class Lane:
    """The queue of one user."""

    __slots__ = ("busy", "closing", "flying", "full", "keyed", "keys", "trouble", "uid", "waiting")

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.waiting: list[Draft] = []
        self.flying: dict[bytes, Draft] = {}
        self.keys: KeyIndex | None = None
        self.full: tuple[float, KeysFull] | None = None
        self.busy = self.closing = self.keyed = False
        self.trouble: MeshlabError | None = None

    def add(self, draft: Draft) -> None:
        """Queue a draft, behind the one with its key if there is one."""
        first = self.flying.get(draft.key) if draft.key is not None else None
        if first is not None:
            first.followers.append(draft)
            return
        if draft.key is not None:
            self.flying[draft.key] = draft
        self.waiting.append(draft)

    def check_keys(self) -> None:
        """See that keys may be looked for.  Raises ``KeysFull`` for as long as the last one said."""
        if self.full is not None:
            until, error = self.full
            left = until - time.monotonic()
            if left > 0:
                raise KeysFull(error.message, retry_after=ceil(left))
            self.full = None

    def give_up_keys(self, error: KeysFull) -> None:
        """There were too many: hold none, and look again when the error says."""
        self.forget_keys()
        self.full = time.monotonic() + (error.retry_after or 0), error

    def forget_keys(self) -> None:
        """Read them anew when they are needed."""
        if self.keys is not None:
            self.keys.forget()
            self.keys = None


class Lanes:
    """All lanes of a store; for the event loop's thread, but for what is said of threads.

    ``logs`` bounds the lanes, each of which may have its log open.
    """

    def __init__(
        self, store: Store, admission: Admission, watch: Watch, *, threads: int = THREADS, logs: int = MOST_LOGS
    ) -> None:
        self._store = store
        self._admission = admission
        self._watch = watch
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="append")
        self._logs, self._keep = logs, min(logs, _OPEN)
        self._room = Room(admission.limits.keys)
        self._lanes: dict[str, Lane] = {}
        self._idle: OrderedDict[str, Lane] = OrderedDict()
        self._closing = 0
        self._home = _identity(store.path)
        self._loop = asyncio.get_running_loop()

    @property
    def trouble(self) -> dict[str, MeshlabError]:
        """The users whose logs take no appends, and why."""
        return {lane.uid: lane.trouble for lane in self._lanes.values() if lane.trouble is not None}

    def submit(self, draft: Draft) -> None:
        """Queue a draft, which is told when it has its outcome.

        One with a key that is under way follows it: the same event has the same outcome,
        another one comes after, for it may be the one the key stands for in the log.

        Raises ``TooFast``, ``Overloaded``, ``Unavailable``, ``KeysFull``.
        """
        lane = self._lanes.get(draft.uid)
        if lane is None or lane.closing:
            self._make_room()
            lane = lane or Lane(draft.uid)
        if lane.trouble is not None:
            raise _unavailable(lane)
        if draft.key is not None:
            lane.check_keys()
            lane.keyed = True
        self._admission.enter(draft.uid, draft.nbytes)
        self._use(lane)
        lane.add(draft)
        if not lane.busy:
            lane.busy = True
            # Not at once: what other connections have sent by now goes with it.
            self._loop.call_soon(self._start, lane)

    def outcome(self, draft: Draft) -> asyncio.Future[None]:
        """Submit a draft; the future is done when it has its outcome.  Raises as ``submit``."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        draft.tell = lambda: None if waiter.done() else waiter.set_result(None)
        self.submit(draft)
        return waiter

    async def drain(self) -> None:
        """Wait until nothing is under way, then close the logs."""
        while any(lane.busy for lane in self._lanes.values()):
            await asyncio.sleep(0.01)
        await self._loop.run_in_executor(self._pool, self._store.close)
        self._pool.shutdown()

    async def mend(self, may: Callable[[MeshlabError], bool] = lambda error: True) -> None:
        """Open the logs in trouble anew, those ``may`` lets; who succeeds takes appends again."""
        for lane in [lane for lane in self._lanes.values() if lane.trouble is not None and not lane.busy]:
            assert lane.trouble is not None
            if may(lane.trouble):
                lane.busy = True
                trying = self._loop.run_in_executor(self._pool, self._try, lane)
                trying.add_done_callback(partial(self._tried, lane))
                # Who waits may be cancelled; the thread goes on, and ``drain`` waits for it.
                await asyncio.shield(trying)

    def _tried(self, lane: Lane, trying: asyncio.Future[MeshlabError | None]) -> None:
        lane.trouble = trying.result()
        self._rest(lane)

    def _try(self, lane: Lane) -> MeshlabError | None:
        """In a thread: all that may have failed.  To append nothing opens and repairs; then the keys are read."""
        try:
            self._check_home()
            self._store[lane.uid].append_chosen(lambda end: [])
            if lane.keyed:
                self._look_up_keys(lane)
        except KeysFull as error:
            lane.give_up_keys(error)
        except Exception as error:
            self._close(lane.uid)
            known = _known(error)
            return known if is_trouble(known) else None
        return None

    def _make_room(self) -> None:
        """See that one log more may be open.  Raises ``Overloaded``."""
        self._let_go(self._keep - 1)
        if len(self._lanes) - self._closing >= self._logs:
            raise Overloaded("as many logs are open as may", retry_after=1)

    def _use(self, lane: Lane) -> None:
        """Something is to be done for a lane: it stays."""
        self._lanes[lane.uid] = lane
        self._idle.pop(lane.uid, None)
        if lane.closing:
            lane.closing = False
            self._closing -= 1

    def _let_go(self, keep: int) -> None:
        """Close logs nobody appends to, those appended to the longest ago first, until so many lanes are left."""
        while self._idle and len(self._lanes) - self._closing > keep:
            _, lane = self._idle.popitem(last=False)
            lane.busy = lane.closing = True
            self._closing += 1
            # Threads take the commits that come now behind it, so that it makes room for them.
            closing = self._loop.run_in_executor(self._pool, self._close, lane.uid)
            closing.add_done_callback(partial(self._closed, lane))

    def _closed(self, lane: Lane, _: asyncio.Future[None]) -> None:
        """Forget a lane whose log was closed, if nothing came meanwhile."""
        if lane.closing:
            self._closing -= 1
            lane.forget_keys()
            del self._lanes[lane.uid]
        else:
            self._start(lane)

    def _start(self, lane: Lane) -> None:
        batch = _take(lane)
        self._pool.submit(self._commit, lane, batch)

    def _done(self, lane: Lane, batch: list[Draft], trouble: MeshlabError | None) -> None:
        """In the event loop's thread: a commit is over."""
        for draft in batch:
            self._settle(lane, draft)
        if trouble is not None:
            lane.trouble = trouble
            lane.forget_keys()
            while lane.waiting:  # what waits behind a failure was not written
                behind = lane.waiting.pop(0)
                behind.error = _unavailable(lane)
                self._settle(lane, behind)
        if lane.waiting:
            self._start(lane)
        else:
            self._rest(lane)

    def _settle(self, lane: Lane, draft: Draft) -> None:
        """A draft has its outcome."""
        self._admission.leave(draft.uid, draft.nbytes)
        if draft.key is not None:
            del lane.flying[draft.key]
        if draft.followers:
            self._lead_on(lane, draft)
        draft.done()

    def _lead_on(self, lane: Lane, first: Draft) -> None:
        """Give the outcome of a draft to those with the same event; others with its key come next."""
        joined = 0
        for draft in first.followers:
            if draft.event != first.event:
                lane.add(draft)
                continue
            self._admission.leave(draft.uid, draft.nbytes)
            draft.receipt, draft.error, draft.duplicate = first.receipt, first.error, first.receipt is not None
            joined += draft.duplicate
            draft.done()
        first.followers = []
        if joined:
            self._watch.joined(joined)

    def _rest(self, lane: Lane) -> None:
        """Nothing is to be done for a lane any more."""
        lane.busy = False
        if lane.trouble is None:
            self._idle[lane.uid] = lane
            self._let_go(self._keep)
            for idle in self._idle.values():
                if not self._room.is_short:
                    break
                idle.forget_keys()

    # In a thread of the pool

    def _check_home(self) -> None:
        """See that the store is where it was.  Raises ``StorageError``: a new one would know no key and no log."""
        found = _identity(self._store.path)
        if self._home is None:
            self._home = found
        elif found != self._home:
            raise StorageError(
                f"{self._store.path} is {'gone' if found is None else 'not the directory that was opened'}",
                hint="bring it back, or end the gateway and start it anew on what is there",
            )

    def _close(self, uid: str) -> None:
        with suppress(Exception):  # what fails here fails again when it is opened
            self._store[uid].close()

    def _commit(self, lane: Lane, batch: list[Draft]) -> None:
        trouble = None
        frames = 0
        try:
            self._check_home()
            frames = self._append(lane, batch)
        except Exception as error:
            known = _known(error)
            for draft in batch:
                # Those the index knew too: what it found may be written and not on disk.
                draft.receipt, draft.duplicate, draft.error = None, False, draft.error or known
            trouble = known if is_trouble(known) else None
        try:
            if trouble is not None:
                self._close(lane.uid)
                self._watch.failed(lane.uid, trouble)
            self._watch.committed(batch, frames)
        finally:
            self._loop.call_soon_threadsafe(self._done, lane, batch, trouble)

    def _append(self, lane: Lane, batch: list[Draft]) -> int:
        """Append what is new of a batch; returns how many frames that were."""
        try:
            return self._append_new(lane, batch)
        except KeysFull as error:
            # Nothing was written.  What is behind the first draft with a key keeps its place.
            lane.give_up_keys(error)
            first = next(number for number, draft in enumerate(batch) if draft.key is not None)
            for draft in batch[first:]:
                draft.error = error
            return self._append_new(lane, batch[:first]) if first else 0

    def _append_new(self, lane: Lane, batch: list[Draft]) -> int:
        user = self._store[lane.uid]
        if any(draft.key is not None for draft in batch):
            self._look_up_keys(lane)
        requests: dict[Draft, Request] = {}
        start: list[tuple[str | None, int]] = []

        def choose(end: LogEnd) -> list[Request]:
            start[:] = [(end.segment, end.size)]
            requests.clear()
            requests.update((draft, Request([draft.event], draft.key)) for draft in _new(batch, lane.keys, end))
            return list(requests.values())

        user.append_chosen(choose)
        for draft, request in requests.items():
            draft.receipt, draft.error = request.receipt, _known(request.error) if request.error else None
        if lane.keys is not None:
            try:
                _note(lane.keys, start[0], list(requests))
            except KeysFull as error:
                lane.give_up_keys(error)
        return sum(draft.receipt is not None for draft in requests)

    def _look_up_keys(self, lane: Lane) -> None:
        """Read the keys of a log, if that was not done.  Raises ``KeysFull``."""
        lane.check_keys()
        if lane.keys is None:
            index = KeyIndex(self._store[lane.uid].root, room=self._room)
            try:
                index.load()
            except BaseException:
                index.forget()
                raise
            lane.keys = index


def _unavailable(lane: Lane) -> Unavailable:
    assert lane.trouble is not None
    return Unavailable(f"the log takes no appends: {lane.trouble.message}", retry_after=RETRY_SECONDS)


def _known(error: Exception) -> MeshlabError:
    """An error of an append as one of ours; to who appends, a file that went is trouble and no wrong request."""
    if isinstance(error, NotFound):
        return StorageError(error.message, hint=error.hint)
    return error if isinstance(error, MeshlabError) else WriteFailed(f"{type(error).__name__}: {error}")


def _take(lane: Lane) -> list[Draft]:
    """What goes into the next commit: all that waits, if it is not too much."""
    waiting = lane.waiting
    count = nbytes = 0
    for draft in waiting[:_AT_ONCE]:
        nbytes += draft.nbytes
        if count and nbytes > _AT_ONCE_BYTES:
            break
        count += 1
    lane.waiting = waiting[count:]
    return waiting[:count]


def _new(batch: list[Draft], keys: KeyIndex | None, end: LogEnd) -> list[Draft]:
    """The drafts whose keys are not in the log; the others get their outcome here."""
    if keys is None:
        return batch
    keys.catch_up(end.segment, end.size)
    return [draft for draft in batch if draft.key is None or not _is_known(draft, draft.key, keys)]


def _is_known(draft: Draft, key: bytes, keys: KeyIndex) -> bool:
    known = keys.find(key)
    if known is None:
        return False
    if known.event == draft.event:
        draft.receipt, draft.duplicate = known.receipt, True
    else:
        draft.error = Conflict("the key stands for another event")
    return True


def _note(keys: KeyIndex, start: tuple[str | None, int], drafts: list[Draft]) -> None:
    """Put into the index what a commit has added to the log."""
    for draft in drafts:
        if draft.receipt is not None:
            last = draft.receipt
            keys.step(start, (last.segment, last.offset + last.nbytes))
            start = (last.segment, last.offset + last.nbytes)
            if draft.key is not None:
                keys.add(draft.key, last.segment, last.offset)


def _identity(path: Path) -> tuple[int, int] | None:
    """What makes a directory this one and no other of its name; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
