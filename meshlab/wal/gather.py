"""Lines outside the regular path: foreign lines, salvage, frames with another layout.

They are few in a log of ours, and each goes through the Python decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from meshlab.dialects import OutsideFrame, Parsed, ParsedLine, parse_event, parse_line
from meshlab.jsontext import NotJson, parse_json
from meshlab.times import parse_time
from meshlab.wal.frame import read_tail
from meshlab.wal.lines import DIALECTS, NO_TIME, Lines, Reject
from meshlab.wal.salvage import Piece, split_run
from meshlab.wording import counted


class Stretch(NamedTuple):
    """Bytes of one segment to classify: whole lines, and no frame in part.

    ``data`` is padded (see ``lines``), ``size`` counts the real bytes; ``first_line``
    is the number of the first physical line.
    """

    segment: str
    base: int
    data: Any
    size: int
    first_line: int


class Loose(NamedTuple):
    """One event read outside the regular path; positions as in ``Block``."""

    start: int
    nbytes: int
    line: int
    seq: int
    time: int
    dialect: int
    event_start: int
    event_stop: int
    key_start: int
    key_stop: int
    parsed: Parsed


@dataclass(slots=True)
class Work:
    """What is gathered on the way through a stretch."""

    stretch: Stretch
    lines: Lines
    text: memoryview
    rejects: list[Reject] = field(default_factory=list)
    loose: list[Loose] = field(default_factory=list)
    saved: list[Piece] = field(default_factory=list)  # frames out of runs, in log order
    blanks: int = 0
    blank_bytes: int = 0
    pieces: int = 0

    def line_at(self, position: int) -> int:
        """The physical line number of a position in the stretch."""
        return int(np.searchsorted(self.lines.start, position, side="right")) - 1 + self.stretch.first_line

    def reject(self, start: int, end: int, kind: str, reason: str) -> None:
        """Note a reject; an empty one is a finding about the event that starts there."""
        place = self.stretch.base + start
        raw = bytes(self.text[start:end])
        self.rejects.append(Reject(self.stretch.segment, self.line_at(start), place, end - start, kind, reason, raw))


# Lines no regular frame covers


def read_uncovered(work: Work, rows: Any) -> None:
    """Read foreign lines; runs of lines that are none go to salvage as a whole."""
    lines, run = work.lines, list[int]()
    blank = rows[lines.start[rows] == lines.stop[rows]]
    work.blanks += len(blank)
    work.blank_bytes += int((lines.end[blank] - lines.start[blank]).sum())
    rows = rows[lines.start[rows] != lines.stop[rows]]
    places = zip(*(column[rows].tolist() for column in (lines.start, lines.stop, lines.end)), strict=True)
    for row, (start, stop, end) in zip(rows.tolist(), places, strict=True):
        if run and run[-1] != row - 1:
            _salvage(work, run)
            run = []
        if (parsed := _parse(bytes(work.text[start:stop]))) is not None:
            _keep_foreign(work, start, end, parsed)
        else:
            run.append(row)
            continue
        if run:
            _salvage(work, run)
            run = []
    if run:
        _salvage(work, run)


def _parse(line: bytes) -> ParsedLine | None:
    try:
        return parse_line(line)
    except (NotJson, OutsideFrame):
        return None


def _keep_foreign(work: Work, start: int, end: int, parsed: ParsedLine) -> None:
    """Take a foreign line as an event; its JSON is found by its own bytes."""
    inside = bytes(work.text[start:end]).find(parsed.payload)
    event_start = start + inside
    micros = parse_time(parsed.time) if parsed.time is not None else None
    work.loose.append(
        Loose(
            start,
            end - start,
            work.line_at(start),
            0,
            NO_TIME if micros is None else micros,
            DIALECTS.index(parsed.dialect),
            event_start,
            event_start + len(parsed.payload),
            -1,
            -1,
            parsed.event,
        )
    )


def _salvage(work: Work, run: list[int]) -> None:
    base, end = int(work.lines.start[run[0]]), int(work.lines.end[run[-1]])
    rows: dict[int, list[Piece]] = {}
    for piece in split_run(bytes(work.text[base:end])):
        moved = piece._replace(start=base + piece.start, stop=base + piece.stop, end=base + piece.end)
        rows.setdefault(work.line_at(moved.start), []).append(moved)
        if piece.frame is not None:
            work.saved.append(moved)
        work.pieces += piece.frame.n if piece.frame is not None else 1
    work.pieces -= len(run)
    for pieces in rows.values():
        _sort_pieces(work, pieces)


def _sort_pieces(work: Work, pieces: list[Piece]) -> None:
    """Take the saved pieces that start on one physical line, reject the others."""
    saved = sum(piece.saved for piece in pieces)
    for piece in pieces:
        if piece.foreign is not None:
            _keep_foreign(work, piece.start, piece.end, piece.foreign)
        elif piece.frame is None:
            kind, reason = _reason(work, piece, glued=saved > 0)
            work.reject(piece.start, piece.end, kind, reason)
    if saved:
        work.reject(pieces[0].start, pieces[0].start, "fused", f"{saved} saved from lines glued together")


def _reason(work: Work, piece: Piece, *, glued: bool) -> tuple[str, str]:
    """The class of bytes that are no event, and why."""
    raw = bytes(work.text[piece.start : piece.stop])
    if piece.nul:
        return "nul-run", f"{counted(len(raw), 'NUL byte')}"
    if glued:
        return "fused", "the rest of lines glued together"
    if read_tail(raw) is not None:
        return "bad-sum", "the sum does not hold for the bytes before it"
    if not is_utf8(memoryview(raw)):
        return "not-utf8", "the text is not UTF-8"
    try:
        parse_line(raw)
    except OutsideFrame as error:
        return "bad-sum", str(error)
    except NotJson as error:
        return "not-json", str(error)
    return "not-json", "the line holds no event"


# Framed lines outside the regular layout


def keep_saved(work: Work, piece: Piece) -> None:
    """Take the lines of a salvaged frame as events."""
    tail = piece.frame
    assert tail is not None
    start, seq = piece.start, tail.seq - tail.n + 1
    for line in bytes(work.text[piece.start : piece.stop]).split(b"\n"):
        stop = start + len(line)
        end = piece.end if stop == piece.stop else stop + 1
        keep_framed(work, start, stop, end, seq)
        start, seq = end, seq + 1


def keep_framed(work: Work, start: int, stop: int, end: int, seq: int) -> None:
    """Take one framed line as an event, by the Python decoder."""
    line = bytes(work.text[start:stop])
    try:
        parse_json(line)
        parts = _raw_map(line)
        payload, time = bytes(parts["event"]), parse_json(bytes(parts["timestamp"]))
        parsed = parse_event(payload)
    except (NotJson, KeyError, msgspec.MsgspecError) as error:
        work.reject(start, end, "not-json", f"the sum holds but the line is no event: {error}")
        return
    key = bytes(parts["key"]).strip(b'"') if "key" in parts else b""
    event_start = start + line.find(payload)
    key_start = start + line.rfind(b'"' + key + b'"') + 1 if key else -1
    micros = parse_time(time) if isinstance(time, str) else None
    work.loose.append(
        Loose(
            start,
            end - start,
            work.line_at(start),
            seq,
            NO_TIME if micros is None else micros,
            DIALECTS.index("meshlab"),
            event_start,
            event_start + len(payload),
            key_start,
            key_start + len(key) if key else -1,
            parsed,
        )
    )


_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


# Text


def reject_lines(work: Work, start: int, end: int, kind: str, reason: str) -> None:
    """One reject per physical line in a range."""
    for line in bytes(work.text[start:end]).split(b"\n"):
        stop = min(start + len(line) + 1, end)
        if start < stop:
            work.reject(start, stop, kind, reason)
        start = stop


def is_utf8(text: memoryview) -> bool:
    """Whether the bytes are UTF-8 text.

    >>> is_utf8(memoryview("é".encode())), is_utf8(memoryview(b"\\xe9"))
    (True, False)
    """
    try:
        str(_beyond_ascii(text) if len(text) >= _MANY else text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


_MANY = 4096
_HIGH_BITS = np.uint64(0x8080_8080_8080_8080)
_STEP = 1 << 15
"""Words looked at together."""


def _beyond_ascii(text: memoryview) -> bytes:
    """Those words of eight bytes that are not all ASCII, each with the word behind it.

    They are UTF-8 exactly when the whole is: every character beyond ASCII is kept whole,
    with what follows it.
    """
    size = len(text) // 8 * 8
    words = np.frombuffer(text[:size], "<u8")
    steps = range(0, max(1, len(words)), _STEP)
    # As bool, and in steps that stay in the cache: numpy finds what is set there three times as fast.
    found = [np.flatnonzero((words[at : at + _STEP] & _HIGH_BITS).astype(bool)) + at for at in steps]
    high = np.concatenate(found)
    kept = np.zeros(len(words) + 1, bool)
    kept[high] = kept[high + 1] = True
    return words[kept[:-1]].tobytes() + bytes(text[size:])
