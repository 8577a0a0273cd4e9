"""Reading the columnar copies of finished segments.

``sealed/wal-YYYYMMDD.parquet`` is a cache.  It is used only while the segment has the
size, time stamp, first and last 4 KiB it was made from, and the log before it stands
where it stood then; otherwise the log itself is read.

``sealed/wal-YYYYMMDD.seal`` beside it says what the copy was made from, what is to be
known of the segment (tally, rejects, claims, cursors), and how the Parquet file ends:
Parquet has checksums for its pages, but none for the footer that tells where they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meshlab.dialects import OPS
from meshlab.errors import StorageError
from meshlab.tables.batches import Names
from meshlab.tables.reports import check_tiling
from meshlab.tables.schema import COLUMNS
from meshlab.tables.segment import Rows
from meshlab.tables.sizes import Packed
from meshlab.wal.chain import LONG_AGO, Cursor
from meshlab.wal.lines import DIALECTS
from meshlab.wal.paths import SEALED, segment_name
from meshlab.wal.reader import Part

VERSION = 2
_FOOTER_END = 8
"""A Parquet file ends in the length of its footer (4 bytes, little-endian) and ``PAR1``."""

_PROBE = 4096

CODED = {"op": OPS, "dialect": DIALECTS}
"""Columns kept as int8 codes."""

CONSTANT = ("uid", "segment")
"""Columns that are not kept: the place of the file says them."""


def _file_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.int8()) if field.name in CODED else field


FILE_SCHEMA = pa.schema([_file_field(field) for field in COLUMNS if field.name not in CONSTANT])
"""The columns of a sealed file."""


class Source(NamedTuple):
    """What a segment looked like: size in bytes, modification time, MD5 of head and tail."""

    size: int
    mtime_ns: int
    head: str
    tail: str


class Group(NamedTuple):
    """A row group: its rows, and the smallest and largest effective time (µs)."""

    rows: int
    first: int
    last: int


class Description(NamedTuple):
    """What stands beside a sealed copy; ``copy`` is its size and the SHA-256 of its footer."""

    version: int
    source: Source
    copy: tuple[int, bytes]
    start: Cursor
    end: Cursor
    part: Part
    groups: list[Group]
    sizes: Packed


def sealed_path(root: Path, day: str) -> Path:
    """Where the sealed copy of a day's segment is, if there is one."""
    return root / SEALED / segment_name(day).replace(".log", ".parquet")


def description_path(root: Path, day: str) -> Path:
    """Where it is said what the sealed copy of a day holds."""
    return _description_beside(sealed_path(root, day))


def _description_beside(copy: Path) -> Path:
    return copy.with_suffix(".seal")


def look_at_copy(path: Path) -> tuple[int, bytes]:
    """Size of a Parquet file and SHA-256 of its footer.  Raises ``OSError``."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        end = os.pread(file.fileno(), _FOOTER_END, max(0, size - _FOOTER_END))
        length = min(size, int.from_bytes(end[:4], "little") + _FOOTER_END)
        return size, hashlib.sha256(os.pread(file.fileno(), length, size - length)).digest()


def look_at_source(path: Path) -> Source:
    """The present state of a segment.  Raises ``OSError``."""
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        head = os.pread(file.fileno(), _PROBE, 0)
        tail = os.pread(file.fileno(), _PROBE, max(0, status.st_size - _PROBE))
    return Source(status.st_size, status.st_mtime_ns, _md5(head), _md5(tail))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Sealed:
    """A sealed copy that stands for its segment."""

    path: Path
    day: str
    description: Description

    def batches(
        self, columns: Sequence[str], names: Names, since: int | None = None, until: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The events between two effective times, inclusive, in log order.

        Raises ``StorageError`` when the copy is damaged (every page is checked).
        """
        low = -(1 << 63) if since is None else since
        high = (1 << 63) - 1 if until is None else until
        groups = self.description.groups
        chosen = [index for index, group in enumerate(groups) if group.last >= low and group.first <= high]
        partial = {index for index in chosen if groups[index].first < low or groups[index].last > high}
        kept = [name for name in columns if name not in CONSTANT]
        if partial and "effective_ts" not in kept:
            kept.append("effective_ts")
        try:
            with pq.ParquetFile(self.path, memory_map=True, page_checksum_verification=True) as file:
                for index in chosen:
                    table = _read_group(file, index, kept, groups[index].rows)
                    if index in partial:
                        table = _between(table, low, high)
                    yield _dressed(table, columns, names, self.day)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"the sealed copy {self.path} cannot be read: {error}",
                hint="delete it: it is a cache, and the log it was made from is read instead",
            ) from error


