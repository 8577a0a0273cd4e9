"""Reading the columnar copies of finished segments.

``sealed/wal-YYYYMMDD.parquet`` is a cache.  It is used only while the segment has the
size, time stamp, first and last 4 KiB it was made from, and the log before it stands
where it stood then; otherwise the log itself is read.  What the copy says of its
segment (tally, rejects, claims, cursors) stands in the Parquet metadata.
"""

from __future__ import annotations

import base64
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

from meshlab.errors import StorageError
from meshlab.events import OPS
from meshlab.tables.batches import Names
from meshlab.tables.reports import check_tiling
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.tables.segment import Rows
from meshlab.wal.chain import Cursor
from meshlab.wal.lines import DIALECTS
from meshlab.wal.paths import SEALED, segment_name
from meshlab.wal.reader import Part

VERSION = 1
KEY = b"meshlab.sealed"
_PROBE = 4096

CODED = {"op": OPS, "dialect": DIALECTS}
"""Columns kept as int8 codes."""

CONSTANT = ("uid", "segment")
"""Columns that are not kept: the place of the file says them."""


def _file_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.int8()) if field.name in CODED else field


FILE_SCHEMA = pa.schema([_file_field(field) for field in EVENT_SCHEMA if field.name not in CONSTANT])
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
    """What a sealed file says of its segment."""

    version: int
    source: Source
    start: Cursor
    end: Cursor
    part: Part
    groups: list[Group]


def sealed_path(root: Path, day: str) -> Path:
    """Where the sealed copy of a day's segment is, if there is one."""
    return root / SEALED / segment_name(day).replace(".log", ".parquet")


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
    _events: int = 0

    def batches(self, advance: Callable[[int], Any] = lambda count: None) -> Iterator[pa.RecordBatch]:
        """The events between the bounds; ops are left to the caller."""
        for batch in self.sealed.batches(self.columns, self.names, self.rows.since, self.rows.until):
            self._events += batch.num_rows
            yield batch
        advance(self.part.tally.bytes)

    def check_tiling(self) -> None:
        """As for a raw segment; the bytes were counted when the copy was made."""
        check_tiling(self.sealed.path.parent.parent, self.part, self._events, self.part.tally.event_bytes)

    @property
    def end(self) -> Cursor:
        """Where the log stands behind the segment."""
        return self.sealed.description.end

    @property
    def part(self) -> Part:
        """What the segment adds to the log's report."""
        return self.sealed.description.part


def find_sealed(root: Path, day: str, start: Cursor) -> Sealed | None:
    """The copy of a segment, if it stands for the segment as it is and the log before it."""
    path = sealed_path(root, day)
    try:
        description = read_description(path)
        if description is None or description.version != VERSION or description.start != start:
            return None
        if description.source != look_at_source(root / segment_name(day)):
            return None
    except OSError:
        return None
    return Sealed(path, day, description)


def read_description(path: Path) -> Description | None:
    """What a sealed file says of its segment; None when it cannot be trusted."""
    if not path.exists():
        return None
    try:
        metadata = pq.read_metadata(path)
        text = (metadata.metadata or {}).get(KEY, b"")
        description = unpack(text)
    except (pa.ArrowException, msgspec.MsgspecError, ValueError):
        return None
    if metadata.num_row_groups != len(description.groups):
        return None
    return description


def pack(description: Description) -> bytes:
    """The description as text with its checksum, for the Parquet metadata."""
    body = msgspec.msgpack.encode(description)
    return base64.b64encode(hashlib.sha256(body).digest() + body)


def unpack(text: bytes) -> Description:
    """Inverse of ``pack``.  Raises ``ValueError`` when the checksum does not hold."""
    data = base64.b64decode(text, validate=True)
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the description of the sealed file is damaged")
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
    return pa.record_batch(arrays, schema=pa.schema([EVENT_SCHEMA.field(name) for name in columns]))
