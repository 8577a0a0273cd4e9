"""The idempotency keys of one user's log: which of the last 24 hours stand in it, and where.

The log is the store of keys; what is kept here is an index of it, made anew whenever it
is needed and missing.  An entry is the hash of a key and the place of its line, so a hit
is always checked against the line itself.  Sixteen bytes a key, of two days at most, up
to forty while runs are merged; the newest of a user, 4,096 at most, take about a hundred.
A ``Room`` bounds how many there are.

Whoever looks for a key in order to append holds ``wal.lock`` and has caught up with the
end of the log: then no other process can add the same key meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meshlab.errors import storage_errors
from meshlab.service.gateway.refusals import Refused
from meshlab.times import DAY, day_of, midnight, parse_time
from meshlab.wal.chain import MIDDLE
from meshlab.wal.commit import Receipt
from meshlab.wal.files import open_regular
from meshlab.wal.frame import (
    EVENT_START,
    KEY_KEY,
    LINE_START,
    MAX_FRAME,
    MAX_KEY,
    SEQ_KEY,
    TIME_LENGTH,
    is_member,
    read_frame,
    read_tail,
)
from meshlab.wal.lines import Block, windows
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.reader import scan_segment, settled_ends
from meshlab.wal.writer import wall_clock

WINDOW = DAY
"""Microseconds for which a key stands for its event."""

_OFFSET_BITS = 40
_OFFSETS = (1 << _OFFSET_BITS) - 1
_RECENT = 1 << 12
"""Keys kept in a dict before they are frozen into an array."""

_LOOK = 64 << 10
_TIME = slice(len(LINE_START), len(LINE_START) + TIME_LENGTH)


class KeysFull(Refused):
    """More keys than may be kept."""

    status, reason = 503, "overload"
    default_hint = "nothing was written; events without a key are taken, those with one again when older keys expire"


class Room:
    """How many keys all indexes of a process may hold, and each of them; threads may share it."""

    def __init__(self, most: int) -> None:
        self._most, self._each = most, most // 2
        self._mutex = threading.Lock()
        self.taken = 0

    @property
    def is_short(self) -> bool:
        """Whether indexes nobody uses should be let go."""
        return self.taken > 3 * self._most // 4

    def take(self, has: int, count: int) -> None:
        """Make room for keys of an index that ``has`` some.  Raises ``KeysFull``."""
        with self._mutex:
            if has + count > self._each:
                raise KeysFull(f"this user has used {self._each:,} keys in a day, as many as may be", retry_after=600)
            if self.taken + count > self._most:
                raise KeysFull("the gateway keeps as many keys as it may", retry_after=60)
            self.taken += count

    def give(self, count: int) -> None:
        """Keys are held no more."""
        with self._mutex:
            self.taken -= count


class Known(NamedTuple):
    """An event that has a key: its JSON, None when it is one of a batch under that key, and where it stands."""

    event: bytes | None
    receipt: Receipt


class KeyIndex:
    """The keys of one user's log; for one thread at a time.  ``forget`` gives back the ``room`` it takes.

    ``load``, ``catch_up`` and ``add`` raise ``KeysFull``, after which it is of no use.
    """

    def __init__(self, root: Path, *, clock: Callable[[], int] = wall_clock, room: Room | None = None) -> None:
        self._root = root
        self._clock = clock
        self._room = room or Room(1 << 62)
        self._frozen = 0
        self.forget()

    def forget(self) -> None:
        """Hold nothing any more."""
        self._room.give(self._frozen)
        self._frozen = 0
        self._recent: dict[int, int] = {}
        self._runs: list[_Run] = []
        self._segment, self._size = "", 0

    def __len__(self) -> int:
        """Keys in the index, expired ones that were not dropped yet among them."""
        return len(self._recent) + self._frozen

    def load(self) -> None:
        """Read what the log holds now, without a lock: the long part of catching up."""
        days = segment_days(self._root) if self._root.is_dir() else []
        if days:
            self._size = self._read_from(days[-1], None)
            self._segment = days[-1]

    def catch_up(self, segment: str | None, size: int) -> None:
        """Take in what the log gained up to ``size`` of its newest segment, where no line is under way."""
        if segment is None or (segment, size) == (self._segment, self._size):
            return
        if segment == self._segment and size < self._size:
            self.forget()
        self._read_from(segment, size)
        self._segment, self._size = segment, size

    def step(self, before: tuple[str | None, int], after: tuple[str, int]) -> None:
        """Pass over what this process itself wrote, if all before it is known."""
        if before[0] is None or before == (self._segment, self._size):
            self._segment, self._size = after

    def add(self, key: bytes, segment: str, offset: int) -> None:
        """Note the place of a line with a key."""
        self._recent[hash(key)] = _place(segment, offset)
        if len(self._recent) >= _RECENT:
            hashes = np.fromiter(self._recent, np.int64, len(self._recent))
            places = np.fromiter(self._recent.values(), np.int64, len(self._recent))
            self._recent = {}
            self._freeze(hashes, places)

    def find(self, key: bytes) -> Known | None:
        """The event that has the key, if it is not older than 24 hours."""
        for place in self._places(hash(key)):
            known = self._known(key, day_of((place >> _OFFSET_BITS) * DAY), place & _OFFSETS)
            if known is not None:
                return known
        return None

    def _places(self, wanted: int) -> Iterator[int]:
        """Where the key may stand, the newest places first."""
        if wanted in self._recent:
            yield self._recent[wanted]
        for run in reversed(self._runs):
            yield from run.places_of(wanted)

    def _known(self, key: bytes, segment: str, offset: int) -> Known | None:
        line = _line_at(self._root / segment_name(segment), offset)
        stop = line.rfind(KEY_KEY + key + b'"' + SEQ_KEY)
        time = parse_time(line[_TIME].decode("ascii", "replace"))
        if stop < 0 or time is None or self._clock() - time > WINDOW:
            return None
        frame = read_frame(line)
        if frame is not None:
            event = line[EVENT_START:stop] if frame.n == 1 else None
            return Known(event, Receipt(frame.seq, frame.seq, segment, offset, len(line) + 1))
        tail = read_tail(line)
        of_batch = tail.n > 1 if tail is not None else is_member(line + b"\n")
        return Known(None, Receipt(0, 0, segment, offset, 0)) if of_batch else None

    def _read_from(self, segment: str, stop: int | None) -> int:
        """Read on up to the end of a segment, or to ``stop`` in it; returns how far that is."""
        oldest = max(self._segment, day_of(self._clock() - WINDOW))
        end = 0
        for day in segment_days(self._root):
            if oldest <= day <= segment:
                begin = self._size if day == self._segment else 0
                limit = stop if day == segment else None
                scan = scan_segment(self._root, day, MIDDLE, newest=True, offset=begin, stop=limit)
                for block in scan:
                    self._take(block)
                end = settled_ends([scan.part])[day]
        return end

    def _take(self, block: Block) -> None:
        rows = np.flatnonzero((block.key_start >= 0) & (block.effective >= self._clock() - WINDOW))
        if not len(rows):
            return
        texts = windows(block.data, block.key_start[rows], MAX_KEY)
        lengths = block.key_stop[rows] - block.key_start[rows]
        texts[np.arange(MAX_KEY) >= lengths[:, None]] = 0
        keys = texts.view(f"S{MAX_KEY}").ravel().tolist()
        hashes = np.fromiter(map(hash, keys), np.int64, len(rows))
        self._freeze(hashes, _place(block.segment, 0) + block.base + block.start[rows])

    def _freeze(self, hashes: Any, places: Any) -> None:
        """Add a run; neighbours of one size are merged, so that there are few."""
        self._room.take(self._frozen, len(hashes))
        self._frozen += len(hashes)
        self._runs.append(_Run.of(hashes, places))
        floor = _place(day_of(self._clock() - WINDOW), 0)
        while len(self._runs) > 1 and len(self._runs[-2].hashes) <= 2 * len(self._runs[-1].hashes):
            last, before = self._runs.pop().since(floor), self._runs.pop().since(floor)
            self._runs.append(before.merged(last))
        frozen = sum(len(run.hashes) for run in self._runs)
        self._room.give(self._frozen - frozen)
        self._frozen = frozen


class _Run(NamedTuple):
    """Hashes of keys in order, and the place of each; of equal hashes the newest place first."""

    hashes: Any
    places: Any

    @classmethod
    def of(cls, hashes: Any, places: Any) -> _Run:
        order = np.lexsort((-places, hashes))
        return cls(hashes[order], places[order])

    def since(self, floor: int) -> _Run:
        """It without what stands before ``floor``."""
        young = self.places >= floor
        return self if young.all() else _Run(self.hashes[young], self.places[young])

    def merged(self, newer: _Run) -> _Run:
        """Both in one.  Nothing is sorted: for a moment it takes what both take once more, and little beside."""
        at = np.searchsorted(self.hashes, newer.hashes, "left")
        at += np.arange(len(at))
        old = np.ones(len(self.hashes) + len(newer.hashes), bool)
        old[at] = False
        return _Run(*(_interleaved(old, at, *pair) for pair in zip(self, newer, strict=True)))

    def places_of(self, wanted: int) -> Iterator[int]:
        first = np.searchsorted(self.hashes, wanted, "left")
        last = np.searchsorted(self.hashes, wanted, "right")
        yield from self.places[first:last].tolist()


def _interleaved(old: Any, at: Any, of_old: Any, of_new: Any) -> Any:
    both = np.empty(len(old), np.int64)
    both[old], both[at] = of_old, of_new
    return both


def _place(segment: str, offset: int) -> int:
    return (midnight(segment) // DAY) << _OFFSET_BITS | offset


def _line_at(path: Path, offset: int) -> bytes:
    """The line that begins at an offset, without its newline; nothing when the file is gone."""
    look = _LOOK
    try:
        with storage_errors("read", path), open(path, "rb", 0, opener=open_regular) as file:
            while True:
                data = os.pread(file.fileno(), look, offset)
                line, newline, _ = data.partition(b"\n")
                if newline or len(data) < look or look >= MAX_FRAME:
                    return line
                look *= 8
    except LookupError:
        return b""