@dataclass(slots=True)
class SealedSegment:
    """Reads a segment from its sealed copy; see ``RawSegment``."""

    sealed: Sealed
    names: Names
    columns: Sequence[str]
    rows: Rows
    cut: bool = False
    _events: int | None = None

    def batches(self, advance: Callable[[int], Any] = lambda count: None) -> Iterator[pa.RecordBatch]:
        """The events between the bounds; ops are left to the caller."""
        self._events = 0
        for batch in self.sealed.batches(self.columns, self.names, self.rows.since, self.rows.until):
            self._events += batch.num_rows
            yield batch
        advance(self.part.tally.bytes)

    def check_tiling(self) -> None:
        """As for a raw segment, if its events were read; the bytes were counted when the copy was made."""
        if self._events is not None:
            check_tiling(self.sealed.path.parent.parent, self.part, self._events, self.part.tally.event_bytes)

    @property
    def end(self) -> Cursor:
        """Where the log stands behind the segment."""
        return self.sealed.description.end

    @property
    def first(self) -> int | None:
        """The effective time of the first event (µs)."""
        groups = self.sealed.description.groups
        return groups[0].first if groups else None

    @property
    def part(self) -> Part:
        """What the segment adds to the log's report."""
        return self.sealed.description.part


def find_sealed(root: Path, day: str, start: Cursor) -> Sealed | None:
    """The copy of a segment, if it stands for the segment as it is and the log before it.

    ``start`` is where the log stands before the segment; its effective time is
    ``LONG_AGO`` when reading starts here and only the frame before it was looked at.
    """
    try:
        copy = sealed_path(root, day)
        told = read_description(_description_beside(copy))
        if told is None or told.version != VERSION or not _same_place(told.start, start):
            return None
        if told.source != look_at_source(root / segment_name(day)) or told.copy != look_at_copy(copy):
            return None
    except OSError:
        return None
    return Sealed(copy, day, told)


def _same_place(told: Cursor, start: Cursor) -> bool:
    """Whether a copy's start is this one.  Behind a frame an effective time of ``LONG_AGO`` means unknown."""
    unknown = start.seq > 0 and start.effective == LONG_AGO
    return told[:2] == start[:2] if unknown else told == start


def read_description(path: Path) -> Description | None:
    """What is said of a sealed copy; None when it cannot be trusted.  Raises ``OSError``."""
    try:
        return unpack(path.read_bytes())
    except (msgspec.MsgspecError, ValueError):
        return None


def pack(description: Description) -> bytes:
    """The bytes of a description: SHA-256, then msgpack."""
    body = msgspec.msgpack.encode(description)
    return hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> Description:
    """Inverse of ``pack``.  Raises ``ValueError`` when the checksum does not hold."""
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the description of a sealed copy is damaged")
    return msgspec.msgpack.decode(body, type=Description)


def _read_group(file: pq.ParquetFile, index: int, columns: list[str], rows: int) -> pa.Table:
    table = file.read_row_group(index, columns=columns, use_threads=True)
    if columns and table.num_rows != rows:
        raise pa.ArrowInvalid(f"row group {index} has {table.num_rows} rows, expected {rows}")
    return table if columns else pa.table({"": pa.nulls(rows)})


def _between(table: pa.Table, low: int, high: int) -> pa.Table:
    moments = table.column("effective_ts").cast(pa.int64()).to_numpy()
    return table.filter(pa.array((moments >= low) & (moments <= high)))


def _dressed(table: pa.Table, columns: Sequence[str], names: Names, day: str) -> pa.RecordBatch:
    """The batch as a load gives it: dictionaries for the codes, constants added."""
    arrays = []
    for name in columns:
        if name in CONSTANT:
            values = [names.uid] if name == "uid" else list(names.segments)
            code = 0 if name == "uid" else values.index(day)
            indices = pa.array(np.full(table.num_rows, code, np.int32))
            arrays.append(pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string())))
            continue
        column = table.column(name)
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if name in CODED:
            array = pa.DictionaryArray.from_arrays(array.cast(pa.int32()), pa.array(CODED[name], pa.string()))
        arrays.append(array)
    return pa.record_batch(arrays, schema=pa.schema([COLUMNS.field(name) for name in columns]))
