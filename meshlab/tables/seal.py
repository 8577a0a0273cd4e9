"""Sealing: finished segments as Parquet files that read many times faster.

A sealed file is a cache beside the log (see ``sealed``); deleting it loses nothing.
Steps: sync the segment, write the copy under a temporary name, sync it, rename it,
sync the directory.  The rename is the commit point; a crash before it leaves only a
temporary file, which a later sealing of that day deletes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from meshlab.errors import storage_errors
from meshlab.tables.batches import Names
from meshlab.tables.digests import DuckDigests
from meshlab.tables.parse import Parser
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.tables.sealed import (
    CODED,
    FILE_SCHEMA,
    KEY,
    VERSION,
    Description,
    Group,
    Source,
    find_sealed,
    look_at_source,
    pack,
    sealed_path,
)
from meshlab.tables.segment import RawSegment
from meshlab.wal.chain import ORIGIN
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import segment_days, segment_name

GROUP_ROWS = 128 << 10
_CODEC = "lz4"
_FEW_VALUES = ["concept_id", "content_type", "vault_status", "mode", "op", "dialect"]
"""Columns that Parquet keeps as dictionaries."""

_ABANDONED = 3600
"""Seconds after which a temporary file belongs to no one."""

_MOST_RAW = 16 << 20
"""A segment with more bytes of rejects than this is not sealed: they would all stand in its metadata."""


class SealedFile(NamedTuple):
    """One segment that now has a sealed copy: its day, and bytes before and after."""

    segment: str
    bytes: int
    sealed_bytes: int


def seal(root: Path, uid: str, *, files: Files = REAL_FILES) -> list[SealedFile]:
    """Seal every finished segment of a user that has no good copy yet.

    The newest segment is never sealed.  Returns what was sealed.  Raises
    ``StorageError`` when the copy cannot be written; the log is only read.
    """
    days = segment_days(root)
    names = Names(uid, days)
    parser, digests = Parser(EVENT_SCHEMA.names), DuckDigests()
    cursor, done = ORIGIN, []
    for day in days[:-1]:
        known = find_sealed(root, day, cursor)
        if known is not None:
            cursor = known.description.end
            continue
        segment = RawSegment(root, day, cursor, False, parser, names, FILE_SCHEMA.names, digests=digests)
        written = _seal_segment(segment, files)
        if written is not None:
            done.append(written)
        cursor = segment.end
    return done


def _seal_segment(segment: RawSegment, files: Files) -> SealedFile | None:
    """Write the copy of one segment; None when the segment changed or has too many rejects."""
    source = segment.root / segment_name(segment.day)
    target = sealed_path(segment.root, segment.day)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with storage_errors("seal", target):
        _sync(source, files)
        before = look_at_source(source)
        if not target.parent.is_dir():
            files.mkdir(target.parent)
            files.sync_directory(segment.root)
        _remove_leftovers(target)
        try:
            _write(segment, before, temporary)
            raw = sum(len(reject.raw) for reject in segment.part.rejects)
            if look_at_source(source) != before or raw > _MOST_RAW:
                return None
            _sync(temporary, files)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        files.sync_directory(target.parent)
    return SealedFile(segment.day, before.size, target.stat().st_size)


def _sync(path: Path, files: Files) -> None:
    fd = files.open(path, os.O_RDONLY)
    try:
        files.sync(fd)
    finally:
        files.close(fd)


def _remove_leftovers(target: Path) -> None:
    """Delete temporary files of a sealing that was killed; a live one is younger."""
    for path in target.parent.glob(f".{target.name}.*.tmp"):
        if time.time() - path.stat().st_mtime > _ABANDONED:
            path.unlink(missing_ok=True)


def _write(segment: RawSegment, source: Source, path: Path) -> None:
    """Write all events of the segment, and what the copy says of it."""
    groups: list[Group] = []
    with pq.ParquetWriter(
        path,
        FILE_SCHEMA,
        compression=_CODEC,
        use_dictionary=_FEW_VALUES,
        write_page_checksum=True,
        write_statistics=False,
    ) as writer:
        for table in _in_groups(segment):
            moments = table.column("effective_ts").cast(pa.int64())
            groups.append(Group(table.num_rows, moments[0].as_py(), moments[-1].as_py()))
            writer.write_table(table, row_group_size=GROUP_ROWS)
        segment.check_tiling()
        told = Description(VERSION, source, segment.start, segment.end, segment.part, groups)
        writer.add_key_value_metadata({KEY: pack(told)})


def _in_groups(segment: RawSegment) -> Iterator[pa.Table]:
    """The events of a segment in tables of ``GROUP_ROWS`` rows; the last may have fewer."""
    waiting = pa.Table.from_batches([], FILE_SCHEMA)
    for batch in segment.batches():
        waiting = pa.concat_tables([waiting, _coded(batch)])
        while waiting.num_rows >= GROUP_ROWS:
            yield waiting.slice(0, GROUP_ROWS)
            waiting = waiting.slice(GROUP_ROWS)
    if waiting.num_rows:
        yield waiting


def _coded(batch: pa.RecordBatch) -> pa.Table:
    arrays = [
        column.indices.cast(pa.int8()) if name in CODED else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=FILE_SCHEMA)
