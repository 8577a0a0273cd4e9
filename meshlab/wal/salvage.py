"""What can be saved from lines that are neither in a valid frame nor JSON values.

Writers without a lock glue lines together, power cuts leave NULs and halves.  Only what
proves itself is taken: a frame whose sum holds, or a whole line of a foreign dialect
at the beginning or the end.  The rest stays a reject, byte for byte.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from meshlab.events import OutsideFrame, ParsedLine, parse_line
from meshlab.jsontext import NotJson
from meshlab.wal.frame import LINE_START, Tail, read_frame, read_tail

_SUM_ENDINGS = re.compile(rb',"sum":"[0-9a-f]{16}"\}')
_FRAME_STARTS = re.compile(re.escape(LINE_START))
_LINE_STARTS = re.compile(rb'\{"(?:Insert|Update|Delete|timestamp)"\s*:')
_NULS = re.compile(rb"\x00{8,}|\A\x00+|\x00+\Z")
_LINE_END = re.compile(rb"[ \t\r]*(?:\n|\Z)")
_NEWLINES = re.compile(rb"\n")
_SCANNER = json.JSONDecoder(strict=False)
_TRIES = 32
"""Starting points tried per line: hostile lines must not cost more than their length."""

_HASHED = 16
"""How often the bytes of a run may be hashed in search of frames."""


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
    starts = [match.start() for match in _FRAME_STARTS.finditer(run)]
    newlines = [match.start() for match in _NEWLINES.finditer(run)]
    floor, budget = 0, _HASHED * len(run)
    for ending in _SUM_ENDINGS.finditer(run):
        tail = read_tail(run[max(0, ending.end() - 128) : ending.end()])
        if tail is None:
            continue
        for at in _candidates(starts, newlines, floor, ending.end(), tail.n):
            budget -= ending.end() - at
            if budget >= 0 and read_frame(run[at : ending.end()]) is not None:
                floor = _line_end(run, ending.end())
                yield Piece(at, ending.end(), floor, frame=tail)
                break


def _candidates(starts: list[int], newlines: list[int], floor: int, stop: int, n: int) -> list[int]:
    """Where a frame of ``n`` lines that stops at ``stop`` may start, nearest first."""
    first = bisect_left(newlines, stop) - n
    low = max(newlines[first] + 1 if first >= 0 else 0, floor)
    high = newlines[first + 1] if n > 1 and first + 1 >= 0 else stop
    near = starts[bisect_left(starts, low) : bisect_left(starts, high)]
    return near[: -_TRIES - 1 : -1]


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
    while start < stop and (piece := _leading(run, start, stop)):
        yield piece
        start = piece.end
    trailing: list[Piece] = []
    for match in reversed(list(_LINE_STARTS.finditer(run, start, stop))[-_TRIES:]):
        foreign = None if _is_nested(run, start, match.start()) else _foreign(run[match.start() : stop])
        if foreign is not None:
            trailing.append(Piece(match.start(), stop, stop, foreign=foreign))
            stop = match.start()
    if start < stop:
        yield Piece(start, stop, stop)
    yield from reversed(trailing)


def _leading(run: bytes, start: int, stop: int) -> Piece | None:
    """A whole foreign line that begins at ``start``."""
    if not _LINE_STARTS.match(run, start, stop):
        return None
    try:
        text = run[start:stop].decode("utf-8", "surrogateescape")
        _, length = _SCANNER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    end = start + len(text[:length].encode("utf-8", "surrogateescape"))
    # A value with a comma or a bracket behind it stood inside another one, whose head is lost.
    if run[end:stop].lstrip(b" \t").startswith((b",", b":", b"]", b"}")):
        return None
    foreign = _foreign(run[start:end])
    blanks = len(run[end:stop]) - len(run[end:stop].lstrip(b" \t\r"))
    return Piece(start, end, end + blanks, foreign=foreign) if foreign is not None else None


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
