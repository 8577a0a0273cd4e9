"""Following a log: what it gained since it was last read, and whether that is all there is to know.

A follower reads new bytes only.  When a log changes otherwise (an older segment grows, a
segment is replaced) it says so, and the log must be read anew.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from meshlab.dialects import Parsed, parse_event
from meshlab.errors import storage_errors
from meshlab.jsontext import NotJson
from meshlab.times import parse_time
from meshlab.wal.chain import Cursor
from meshlab.wal.files import open_regular
from meshlab.wal.frame import EVENT_KEY, EVENT_START, KEY_KEY, LINE_START, MAX_KEY, SEQ_KEY, TIME_LENGTH, read_frame
from meshlab.wal.lines import Block, Reject
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.reader import Part, resolve, scan_segment, settled_ends

_GLANCE = 64 << 10
"""Bytes up to which single frames of ours are read line by line, without numpy."""

_GRAIN = 50_000_000
"""Nanoseconds within which two changes of a directory may bear the same time."""

_HEAD = re.compile(rb'\{"timestamp":"([0-9T:.-]{26}Z)","event":\{"(?!Recovered")')
_KEY_SPAN = len(KEY_KEY) + MAX_KEY + 1
assert len(LINE_START) + TIME_LENGTH + len(EVENT_KEY) == EVENT_START


class Gain(NamedTuple):
    """What a log gained: events in log order, what is no event, and where the log stands behind it.

    ``sizes`` are those of the segments when they were read; ``ends`` may lie before
    them, where something unfinished begins.
    """

    events: list[Parsed]
    rejects: list[Reject]
    ends: dict[str, int]
    sizes: dict[str, int]
    end: Cursor


class LogFollower:
    """Reads what a log gains behind the place it was read to.

    ``ends`` says per segment how far that is, ``end`` what the chain is there.
    """

    def __init__(self, root: Path, ends: Mapping[str, int], end: Cursor) -> None:
        self._root = root
        self._ends = dict(ends)
        self._sizes = dict(ends)
        self._end = end
        self._days = sorted(ends)
        self._listed: tuple[int, int, int] | None = None
        self._inode = self._inode_of(self._days[-1]) if self._days else None

    def has_changed(self, *, older: bool = False) -> bool:
        """Whether there is something to read; looks at the two newest segments, or at the ``older`` too."""
        return self._list() != self._days or any(
            self._size(day) != self._sizes.get(day) for day in (self._days if older else self._days[-2:])
        )

    def read(self) -> Gain | None:
        """What the log gained, or None when it must be read anew.  Moves nothing."""
        days = self._list()
        newest = self._days[-1] if self._days else ""
        if not self._only_grew(days, newest):
            return None
        return self._glance(days) or self._scan([day for day in days if day >= newest])

    def advance(self, gain: Gain) -> None:
        """Stand behind what was gained."""
        known = self._ends | gain.ends
        self._ends = {day: known.get(day, 0) for day in self._list()}
        self._sizes = self._ends | gain.sizes
        self._end = gain.end
        self._days = sorted(self._ends)
        self._inode = self._inode_of(self._days[-1]) if self._days else None

    # Looking

    def _list(self) -> list[str]:
        """The days there are segments for; lists the directory when it has changed."""
        try:
            place = os.stat(self._root)
        except FileNotFoundError:
            return []
        seen = (place.st_dev, place.st_ino, place.st_mtime_ns)
        if seen == self._listed:
            return self._days
        days = segment_days(self._root)
        if days == self._days and time.time_ns() - place.st_mtime_ns > _GRAIN:
            self._listed = seen
        return days

    def _size(self, day: str) -> int:
        try:
            return os.stat(self._root / segment_name(day)).st_size
        except FileNotFoundError:
            return -1

    def _inode_of(self, day: str) -> int:
        try:
            return os.stat(self._root / segment_name(day)).st_ino
        except FileNotFoundError:
            return -1

    def _only_grew(self, days: Sequence[str], newest: str) -> bool:
        """Whether nothing but the newest segment changed, and that one only grew."""
        if any(day < newest and self._size(day) != self._ends.get(day, 0) for day in days):
            return False
        if not newest:
            return not days
        if newest not in days or self._inode_of(newest) != self._inode:
            return False
        return self._size(newest) >= self._ends[newest] and self._goes_on(newest)

    def _goes_on(self, day: str) -> bool:
        """Whether a last line that lacked its newline was ended by one, not glued to another."""
        end = self._ends[day]
        if end == 0:
            return True
        around = self._bytes(day, end - 1, 2)
        return around[:1] == b"\n" or around[1:] in (b"", b"\n")

    def _bytes(self, day: str, at: int, count: int) -> bytes:
        path = self._root / segment_name(day)
        with storage_errors("read", path), open(path, "rb", 0, opener=open_regular) as file:
            return os.pread(file.fileno(), count, at)

    # Reading

    def _glance(self, days: Sequence[str]) -> Gain | None:
        """A few single frames of ours, each the next of the chain; None for anything else."""
        if days != self._days or not days:
            return None
        day, at, end = days[-1], self._ends[days[-1]], self._end
        data = self._bytes(day, at, _GLANCE + 1)
        if len(data) > _GLANCE or not data.endswith(b"\n"):
            return None
        events = []
        for line in data.splitlines(keepends=True):
            tail, event = read_frame(line), _single(line)
            if tail is None or event is None or (tail.n, tail.seq, tail.prev) != (1, end.seq + 1, end.sum):
                return None
            end = end._replace(seq=tail.seq, sum=tail.sum)
            events.append(event)
        stop = {day: at + len(data)}
        return Gain(events, [], stop, stop, end)

    def _scan(self, days: Sequence[str]) -> Gain | None:
        """All there is in some days, behind where the first was read to."""
        events: list[Parsed] = []
        parts: list[Part] = []
        end = self._end
        for day in days:
            scan = scan_segment(self._root, day, end, newest=day == days[-1], offset=self._ends.get(day, 0))
            try:
                for block in scan:
                    events += _events_of(block)
            except NotJson:
                return None
            end = scan.end
            parts.append(scan.part)
        sizes = {part.tally.segment: part.stop for part in parts}
        return Gain(events, resolve(parts), settled_ends(parts), sizes, end)


def _events_of(block: Block) -> list[Parsed]:
    text = memoryview(block.data)
    spans = zip(block.event_start.tolist(), block.event_stop.tolist(), strict=True)
    parsed = block.parsed
    return [parsed[row] if row in parsed else parse_event(bytes(text[a:b])) for row, (a, b) in enumerate(spans)]


def _single(line: bytes) -> Parsed | None:
    """The event of a line in our own layout and without a key; None for any other."""
    head = _HEAD.match(line)
    stop = line.rfind(SEQ_KEY)
    if head is None or KEY_KEY in line[max(0, stop - _KEY_SPAN) : stop]:
        return None
    try:
        line.decode()
        return parse_event(line[EVENT_START:stop]) if parse_time(head[1].decode()) is not None else None
    except (NotJson, UnicodeDecodeError):
        return None
