"""Sealing: finished segments as Parquet files that read many times faster.

A sealed copy is a cache beside the log (see ``sealed``); deleting it loses nothing.
Steps: sync the segment; write and sync the copy, then what is said of it, both under
temporary names; rename the copy, then what is said of it; sync the directory.  The last
rename is the commit point: it names the footer of the copy it belongs to, so a crash
anywhere leaves either a good pair or one that is not used, and at most temporary
files, which a later sealing of that day deletes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
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
from meshlab.tables.schema import COLUMNS
from meshlab.tables.sealed import (
    CODED,
    FILE_SCHEMA,
    VERSION,
    Description,
    Group,
    description_path,
    find_sealed,
    look_at_copy,
    look_at_source,
    pack,
    sealed_path,
)
from meshlab.tables.segment import RawSegment
from meshlab.tables.sizes import Sizes
from meshlab.wal.chain import ORIGIN
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.sink import SyncedFile

GROUP_ROWS = 128 << 10
_CODEC = "lz4"
_FEW_VALUES = ["concept_id", "content_type", "vault_status", "mode", "op", "dialect"]
"""Columns that Parquet keeps as dictionaries."""

_ABANDONED = 3600
"""Seconds after which a temporary file belongs to no one."""

_MOST_RAW = 16 << 20
"""A segment with more bytes of rejects than this is not sealed: they would all be held in memory."""


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
    parser, digests = Parser(COLUMNS.names), DuckDigests()
    cursor, done = ORIGIN, []
    for day in days[:-1]:
        known = find_sealed(root, day, cursor)
        if known is not None and _is_readable(sealed_path(root, day)):
            cursor = known.description.end
            continue
        segment = RawSegment(root, day, cursor, False, parser, names, FILE_SCHEMA.names, digests=digests, sizes=Sizes())
        written = _seal_segment(segment, files)
        if written is not None:
            done.append(written)
        cursor = segment.end
    return done


def _seal_segment(segment: RawSegment, files: Files) -> SealedFile | None:
    """Write the copy of one segment; None when the segment changed or has too many rejects."""
    source = segment.root / segment_name(segment.day)
    targets = sealed_path(segment.root, segment.day), description_path(segment.root, segment.day)
    temporaries = [path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") for path in targets]
    with storage_errors("seal", targets[0]):
        files.sync_file(source)
        before = look_at_source(source)
        _make_folder(targets[0].parent, files)
        try:
            with SyncedFile(temporaries[0], files) as sink:
                groups = _write(segment, sink)
            copy = look_at_copy(temporaries[0])
            assert segment.sizes is not None
            told = Description(
                VERSION, before, copy, segment.start, segment.end, segment.part, groups, segment.sizes.packed()
            )
            raw = sum(len(reject.raw) for reject in told.part.rejects)
            if look_at_source(source) != before or raw > _MOST_RAW:
                return None
            with SyncedFile(temporaries[1], files) as sink:
                sink.write(pack(told))
            for path, target in zip(temporaries, targets, strict=True):
                files.rename(path, target)
        finally:
            for path in temporaries:
                _delete(path, files)
        files.sync_directory(targets[0].parent)
    return SealedFile(segment.day, before.size, copy[0])


def _make_folder(folder: Path, files: Files) -> None:
    """Make the folder if need be, and delete what killed sealings left there; live files are younger."""
    if not folder.is_dir():
        files.mkdir(folder)
        files.sync_directory(folder.parent)
    for path in folder.glob(".wal-*.tmp"):
        if time.time() - path.stat().st_mtime > _ABANDONED:
            _delete(path, files)


def _delete(path: Path, files: Files) -> None:
    """Delete a temporary file, if it is there and can be: it is only in the way."""
    with contextlib.suppress(OSError):
        if os.path.lexists(path):
            files.unlink(path)


def _is_readable(path: Path) -> bool:
    """Whether every page of a copy passes its checksum; a copy that does not is made again."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for group in range(file.num_row_groups):
            file.read_row_group(group)
    except (OSError, pa.ArrowException):
        return False
    return True


def _write(segment: RawSegment, sink: SyncedFile) -> list[Group]:
    """Write all events of the segment; returns the row groups."""
    groups = []
    settings = {"compression": _CODEC, "use_dictionary": _FEW_VALUES, "write_statistics": False}
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), FILE_SCHEMA, write_page_checksum=True, **settings) as writer:
        for table in _in_groups(segment):
            moments = table.column("effective_ts").cast(pa.int64())
            groups.append(Group(table.num_rows, moments[0].as_py(), moments[-1].as_py()))
            writer.write_table(table, row_group_size=GROUP_ROWS)
    segment.check_tiling()
    return groups


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
