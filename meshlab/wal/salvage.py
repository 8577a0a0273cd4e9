"""What can be saved from lines that are neither in a valid frame nor JSON values.

Writers without a lock glue lines together, power cuts leave NULs and halves.  Only what
proves itself is taken: a frame whose sum holds, or a whole line of a foreign dialect
at the beginning or the end.  The rest stays a reject, byte for byte.
"""

from __future__ import annotations

import json
import mmap
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from meshlab.dialects import OutsideFrame, ParsedLine, parse_line
from meshlab.jsontext import NotJson
from meshlab.wal.frame import LINE_START, MAX_FRAME, Tail, read_frame, read_tail

_SUM_ENDINGS = re.compile(rb',"sum":"[0-9a-f]{16}"\}')
_LINE_STARTS = re.compile(rb'\{"(?:Insert|Update|Delete|timestamp)"\s*:')
_NULS = re.compile(rb"\x00{8,}|\A\x00+|\x00+\Z")
_LINE_END = re.compile(rb"[ \t\r]*(?:\n|\Z)")
_BLANKS = re.compile(rb"[ \t]*")
_WHITE = re.compile(rb"[ \t\r]*")
_INSIDE = (b",", b":", b"]", b"}")
_SCANNER = json.JSONDecoder(strict=False)
_TRIES = 32
"""Starting points tried per line: hostile lines must not cost more than their length."""

_HASHED = 16
"""How often the bytes of a text may be hashed in search of frames."""

_MOST_HASHED = 8 * MAX_FRAME
"""Bytes hashed in search of frames at most: a writer that opens a log waits for no more."""

_STEP = 64
"""A step over a line, in hashed bytes of the same cost."""

_WALK = 4
"""Bytes walked over for the cost of a hashed one, with room to spare."""

_SHORTEST = len(b',"seq":7}\n')
"""No line of a frame is shorter, so no frame has more lines than fit."""


class Effort:
    """What a search for frames may still cost, in hashed bytes.

    >>> effort = Effort(100)
    >>> effort.spend(1600), effort.spend(1), effort.spent
    (True, False, True)
    """

    def __init__(self, size: int) -> None:
        self._left = min(_HASHED * size, _MOST_HASHED)

    def spend(self, cost: int) -> bool:
        """Take the cost off; whether it could be afforded."""
        self._left -= cost
        return self._left >= 0

    @property
    def spent(self) -> bool:
        """Whether the search gave up: what was not found may be there all the same."""
        return self._left < 0


