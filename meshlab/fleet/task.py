"""Tasks: which users one worker takes at once.

A task is worth sending when it is a tenth of a second of work or more, so small users
go together.  A user who is larger than ``split`` is cut by segment, and the pieces are
tasks of their own.

>>> users = [Weighed(f"u{number}", 1_000) for number in range(400)]
>>> [len(task.units) for task in tasks_of(users, speed=100e6, overhead=0.002, identity="x")]
[125, 125, 125, 25]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from meshlab.remote.line import Head, Images
from meshlab.tables.load import Piece
from meshlab.wal.chain import Cursor

SPLIT = 128 << 20
"""Bytes of a log from which it is read in pieces."""

WORTH = 0.25
"""Seconds of work, by estimate, that make a task; the promise is a tenth of a second."""

_LEAST = 4
"""A piece of a log is at least this part of ``split``, unless the whole log is not."""

_BEFORE = 8
"""Pieces before those of a unit that may tell where the log stands; if none does, the guess is put right later."""


class Weighed(NamedTuple):
    """A user, the bytes to read, and what tells whether they are the same next time.

    ``images`` are those listed in the bucket, ``head`` the newest, if somebody has read it;
    ``pieces`` of the log are given when it may be cut.
    """

    uid: str
    nbytes: int = 0
    mark: str = ""
    images: Images | None = None
    head: Head | None = None
    pieces: tuple[tuple[Piece, int], ...] = ()
    start: Cursor | None = None


class Unit(NamedTuple):
    """What a worker reads of one user: all, or some ``pieces`` of the log.

    ``start`` is where the log stands before them; None: to be looked up at the ends of the
    pieces ``before``, the nearest last, else ``origin``.
    """

    uid: str
    nbytes: int = 0
    mark: str = ""
    images: Images | None = None
    head: Head | None = None
    pieces: tuple[Piece, ...] | None = None
    before: tuple[Piece, ...] = ()
    start: Cursor | None = None
    origin: Cursor | None = None


class Task(NamedTuple):
    """Some units, done by one worker and kept as one partition; ``id`` is made of all that decides the result."""

    id: str
    units: tuple[Unit, ...]

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return sum(unit.nbytes for unit in self.units)

    @property
    def partial(self) -> bool:
        """Whether it is a part of one user."""
        return self.units[0].pieces is not None


class Assignment(NamedTuple):
    """A task as it is sent to a worker: with the job, its options, the place and the folder."""

    task: Task
    job: str
    options: Mapping[str, Any]
    place: Any
    folder: str
    token: str


def task_of(units: Sequence[Unit], identity: str) -> Task:
    """A task, named by its content."""
    told = [identity, *(unit._replace(images=None, head=None) for unit in units)]
    return Task(hashlib.sha256(msgspec.msgpack.encode(told)).hexdigest()[:20], tuple(units))


def tasks_of(
    users: Iterable[Weighed],
    *,
    speed: float,
    overhead: float,
    identity: str,
    split: int = SPLIT,
    alone: bool = False,
) -> Iterator[Task]:
    """Tasks in the order of the users; ``speed`` is in bytes a second, ``overhead`` in seconds a user.

    Who is worth a task goes alone: what is found of small users waits in memory until
    they are done.  With ``alone`` everybody does.
    """
    waiting: list[Unit] = []
    cost = 0.0
    for user in users:
        units = list(cut(user, split)) if user.nbytes > split else []
        if waiting and (len(units) > 1 or user.nbytes / speed >= WORTH):
            yield task_of(waiting, identity)
            waiting, cost = [], 0.0
        if len(units) > 1:
            yield from (task_of([unit], identity) for unit in units)
            continue
        waiting.append(Unit(user.uid, user.nbytes, user.mark, user.images, user.head))
        cost += overhead + user.nbytes / speed
        if alone or cost >= WORTH:
            yield task_of(waiting, identity)
            waiting, cost = [], 0.0
    if waiting:
        yield task_of(waiting, identity)


def cut(user: Weighed, split: int) -> Iterator[Unit]:
    """A user as units of neighbouring pieces, each of about ``split`` bytes at most or of one piece."""
    runs: list[list[int]] = []
    size = 0
    for index, (_, nbytes) in enumerate(user.pieces):
        if not runs or (size + nbytes > split and size >= split // _LEAST):
            runs.append([])
            size = 0
        runs[-1].append(index)
        size += nbytes
    if len(runs) > 1 and size < split // _LEAST:
        last = runs.pop()
        runs[-1] += last
    pieces = [piece for piece, _ in user.pieces]
    for run in runs:
        yield Unit(
            user.uid,
            sum(user.pieces[index][1] for index in run),
            user.mark,
            user.images,
            user.head,
            pieces=tuple(pieces[run[0] : run[-1] + 1]),
            before=tuple(pieces[max(0, run[0] - _BEFORE) : run[0]]),
            start=user.start if run[0] == 0 else None,
            origin=user.start,
        )
