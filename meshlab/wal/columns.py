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
from meshlab.wal.lines import NO_TIME, Lines

SHORTEST = EVENT_START + 16
"""No regular line of ours is shorter: room for every look at its beginning."""


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
    regular = (body - start > SHORTEST) & _has_layout(lines, start)
    time, canonical = _times(lines, start, regular)
    regular &= canonical
    key_start, key_stop, event_stop = _keys(lines, start, body, regular)
    event_start = start + EVENT_START
    op = _ops(lines, event_start, regular)
    plain = regular & (op != OTHER) & _closes(lines, op, event_start, event_stop)
    return Framed(time, op, event_start, event_stop, key_start, key_stop, plain, regular)


def _has_layout(lines: Lines, start: Any) -> Any:
    """Whether the fixed bytes around the time are ours."""
    start = np.minimum(start, len(lines.data) - SHORTEST)
    after_time = start + len(LINE_START) + TIME_LENGTH
    return (
        lines.word_is(start, LINE_START[:8])
        & lines.word_is(start + 6, LINE_START[6:])
        & lines.word_is(after_time, EVENT_KEY[:8])
        & lines.word_is(after_time + 2, EVENT_KEY[2:])
    )


def _times(lines: Lines, start: Any, regular: Any) -> tuple[Any, Any]:
    window = np.lib.stride_tricks.sliding_window_view(lines.data, TIME_LENGTH)
    time, canonical = parse_canonical(window[np.where(regular, start + len(LINE_START), 0)])
    return np.where(canonical & regular, time, NO_TIME), canonical


def _ops(lines: Lines, event_start: Any, regular: Any) -> Any:
    """The op of each row by the head of its event; the third byte says which to expect."""
    at = np.where(regular, event_start, 0)
    op = _OP_OF_LETTER[lines.data[at + 2]]
    same = (lines.words[at] == _HEAD_WORDS[0, op]) & (lines.words[at + 3] == _HEAD_WORDS[1, op])
    return np.where(regular & same, op, np.int8(OTHER))


_HEADS = {INSERT: b'{"Insert":{', UPDATE: b'{"Update":{', DELETE: b'{"Delete":"'}
_OP_OF_LETTER = np.full(256, OTHER, np.int8)
_HEAD_WORDS = np.zeros((2, OTHER + 1), "<u8")
for _op, _head in _HEADS.items():
    _OP_OF_LETTER[_head[2]] = _op
    _HEAD_WORDS[:, _op] = int.from_bytes(_head[:8], "little"), int.from_bytes(_head[3:], "little")


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
        same = (begin > start[pending]) & lines.word_is(np.maximum(begin, 0), KEY_KEY)
        same[0] = True
        rows = pending[same]
        event_stop[rows] = begin[same]
        key_start[rows] = begin[same] + len(KEY_KEY)
        key_stop[rows] = body[rows] - 1
        pending = pending[~same]
    return key_start, key_stop, event_stop