def frame_starts(text: mmap.mmap | bytes, floor: int, end: int, n: int, effort: Effort) -> Iterator[int]:
    """Where a frame of ``n`` lines that stops at ``end`` may start, as far as the effort allows.

    Looks no further back than ``floor``, at the nearest starts first; the line may begin
    with other bytes.  The caller checks the sum, whose cost is taken off already.

    >>> line = b'{"Delete":"a"}{"timestamp":"'
    >>> list(frame_starts(line, 0, len(line), 1, Effort(len(line))))
    [14]
    """
    floor = max(floor, end - MAX_FRAME)
    low, at = _first_line(text, floor, end, n, effort) if n * _SHORTEST <= end - floor + 1 else (end, end)
    for _ in range(_TRIES):
        before, at = at, text.rfind(LINE_START, low, at)
        if not effort.spend((before - max(at, low)) // _WALK) or at < 0 or not effort.spend(end - at):
            return
        yield at


def _first_line(text: mmap.mmap | bytes, floor: int, end: int, n: int, effort: Effort) -> tuple[int, int]:
    """Where the first of the ``n`` lines that stop at ``end`` starts and stops; an empty one for none."""
    start = stop = end + 1
    for _ in range(n):
        if start <= floor or not effort.spend(_STEP):
            return end, end
        stop, start = start - 1, text.rfind(b"\n", floor, start - 1) + 1
        start = max(start, floor)
        if not effort.spend((stop - start) // _WALK):
            return end, end
    return start, stop


class Piece(NamedTuple):
    """A part of a run: ``[start, stop)``, and ``end`` with the line end that follows it.

    It is a frame (its tail is known), a foreign line, or neither.
    """

    start: int
    stop: int
    end: int
    frame: Tail | None = None
    foreign: ParsedLine | None = None
    nul: bool = False

    @property
    def saved(self) -> bool:
        """Whether the part is an event or several."""
        return self.frame is not None or self.foreign is not None


def split_run(run: bytes) -> list[Piece]:
    """The parts of a run of unreadable lines, tiling it.

    >>> [piece[:3] for piece in split_run(b'{"Delete":"a"}{"Delete":"b"}\\n{"Dele')]
    [(0, 14, 14), (14, 28, 29), (29, 35, 35)]
    """
    pieces: list[Piece] = []
    at = 0
    for frame in _frames(run):
        pieces += _split_gap(run, at, frame.start)
        pieces.append(frame)
        at = frame.end
    pieces += _split_gap(run, at, len(run))
    return pieces


def _frames(run: bytes) -> Iterator[Piece]:
    """Frames inside a run, left to right, never overlapping; their sums are the proof."""
    floor, effort = 0, Effort(len(run))
    for ending in _SUM_ENDINGS.finditer(run):
        tail = read_tail(run[max(0, ending.end() - 128) : ending.end()])
        if tail is None:
            continue
        for at in frame_starts(run, floor, ending.end(), tail.n, effort):
            if read_frame(run[at : ending.end()]) is not None:
                floor = _line_end(run, ending.end())
                yield Piece(at, ending.end(), floor, frame=tail)
                break


def _split_gap(run: bytes, start: int, stop: int) -> Iterator[Piece]:
    """Split what no frame covers into lines, and those into what can be read and what not."""
    while start < stop:
        newline = run.find(b"\n", start, stop)
        end = stop if newline < 0 else newline + 1
        text = run[start:end].rstrip(b" \t\r\n")
        parts = list(_split_line(run, start, start + len(text)))
        if parts:
            yield from parts[:-1]
            yield parts[-1]._replace(end=end)
        else:
            yield Piece(start, start, end)
        start = end


def _split_line(run: bytes, start: int, stop: int) -> Iterator[Piece]:
    at = start
    for match in _NULS.finditer(run[start:stop]):
        yield from _split_text(run, at, start + match.start())
        at = start + match.end()
        yield Piece(start + match.start(), at, at, nul=True)
    yield from _split_text(run, at, stop)


def _split_text(run: bytes, start: int, stop: int) -> Iterator[Piece]:
    """Whole foreign lines at the beginning, then at the end; what is between is no event."""
    for piece in _leading(run, start, stop):
        yield piece
        start = piece.end
    trailing: list[Piece] = []
    for match in reversed(deque(_LINE_STARTS.finditer(run, start, stop), _TRIES)):
        foreign = None if _is_nested(run, start, match.start()) else _foreign(run[match.start() : stop])
        if foreign is not None:
            trailing.append(Piece(match.start(), stop, stop, foreign=foreign))
            stop = match.start()
    if start < stop:
        yield Piece(start, stop, stop)
    yield from reversed(trailing)


def _leading(run: bytes, start: int, stop: int) -> Iterator[Piece]:
    """Whole foreign lines, one behind the other from ``start``; the text is decoded once for all."""
    if not _LINE_STARTS.match(run, start, stop):
        return
    text, at = run[start:stop].decode("utf-8", "surrogateescape"), 0
    while _LINE_STARTS.match(run, start, stop):
        try:
            _, behind = _SCANNER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        end = start + len(text[at:behind].encode("utf-8", "surrogateescape"))
        # A value with a comma or a bracket behind it stood inside another one, whose head is lost.
        behind_blanks = _skip(_BLANKS, run, end, stop)
        foreign = None if run[behind_blanks : min(behind_blanks + 1, stop)] in _INSIDE else _foreign(run[start:end])
        if foreign is None:
            return
        piece = Piece(start, end, _skip(_WHITE, run, end, stop), foreign=foreign)
        yield piece
        start, at = piece.end, behind + piece.end - end


def _skip(white: re.Pattern[bytes], run: bytes, at: int, stop: int) -> int:
    match = white.match(run, at, stop)
    return match.end() if match else at


def _is_nested(run: bytes, start: int, at: int) -> bool:
    """Whether a value at ``at`` may belong to an unfinished outer one.

    A line cut behind an inner event looks like a glued one; taking the event would
    invent what nobody acknowledged.
    """
    return run[start:at].rstrip(b" \t").endswith((b":", b"[", b","))


def _foreign(text: bytes) -> ParsedLine | None:
    """A line of the bare or the gateway dialect, or None."""
    try:
        parsed = parse_line(text)
    except (NotJson, OutsideFrame):
        return None
    return parsed if parsed.dialect in ("bare", "gateway") else None


def _line_end(run: bytes, at: int) -> int:
    """Behind the white space and newline at ``at``, if a line ends there; else ``at``."""
    match = _LINE_END.match(run, at)
    return match.end() if match else at
