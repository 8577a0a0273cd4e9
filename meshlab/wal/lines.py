"""Lines of a log as numpy columns: where they are, and what their ends say of frames.

Everything here is vectorised over a buffer that carries ``PAD`` zero bytes behind its
last byte.  What is looked at more than once is copied out first, one ``Window`` per
line: the bytes of a stretch do not stay in the cache, those of the windows do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from meshlab.dialects import Parsed
from meshlab.wal.frame import COUNT_KEY, MAX_SEQ_DIGITS, PREV_KEY, SEQ_KEY, SUM_ENDING, SUM_KEY

NO_TIME = -(1 << 63)
_TRIMMED = 8
"""Bytes of white space taken off all lines at a time; longer runs are rare and go line by line."""

DIALECTS = ("meshlab", "gateway", "bare", "other")
PAD = 128

Digests = Callable[[Any, Any, Any], Any]
"""``(data, starts, stops) -> uint64``: the first 8 MD5 bytes, little-endian, of each slice."""


class Reject(NamedTuple):
    """Bytes that are no event, or (with ``nbytes`` 0) a finding about the log.

    ``line`` counts physical lines of the segment from 1; ``raw`` holds the bytes, of a
    ``too-long`` line only the first ones.
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

    Positions index ``data``; add ``base`` for the offset in the file.  ``data`` has
    ``PAD`` zero bytes behind the stretch.
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
    op: Any  # int8: index into dialects.OPS
    dialect: Any  # int8: index into DIALECTS
    event_start: Any  # int64: start of the event's JSON
    event_stop: Any  # int64: end of the event's JSON
    key_start: Any  # int64: start of the idempotency key, -1 when there is none
    key_stop: Any  # int64
    plain: Any  # bool: {"Insert":{..}}, {"Update":{..}} or {"Delete":".."} written by us, sum checked
    parsed: dict[int, Parsed] = field(default_factory=dict)  # row -> event, for all but plain rows


@dataclass(slots=True)
class Lines:
    """Physical lines of a buffer: ``start``, ``stop`` (without line end), ``end`` (with it)."""

    data: Any  # uint8, padded
    start: Any  # int64
    stop: Any  # int64: behind the last byte that is no white space
    end: Any  # int64

    def __len__(self) -> int:
        return len(self.start)


def windows(data: Any, at: Any, width: int) -> Any:
    """The ``width`` bytes from each position, as the rows of a new uint8 matrix.

    >>> windows(np.frombuffer(b"one two", np.uint8), np.array([4, 0]), 3).tobytes()
    b'twoone'
    """
    items = np.ndarray(shape=(len(data) - width + 1,), dtype=f"V{width}", buffer=data, strides=(1,))
    return items[at].view(np.uint8).reshape(-1, width)


def word_at(rows: Any, column: int, word: bytes) -> Any:
    """Whether the eight bytes of ``word`` stand at a column of each row of a matrix."""
    return _cells(rows, column, 8).view("<u8") == int.from_bytes(word, "little")


def _cells(rows: Any, column: int, width: int) -> Any:
    """A copy of ``width`` bytes at a column of each row; as items, which takes a quarter of the time of a slice."""
    kind = f"V{width}"
    return np.ndarray((len(rows),), kind, rows, column, rows.shape[1:]).copy() if len(rows) else np.zeros(0, kind)


def padded(data: bytes) -> Any:
    """A uint8 copy of ``data`` with the zero bytes this module needs behind it."""
    return np.frombuffer(bytes(data) + bytes(PAD), np.uint8)


def find_lines(data: Any, size: int) -> Lines:
    """Split ``data[:size]`` at newlines; a last line may lack its newline.

    >>> lines = find_lines(padded(b"one\\r\\ntwo"), 8)
    >>> lines.start.tolist(), lines.stop.tolist(), lines.end.tolist()
    ([0, 5], [3, 8], [5, 8])
    """
    newlines = _positions(data, size, 0x0A)
    if size and (not len(newlines) or newlines[-1] != size - 1):
        newlines = np.append(newlines, size)
    end = np.minimum(newlines + 1, size)
    start = np.concatenate([[0], newlines[:-1] + 1]) if len(newlines) else newlines
    return Lines(data, start, _trim(data, start, newlines), end)


