"""A log made by hand: the frames you name, at the times you name, plus any raw bytes.

>>> log = LogBuilder()
>>> log.frame([{"Delete": "m1"}], day="20250701").last_seq
1
>>> log.raw(b"half a li", day="20250702")
>>> log.days()
['20250701', '20250702']
>>> log.bytes("20250702")
b'half a li'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshlab.events import MeshEvent, encode_event
from meshlab.times import DAY, SECOND, day_of, format_time, midnight
from meshlab.wal.frame import NO_SUM, Frame, write_frame
from meshlab.wal.paths import segment_name

AnyEvent = MeshEvent | Mapping[str, Any] | bytes
"""An event, its plain dict, or its JSON as bytes that are taken as they are."""

Data = bytes  # inside the class below, ``bytes`` is its method

FIRST_DAY = "20250701"


class LogBuilder:
    """Segments of one user in memory, chained the way the writer chains them.

    ``seq`` and ``prev`` stand for the last frame and may be set, to make a gap or a
    fork.  A frame without ``day`` goes to the day of the one before, one without
    ``time`` a second after it (from midnight on).

    >>> log = LogBuilder("20250701")
    >>> _ = log.frame([{"Insert": {"id": "a"}}])
    >>> _ = log.frame([{"Delete": "a"}], day="20250702", key="visit-7")
    >>> log.raw(b'{"Delete":"torn')
    >>> log.days(), log.seq
    (['20250701', '20250702'], 2)
    """

    def __init__(self, day: str = FIRST_DAY) -> None:
        self.day = day
        self.seq = 0
        self.prev = NO_SUM
        self.frames: list[Frame] = []
        self._clock = midnight(day)
        self._segments: dict[str, bytearray] = {}

    def frame(
        self,
        events: Sequence[AnyEvent],
        *,
        day: str | None = None,
        time: str | int | None = None,
        key: str | None = None,
    ) -> Frame:
        """Append one frame; ``time`` is µs since 1970 or the 27 characters themselves."""
        self._turn_to(day)
        frame = write_frame(
            [event if isinstance(event, bytes) else encode_event(event) for event in events],
            self._stamp(time),
            seq=self.seq + 1,
            prev=self.prev,
            key=key.encode() if key else None,
        )
        self.seq, self.prev = frame.last_seq, frame.sum
        self.frames.append(frame)
        self.raw(frame.data)
        return frame

    def raw(self, data: Data, *, day: str | None = None) -> None:
        """Append bytes as they are, behind what the day holds so far."""
        self._turn_to(day)
        self._segments.setdefault(self.day, bytearray()).extend(data)

    def days(self) -> list[str]:
        """The days that have a segment, in order."""
        return sorted(self._segments)

    def bytes(self, day: str | None = None) -> bytes:
        """The bytes of a day (of the newest one, when none is named)."""
        return bytes(self._segments[day or self.days()[-1]])

    def replace(self, day: str, data: Data | None) -> None:
        """Put other bytes in place of a day's, or (None) take the day away."""
        del self._segments[day]
        if data is not None:
            self._segments[day] = bytearray(data)

    def write(self, root: Path) -> Path:
        """Write the segments into a user's directory, made if need be; returns it."""
        root.mkdir(parents=True, exist_ok=True)
        for day, data in self._segments.items():
            (root / segment_name(day)).write_bytes(data)
        return root

    def _turn_to(self, day: str | None) -> None:
        if day is not None and day != self.day:
            self.day = day
            self._clock = max(self._clock, midnight(day))

    def _stamp(self, time: str | int | None) -> str:
        if isinstance(time, str):
            return time
        self._clock = self._clock + SECOND if time is None else time
        return format_time(self._clock)


def build_log(frames: Sequence[Sequence[AnyEvent]], *, day: str = FIRST_DAY, per_day: int | None = None) -> LogBuilder:
    """A log of the given frames, a second apart, ``per_day`` frames in each segment.

    >>> log = build_log([[{"Delete": "a"}], [{"Delete": "b"}, {"Delete": "c"}]], per_day=1)
    >>> log.days(), log.seq
    (['20250701', '20250702'], 3)
    """
    log = LogBuilder(day)
    for number, events in enumerate(frames):
        log.frame(events, day=_later(day, number // per_day) if per_day else None)
    return log


def _later(day: str, days: int) -> str:
    return day_of(midnight(day) + days * DAY)
