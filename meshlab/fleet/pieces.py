"""A log read in pieces by several workers, and what the pieces come to together.

Whoever reads a piece needs to know where the log stands before it.  A worker guesses:
it looks up the last frame before its pieces, and takes it that no earlier event had a
later time.  When the pieces are joined, each guess is held against where the piece
before really ended, and what was read after a wrong guess is read again.  So the result
is that of one go, whatever is in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meshlab.errors import MeshlabError
from meshlab.fleet.task import Unit
from meshlab.tables.digests import DuckDigests
from meshlab.tables.load import Load, Log, Piece, Read, Report, Selection
from meshlab.wal.chain import LONG_AGO, ORIGIN, Cursor, resumed
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.reader import scan_segment
from meshlab.wal.recovery import last_frame

Emit = Callable[[Any], object]
"""Takes a batch of events."""


class Reading(NamedTuple):
    """What was read from ``start`` on, and of which days sealed copies or not the whole was read."""

    start: Cursor
    reads: list[Read]
    sealed: Sequence[str] = ()
    cut: Sequence[str] = ()

    @property
    def end(self) -> Cursor:
        """Where the log stands behind it."""
        return self.reads[-1].end if self.reads else self.start

    @property
    def first(self) -> int | None:
        """The effective time of the first event (µs), None when there is none."""
        return next((read.first for read in self.reads if read.first is not None), None)


def start_of(root: Path, unit: Unit) -> Cursor:
    """Where the log stands before the pieces of a unit, as far as the ends of those before tell."""
    if unit.start is not None:
        return unit.start
    for piece in reversed(unit.before):
        if (root / segment_name(piece.segment)).exists():
            tail, _ = last_frame(root / segment_name(piece.segment), piece.start, piece.stop)
            if tail is not None:
                return Cursor(tail.seq, tail.sum, LONG_AGO)
    return (unit.origin or ORIGIN)._replace(effective=LONG_AGO)


def verify_pieces(root: Path, pieces: Sequence[Piece], start: Cursor) -> Reading:
    """Check every byte of some segments."""
    newest = max(segment_days(root), default="")
    digests, end, reads = DuckDigests(), start, []
    for piece in pieces:
        before = resumed(end, piece.after)
        scan = scan_segment(root, piece.segment, before, newest=piece.segment == newest, digests=digests)
        for _ in scan:
            pass
        end = scan.end
        reads.append(Read(scan.part, scan.first, end))
    return Reading(start, reads)


def load_pieces(log: Log, selection: Selection, emit: Emit) -> Reading:
    """Hand on the events of some pieces."""
    load = Load(log, selection, progress=False)
    for batch in load:
        emit(batch)
    report = load.report
    return Reading(log.start, report.reads, sorted(report.sealed), sorted(report.cut))


class WrongGuess(MeshlabError):
    """A piece was read from another start than the log has there: its place among the pieces, and the true start."""

    def __init__(self, place: int, start: Cursor) -> None:
        super().__init__(f"piece {place} was read from another start than {start}")
        self.place, self.start = place, start


def joined(readings: Sequence[Reading]) -> Reading:
    """The pieces as one reading.  Raises ``WrongGuess``.

    A piece read without knowing the time before it stands when none of its events is
    earlier than that: times of events never fall along a log.
    """
    reads: list[Read] = []
    end = readings[0].start
    for place, reading in enumerate(readings):
        if place and not _goes_on(reading, end):
            raise WrongGuess(place, end)
        floor = end.effective
        reads += [read._replace(end=_raised(read.end, floor)) for read in reading.reads]
        end = _raised(reading.end, floor)
    return Reading(readings[0].start, reads, _both(r.sealed for r in readings), _both(r.cut for r in readings))


def _goes_on(reading: Reading, end: Cursor) -> bool:
    return reading.start[:2] == end[:2] and (reading.first is None or reading.first >= end.effective)


def _raised(cursor: Cursor, floor: int) -> Cursor:
    return cursor._replace(effective=max(cursor.effective, floor))


def _both(days: Iterable[Sequence[str]]) -> list[str]:
    return sorted({day for some in days for day in some})


def as_load(uid: str, reading: Reading, selection: Selection) -> Load:
    """A reading as the load that reports it."""
    report = Report(reading.reads, set(reading.sealed), set(reading.cut))
    return Load(Log(Path(), uid, [], reading.start), selection, False, report=report)
