"""Lines of valid frames as columns: where the event is, its op, time and key.

Our own layout is fixed, so all of this is byte comparison at known places.  A line
whose sum holds but whose layout is another one is read by the Python decoder.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from meshlab.dialects import DELETE, INSERT, OTHER, UPDATE
from meshlab.times import parse_canonical
from meshlab.wal.frame import EVENT_KEY, EVENT_START, KEY_KEY, LINE_START, MAX_KEY, TIME_LENGTH
from meshlab.wal.lines import NO_TIME, Lines, windows, word_at

_HEAD = EVENT_START + 11
"""Bytes looked at from a line's start: up to the brace or quote behind the op."""

SHORTEST = EVENT_START + 16
"""No regular line of ours is shorter."""


class Framed(NamedTuple):
    """Columns of framed lines, one row per line; see ``Block``.

    ``regular`` rows have our layout; of the others only ``time`` (none) is set.
    """

    time: Any
    op: Any
    event_start: Any
    event_stop: Any
    key_start: Any
    key_stop: Any
    plain: Any
    regular: Any


def read_framed(lines: Lines, rows: Any, body: Any) -> Framed:
    """Columns of the framed lines ``rows``; ``body`` is where their ``,"seq":`` starts."""
    start = lines.start[rows]
    head = windows(lines.data, start, _HEAD)
    regular = (body - start > SHORTEST) & _has_layout(head)
    time, canonical = parse_canonical(head[:, len(LINE_START) : len(LINE_START) + TIME_LENGTH])
    regular &= canonical
    time = np.where(regular, time, NO_TIME)
    key_start, key_stop, event_stop = _keys(lines, start, body, regular)
    event_start = start + EVENT_START
    op = np.where(regular, _ops(head), np.int8(OTHER))
    plain = regular & (op != OTHER) & _closes(lines, op, event_start, event_stop)
    return Framed(time, op, event_start, event_stop, key_start, key_stop, plain, regular)


def _has_layout(head: Any) -> Any:
    """Whether the fixed bytes around the time are ours."""
    after_time = len(LINE_START) + TIME_LENGTH
    return (
        word_at(head, 0, LINE_START[:8])
        & word_at(head, 6, LINE_START[6:])
        & word_at(head, after_time, EVENT_KEY[:8])
        & word_at(head, after_time + 2, EVENT_KEY[2:])
    )


def _ops(head: Any) -> Any:
    """The op of each row by the head of its event; the third byte says which to expect."""
    op = _OP_OF_LETTER[head[:, EVENT_START + 2]]
    for known, text in _HEADS.items():
        same = word_at(head, EVENT_START, text[:8]) & word_at(head, EVENT_START + 3, text[3:])
        op[(op == known) & ~same] = OTHER
    return op


_HEADS = {INSERT: b'{"Insert":{', UPDATE: b'{"Update":{', DELETE: b'{"Delete":"'}
_OP_OF_LETTER = np.full(256, OTHER, np.int8)
for _op, _text in _HEADS.items():
    _OP_OF_LETTER[_text[2]] = _op


def _closes(lines: Lines, op: Any, event_start: Any, event_stop: Any) -> Any:
    """Whether the event ends as its op demands: ``}}``, or ``"}`` of a Delete."""
    inner = np.where(op == DELETE, ord('"'), ord("}"))
    long_enough = event_stop - event_start > len(b'{"Delete":""}')
    return long_enough & (lines.data[event_stop - 1] == ord("}")) & (lines.data[event_stop - 2] == inner)


def _keys(lines: Lines, start: Any, body: Any, regular: Any) -> tuple[Any, Any, Any]:
    """Find ``,"key":"…"`` before the frame fields: start and stop of each key, stop of each event.

    The quote before the frame fields belongs to a key or to an event that is a string;
    quotes inside a JSON string are escaped, so the eight bytes decide.  Keys of one log
    have few lengths: each round finds one row's length and all rows that share it.
    """
    key_start = np.full(len(start), -1, np.int64)
    key_stop = key_start.copy()
    event_stop = body.copy()
    pending = np.flatnonzero(regular & (lines.data[body - 1] == ord('"')))
    while len(pending):
        first = int(pending[0])
        stop = int(body[first]) - 1
        low = max(int(start[first]) + EVENT_START, stop - MAX_KEY - len(KEY_KEY))
        at = bytes(lines.data[low:stop]).rfind(KEY_KEY)
        if at < 0:
            pending = pending[1:]
            continue
        length = stop - low - at - len(KEY_KEY)
        begin = body[pending] - 1 - length - len(KEY_KEY)
        same = (begin > start[pending]) & word_at(windows(lines.data, np.maximum(begin, 0), 8), 0, KEY_KEY)
        same[0] = True
        rows = pending[same]
        event_stop[rows] = begin[same]
        key_start[rows] = begin[same] + len(KEY_KEY)
        key_stop[rows] = body[rows] - 1
        pending = pending[~same]
    return key_start, key_stop, event_stop
