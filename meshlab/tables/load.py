"""Loading the logs of users as record batches, in bounded memory.

One background thread reads, splits and hashes the next stretch of a log while DuckDB
parses the current one.  What is not asked for is not computed: columns, and by
``since``, ``until`` and ``ops`` also rows, before anything is parsed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.bars import progress_bar
from meshlab.dialects import OPS
from meshlab.errors import MeshlabError
from meshlab.tables.batches import Names
from meshlab.tables.digests import DuckDigests
from meshlab.tables.parse import Parser
from meshlab.tables.schema import COLUMNS, EVENT_SCHEMA
from meshlab.tables.sealed import SealedSegment, find_sealed
from meshlab.tables.segment import RawSegment, Rows
from meshlab.times import DAY, from_datetime, midnight, parse_time
from meshlab.wal.chain import LONG_AGO, MIDDLE, ORIGIN, Cursor, resumed
from meshlab.wal.files import open_regular
from meshlab.wal.lines import Digests, Reject
from meshlab.wal.paths import segment_days, segment_name, segment_size
from meshlab.wal.reader import Opener, Part, resolve
from meshlab.wal.recovery import last_frame

Moment = datetime | str | int
"""A datetime (naive means UTC), an RFC 3339 text, or µs since 1970."""

Advance = Callable[[int], Any]
"""Is told how many bytes were read."""

_REACH = 2 * DAY
"""Effective times in a segment end at its midnight plus this."""


class Piece(NamedTuple):
    """Bytes ``start`` to ``stop`` of a segment; None is its end, whatever that is when it is read.

    A line begins at ``start``, its number is ``line``; no frame crosses either end.
    ``after`` says which frame (seq and sum) stood before, when what stood there is gone,
    and ``floor`` the effective time (µs) it had come to.
    """

    segment: str
    start: int = 0
    stop: int | None = None
    line: int = 1
    after: tuple[int, bytes] | None = None
    floor: int = LONG_AGO


class Log(NamedTuple):
    """A user's log: its pieces in log order (None: all segments), and where it stands before them."""

    root: Path
    uid: str
    pieces: Sequence[Piece] | None = None
    start: Cursor = ORIGIN


class Selection(NamedTuple):
    """What to load: columns in order, and which rows; None means all."""

    columns: tuple[str, ...]
    since: int | None = None
    until: int | None = None
    ops: frozenset[str] | None = None
    ids: frozenset[str] | None = None

    @property
    def whole(self) -> bool:
        """Whether no row is left out."""
        return self[1:] == (None, None, None, None)