def _positions(data: Any, size: int, byte: int) -> Any:
    """Positions of a byte, in steps that stay in the cache."""
    step = 1 << 20
    found = [np.flatnonzero(data[at : min(at + step, size)] == byte) + at for at in range(0, size, step)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _trim(data: Any, start: Any, stop: Any) -> Any:
    """Move each stop back over white space."""
    stop = stop.copy()
    rows = np.arange(len(stop))
    for _ in range(_TRIMMED):
        last = data[stop[rows] - 1]
        white = (stop[rows] > start[rows]) & ((last == 0x0D) | (last == 0x20) | (last == 0x09))
        rows = rows[white]
        if not len(rows):
            return stop
        stop[rows] -= 1
    for row in rows.tolist():
        stop[row] = start[row] + len(data[start[row] : stop[row]].tobytes().rstrip(b" \t\r"))
    return stop


_TAIL = 104
"""Bytes looked at before a line's end: no numbers of a frame and names around them are longer."""


@dataclass(slots=True)
class Endings:
    """What the ends of lines say, one row per line.

    ``closes``: the line has a sum ending; ``whole``: and all before it is well formed;
    ``member``: the line has a ``seq`` and no sum ending.  ``body`` is the position where
    the line's ``,"seq":`` starts; numbers are 0 where they are not given.  ``prev`` and
    ``sum`` are the hex digits (S16) that stand where those of a whole line do.
    """

    closes: Any
    whole: Any
    member: Any
    seq: Any
    n: Any
    body: Any
    prev: Any
    sum: Any


def read_endings(lines: Lines) -> Endings:
    """Read ``seq``, ``n``, the sums and the position of the frame fields of every line."""
    tail = _tails(lines)
    room = lines.stop - lines.start
    closes = (
        (room >= SUM_ENDING)
        & word_at(tail, _TAIL - SUM_ENDING, SUM_KEY)
        & (tail[:, _TAIL - 2] == _QUOTE)
        & (tail[:, _TAIL - 1] == _BRACE)
    )
    whole = closes & (room > 2 * SUM_ENDING) & word_at(tail, _PREV, PREV_KEY[:8])
    whole &= (tail[:, _PREV + 8] == _QUOTE) & (tail[:, _PREV + 25] == _QUOTE)
    member = ~closes & (room > len(SEQ_KEY) + 1) & (tail[:, _TAIL - 1] == _BRACE) & _is_digit(tail[:, _TAIL - 2])

    seq, n, before = np.zeros(len(lines), np.int64), np.zeros(len(lines), np.int64), np.full(len(lines), _TAIL)
    least = np.maximum(_TAIL - room, 0)
    rows = np.flatnonzero(whole)
    count, at, counted = _read_number(tail, rows, np.full(len(rows), _PREV), least, COUNT_KEY)
    number, at, numbered = _read_number(tail, rows, at, least, SEQ_KEY)
    good = counted & numbered & (count > 0)
    whole[rows[~good]] = False
    seq[rows], n[rows], before[rows] = number, count, at

    rows = np.flatnonzero(member)
    number, at, numbered = _read_number(tail, rows, np.full(len(rows), _TAIL - 1), least, SEQ_KEY)
    member[rows[~numbered]] = False
    rows = rows[numbered]
    seq[rows], before[rows] = number[numbered], at[numbered]
    hexes = (_hex(tail, _PREV + len(PREV_KEY)), _hex(tail, _TAIL - SUM_ENDING + len(SUM_KEY)))
    return Endings(closes, whole, member, seq, n, lines.stop - _TAIL + before, *hexes)


_PREV = _TAIL - 2 * SUM_ENDING
_QUOTE, _BRACE = b'"}'


def _tails(lines: Lines) -> Any:
    """The last bytes of each line, of short ones with what stands before them."""
    at = lines.stop - _TAIL
    tail = windows(lines.data, np.maximum(at, 0), _TAIL)
    for row in np.flatnonzero(at < 0).tolist():  # at the very start of the data
        tail[row] = np.roll(tail[row], -at[row])
    return tail


def _is_digit(byte: Any) -> Any:
    return (byte >= 0x30) & (byte <= 0x39)


def _read_number(tail: Any, rows: Any, stop: Any, least: Any, name: bytes) -> tuple[Any, Any, Any]:
    """Read ``<name><digits>`` backwards from a column of each of the rows.

    Nothing before the column ``least`` is looked at.  Returns the numbers, the columns
    where the names start, and which rows hold both.
    """
    text, place = tail.ravel(), rows * _TAIL
    value, at, floor = np.zeros(len(rows), np.int64), stop.copy(), least[rows] + len(name)
    active: Any = slice(None)
    scale = 1
    for _ in range(MAX_SEQ_DIGITS):
        byte = text[(place + at - 1)[active]]
        digit = _is_digit(byte) & (at > floor)[active]
        if not digit.all():
            active = np.arange(len(rows))[active][digit]
            byte = byte[digit]
        if not len(byte):
            break
        value[active] += (byte - 0x30).astype(np.int64) * scale
        at[active] -= 1
        scale *= 10
    before = np.maximum(at - len(name), 0)
    names = np.ndarray((len(text) - len(name) + 1,), f"S{len(name)}", text, 0, (1,)) if len(rows) else text
    return value, before, (names[place + before] == name) & (at < stop) & (at >= floor)


def _hex(rows: Any, column: int) -> Any:
    """Sixteen bytes of each row, as an ``S16`` array."""
    return _cells(rows, column, 16).view("S16")


_HEX = np.array([int.from_bytes(b"%02x" % value, "little") for value in range(256)], "<u2")


def hex_digests(digests: Any) -> Any:
    """The sixteen hex digits, as ``S16``, of 8-byte digests given as little-endian uint64."""
    pairs = _HEX[np.ascontiguousarray(digests, "<u8").view(np.uint8)]
    return pairs.view("S16").ravel()


def md5_digests(data: Any, starts: Any, stops: Any) -> Any:
    """``Digests`` by hashlib, one call per slice."""
    view, md5 = memoryview(data), _md5
    slices = zip(starts.tolist(), stops.tolist(), strict=True)
    return np.frombuffer(b"".join([md5(view[a:b]).digest() for a, b in slices]), "<u8")[::2]


def _plain_md5() -> Callable[[Any], Any]:
    """The MD5 constructor; a FIPS build wants to hear that it is no secret."""
    try:
        hashlib.md5(b"")
    except ValueError:
        return lambda data: hashlib.md5(data, usedforsecurity=False)
    return hashlib.md5


_md5 = _plain_md5()
