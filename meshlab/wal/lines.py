"""Splitting and classifying lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from meshlab.events import Parsed

NO_TIME = -(1 << 63)
DIALECTS = ("meshlab", "gateway", "bare", "other")

Digests = Callable[[Any, Any, Any], Any]
"""``(data, starts, stops) -> uint64``: the first 8 MD5 bytes, little-endian, of each slice."""


class Cursor(NamedTuple):
    """Where a chain of frames stands: last seq, its sum, largest effective time (µs)."""

    seq: int
    sum: bytes
    effective: int


class Reject(NamedTuple):
    """Bytes that are no event, or (with ``nbytes`` 0) a finding about the log.

    ``line`` counts physical lines of the segment from 1; ``raw`` holds the bytes.
    """

    segment: str
    line: int
    offset: int
    nbytes: int
    kind: str
    reason: str
    raw: bytes


class Claim(NamedTuple):
    """What a ``Recovered`` frame says: these bytes were torn, not acknowledged."""

    segment: str
    offset: int
    nbytes: int
    md5: str


@dataclass(slots=True)
class Block:
    """Events of a stretch of one segment, as columns (numpy, one row per event, log order).

    Positions index ``data``; add ``base`` for the offset in the file.
    """

    segment: str  # YYYYMMDD
    base: int  # file offset of data[0]
    data: Any  # uint8: the bytes of the stretch
    start: Any  # int64: start of the line
    nbytes: Any  # int64: bytes of the line in the file, newline included
    line: Any  # int64: physical line number, from 1
    seq: Any  # int64: 0 when the line is in no frame
    time: Any  # int64: µs since 1970, NO_TIME when the line gives none
    effective: Any  # int64: µs since 1970
    op: Any  # int8: index into events.OPS
    dialect: Any  # int8: index into DIALECTS
    event_start: Any  # int64: start of the event's JSON
    event_stop: Any  # int64: end of the event's JSON
    key_start: Any  # int64: start of the idempotency key, -1 when there is none
    key_stop: Any  # int64
    parsed: dict[int, Parsed] = field(default_factory=dict)  # row -> event, for all but plain rows
    plain: Any = None  # bool: {"Insert":{..}}, {"Update":{..}} or {"Delete":".."} written by us, sum checked