def select(
    columns: Iterable[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    ops: Collection[str] | str | None = None,
    ids: Collection[str] | str | None = None,
) -> Selection:
    """Check what the caller asks for.  Raises ``MeshlabError`` with what is possible.

    >>> select(["id"], since="2025-07-07T00:00:00Z", ops="insert").since
    1751846400000000
    """
    names = tuple(EVENT_SCHEMA.names if columns is None else [columns] if isinstance(columns, str) else columns)
    _check_names("column", names, COLUMNS.names)
    if not names:
        raise MeshlabError("no column is chosen", hint=f"choose from {', '.join(COLUMNS.names)}")
    chosen = None if ops is None else frozenset([ops] if isinstance(ops, str) else ops)
    _check_names("op", chosen or (), OPS)
    wanted = None if ids is None else frozenset([ids] if isinstance(ids, str) else ids)
    return Selection(names, micros(since, "since"), micros(until, "until"), chosen, wanted)


def _check_names(kind: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise MeshlabError(f"there is no {kind} {name!r}", hint=f"choose from {', '.join(known)}")


def micros(moment: Moment | None, name: str) -> int | None:
    """A moment in µs since 1970.  Raises ``MeshlabError``, which calls it by its name."""
    if moment is None or (isinstance(moment, int) and not isinstance(moment, bool)):
        return moment
    if isinstance(moment, datetime):
        return from_datetime(moment)
    micros = parse_time(moment) if isinstance(moment, str) else None
    if micros is None:
        raise MeshlabError(f"{name} is {moment!r}, which is no time", hint="give RFC 3339, like 2025-07-07T08:00:00Z")
    return micros


class Read(NamedTuple):
    """What is known of a piece that was read.

    What it holds (rejects are not resolved yet), the effective time of its first event
    (µs; None when it has none), and where the log stands behind it.
    """

    part: Part
    first: int | None
    end: Cursor


@dataclass(slots=True)
class Report:
    """What one pass met, in log order, and the days whose copy was read or that were left before their end."""

    reads: list[Read] = field(default_factory=list)
    sealed: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)

    @property
    def parts(self) -> list[Part]:
        """What each piece holds."""
        return [read.part for read in self.reads]


@dataclass(slots=True)
class Load:
    """A user's log and what to take from it: iterate for the batches, then read the report.

    ``report`` is that of the last pass that came to its end; one that is under way or
    was abandoned does not change it.
    """

    log: Log
    selection: Selection
    progress: bool = True
    digests: Digests = field(default_factory=DuckDigests)
    report: Report = field(default_factory=Report)

    @property
    def uid(self) -> str:
        """Whose log it is."""
        return self.log.uid

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches."""
        return pa.schema([COLUMNS.field(name) for name in self.selection.columns])

    @property
    def rejects(self) -> list[Reject]:
        """The rejects of the pieces read, with their final classes."""
        return resolve(self.report.parts)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for segment, advance in self.segments():
            for batch in segment.batches(advance):
                batch = _only_rows(batch, self.selection)
                if batch.num_rows:
                    yield batch

    def segments(self) -> Iterator[tuple[RawSegment | SealedSegment, Advance]]:
        """The pieces of the log in order, and whom to tell of bytes read.  Batches of sealed ones need not be read."""
        report = Report()
        yield from self._pass(report)
        self.report = report

    def _pass(self, report: Report) -> Iterator[tuple[RawSegment | SealedSegment, Advance]]:
        root = self.log.root
        days = segment_days(root)
        pieces = [Piece(day) for day in days] if self.log.pieces is None else self.log.pieces
        first = _first_needed(pieces, self.selection.since)
        cursor = _cursor_before(self.log, pieces, first)
        columns = _read_columns(self.selection)
        parser = Parser(columns)
        names = Names(self.uid, sorted({*days, *(piece.segment for piece in pieces)}))
        total = sum(_size(root, piece) for piece in pieces[first:])
        with ExitStack() as stack, progress_bar(f"load {self.uid}", total, shown=self.progress) as bar:
            opener = _held(root, pieces[first:], stack)
            for piece in pieces[first:]:
                newest = piece.stop is None and piece.segment == names.segments[-1]
                before = resumed(cursor, piece.after)
                before = before._replace(effective=max(before.effective, piece.floor))
                segment = self._open(piece, before, newest, parser, names, columns, opener)
                yield segment, bar.update
                cursor = segment.end
                if self._close(segment, report):
                    return

    def _open(
        self,
        piece: Piece,
        cursor: Cursor,
        newest: bool,
        parser: Parser,
        names: Names,
        columns: tuple[str, ...],
        opener: Opener,
    ) -> RawSegment | SealedSegment:
        root, chosen = self.log.root, self.selection
        rows = Rows(chosen.since, chosen.until, chosen.ops)
        sealed = None if newest or piece.start else find_sealed(root, piece.segment, cursor)
        if sealed is not None and piece.stop in (None, sealed.description.source.size):
            return SealedSegment(sealed, names, columns, rows)
        place: dict[str, Any] = {"offset": piece.start, "stop": piece.stop, "line": piece.line, "opener": opener}
        return RawSegment(root, piece.segment, cursor, newest, parser, names, columns, rows, self.digests, **place)

    def _close(self, segment: RawSegment | SealedSegment, report: Report) -> bool:
        """Take a segment's report; returns whether nothing chosen can follow."""
        part = segment.part
        report.reads.append(Read(part, segment.first, segment.end))
        if isinstance(segment, SealedSegment):
            report.sealed.add(part.tally.segment)
        if segment.cut:
            report.cut.add(part.tally.segment)
        elif self.selection.whole:
            segment.check_tiling()
        until = self.selection.until
        return segment.cut or (until is not None and segment.end.effective > until)


_MOST_HELD = 256
"""Files a pass keeps open from its beginning, the oldest: those are the ones a vacuum deletes."""


def _held(root: Path, pieces: Sequence[Piece], stack: ExitStack) -> Opener:
    """Open segments now, so that a pass that has begun goes on when a vacuum deletes them."""
    held: dict[str, int] = {}
    for piece in pieces:
        path = os.fspath(root / segment_name(piece.segment))
        if path not in held and len(held) < _MOST_HELD:
            with suppress(OSError):
                held[path] = open_regular(path, os.O_RDONLY)
                stack.callback(os.close, held[path])

    def opener(path: Any, flags: int) -> int:
        fd = held.get(os.fspath(path))
        return open_regular(path, flags) if fd is None else os.dup(fd)

    return opener


# What is read, and what is left out before and after parsing


def _first_needed(pieces: Sequence[Piece], since: int | None) -> int:
    """The first piece that can hold an effective time of ``since`` or later."""
    if since is None:
        return 0
    return next((i for i, piece in enumerate(pieces) if midnight(piece.segment) + _REACH >= since), len(pieces))


def _cursor_before(log: Log, pieces: Sequence[Piece], first: int) -> Cursor:
    """Where the log stands before a piece, without reading those before it.

    Effective times of earlier pieces lie before ``since``, so they play no part.
    """
    if first == 0:
        return log.start
    last = pieces[first - 1]
    tail, _ = last_frame(log.root / segment_name(last.segment), last.start, last.stop)
    return MIDDLE if tail is None else MIDDLE._replace(seq=tail.seq, sum=tail.sum)


def _read_columns(selection: Selection) -> tuple[str, ...]:
    """The columns asked for, and those the row filters need."""
    extra = [name for name, asked in (("op", selection.ops), ("id", selection.ids)) if asked is not None]
    return tuple(dict.fromkeys([*selection.columns, *extra]))


def _only_rows(batch: pa.RecordBatch, selection: Selection) -> pa.RecordBatch:
    """The rows whose op and id are asked for, in the columns asked for."""
    for name, wanted in (("op", selection.ops), ("id", selection.ids)):
        if wanted is not None:
            column = batch.column(name)
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.string())
            batch = batch.filter(pc.is_in(column, pa.array(sorted(wanted), pa.string())))
    return batch.select(list(selection.columns))


def _size(root: Path, piece: Piece) -> int:
    if piece.stop is not None:
        return piece.stop - piece.start
    return segment_size(root, piece.segment) - piece.start
