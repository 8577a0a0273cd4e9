"""Phase-1 snapshots: a bincode 1.3 map from id to record (see ``layout``), read to Arrow and written.

The reader finds the offsets of whole records in one tight loop, then gathers every
field of all of them at once.  It keeps one window of the file in memory, and 16 bytes
per record to find a key that comes twice.  A length is believed only as far as the
file goes.

>>> one = {"id": "m1", **dict.fromkeys(("concept_id", "creation_time", "last_accessed", "content"), "")}
>>> one |= dict.fromkeys(("phase_tag", "amplitude", "frequency", "width", "position", "stability"), 0.5)
>>> one |= {"access_count": 1, "content_type": "Conversation", "vault_status": "Active", "mode": "Dark"}
>>> one["emotional_signature"] = {"valence": 0.0, "arousal": 0.0, "dominance": 0.0, "trauma_indicators": []}
>>> one["comfort_metrics"] = {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0}
>>> len(write_bincode([one]))
192
"""

from __future__ import annotations

import io
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.bars import progress_bar
from meshlab.errors import SnapshotError, storage_errors
from meshlab.snapshot.entries import write_map
from meshlab.snapshot.layout import (
    COMFORTS,
    FEELINGS,
    FLOATS,
    LAYOUT,
    SMALLEST_RECORD,
    STRING,
    TAIL,
    VARIANTS,
)
from meshlab.snapshot.window import WINDOW, Keys, Window
from meshlab.tables.schema import COMFORT_METRICS, EMOTIONAL_SIGNATURE, RECORD_FIELDS, RECORD_SCHEMA
from meshlab.tables.times import to_timestamps
from meshlab.wal.files import open_regular

MAGIC = b"MESHSNAP"
"""First bytes of a manifest; a ``snapshot.bin`` without them is a phase-1 map."""

LARGEST_RECORD = (1 << 31) - 1 - 2 * WINDOW
"""Bytes of one record: offsets within a window must fit Arrow's 32-bit strings."""

_U64 = struct.Struct("<Q")


def is_bincode(path: str | os.PathLike[str]) -> bool:
    """Whether a ``snapshot.bin`` is a phase-1 map and not a manifest."""
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        return file.read(len(MAGIC)) != MAGIC


def read_bincode(
    path: str | os.PathLike[str], *, batch_rows: int = 65_536, progress: bool = True
) -> Iterator[pa.RecordBatch]:
    """Record batches in ``RECORD_SCHEMA``, in file order, of at most ``batch_rows`` rows.

    Raises ``SnapshotError`` naming the byte offset and record for a file that is cut,
    has bytes after its last record, a length beyond its end, text that is no UTF-8, an
    unknown variant, or a key that differs from the record's id.  A key that comes twice
    is found after the last batch: use no batch before the iterator is exhausted.
    """
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        window = Window(Path(path), file)
        keys = Keys(window)
        total = _read_count(window)
        with progress_bar(f"read {window.path.name}", total, " records", shown=progress) as bar:
            for batch, starts in _read_records(window, total, batch_rows):
                keys.add(batch.column(0), starts)
                bar.update(batch.num_rows)
                yield batch
        keys.check()


class _Scan(NamedTuple):
    """Whole records in a window: where each starts, where its last 40 bytes start."""

    starts: list[int]
    tails: list[int]
    strings: list[int]  # starts of all trauma indicators
    stop: int  # end of the last whole record


def _read_count(window: Window) -> int:
    if len(window.data) < 8:
        raise window.error(0, "expected 8 bytes of record count", f"{len(window.data)}: the file is cut")
    (total,) = _U64.unpack_from(window.data)
    room = (window.size - 8) // SMALLEST_RECORD
    if total > room:
        expected = f"expected a count of at most {room} records in {window.size} bytes"
        raise window.error(0, expected, f"a count of {total}")
    return int(total)


def _read_records(window: Window, total: int, batch_rows: int) -> Iterator[tuple[pa.RecordBatch, Any]]:
    """Batches, each with the file offsets at which its records start."""
    done, position = 0, 8
    while done < total:
        scan = _scan(window.data, position, min(batch_rows, total - done))
        if not scan.starts:
            window.move(position, _needed(window, position, done))
            position = 0
            continue
        starts = np.array(scan.starts, np.int64)
        yield _Records(window, scan, starts, done).batch(), starts + window.base
        done += len(starts)
        position = scan.stop
    if window.base + position != window.size:
        left = window.size - window.base - position
        raise window.error(
            position, f"expected the end of the file after {total} records", f"{left} more byte{'s' * (left != 1)}"
        )


def _scan(data: bytes, position: int, limit: int) -> _Scan:
    """Step from length to length; stop at the first record that is not all there."""
    starts: list[int] = []
    tails: list[int] = []
    strings: list[int] = []
    size = len(data)
    u64 = _U64.unpack_from
    try:
        while len(starts) < limit:
            at = position + 8 + u64(data, position)[0]  # key
            at += 8 + u64(data, at)[0]  # id
            at += 56 + u64(data, at)[0]  # concept_id and six floats
            at += 8 + u64(data, at)[0]  # creation_time
            at += 16 + u64(data, at)[0]  # last_accessed and access_count
            at += 36 + u64(data, at)[0]  # content, content_type and three floats
            count = u64(data, at)[0]
            at += 8
            if count:
                if count > (size - at) >> 3:
                    break
                for _ in range(count):
                    strings.append(at)
                    at += 8 + u64(data, at)[0]
            if at + TAIL > size:
                break
            starts.append(position)
            tails.append(at)
            position = at + TAIL
    except (struct.error, IndexError, OverflowError):  # a length that points beyond the window
        pass
    del strings[bisect_left(strings, position) :]
    return _Scan(starts, tails, strings, position)


def _needed(window: Window, position: int, record: int) -> int:
    """Bytes that must be in memory to get on with a record; raises when the file has fewer."""
    end = position
    for name, size in LAYOUT:
        start = end
        for end in _steps(window, start, name, size, record):
            if end > len(window.data):
                return end - position
    return end - position


def _steps(window: Window, at: int, name: str, size: int, record: int) -> Iterator[int]:
    """Ends of the parts of one field, each proved to lie within the file."""
    if size > 0:
        yield _within(window, at, size, name, record)
        return
    body = _within(window, at, 8, f"the length of {name}", record)
    yield body
    (length,) = _U64.unpack_from(window.data, at)
    if size == STRING:
        yield _within(window, body, length, name, record)
        return
    _within(window, body, 8 * length, name, record)
    for _ in range(length):
        start = body
        for body in _steps(window, start, f"{name}[]", STRING, record):
            yield body


def _within(window: Window, at: int, size: int, name: str, record: int) -> int:
    left = window.size - window.base - at
    if size > left:
        raise window.error(at, f"expected {size} bytes of {name}", f"{max(left, 0)} before the end of the file", record)
    if size > LARGEST_RECORD:
        raise window.error(at, f"expected at most {LARGEST_RECORD} bytes of {name}", f"{size}", record)
    return at + size


class _Records:
    """The records of one scan as Arrow columns."""

    def __init__(self, window: Window, scan: _Scan, starts: Any, done: int) -> None:
        self.window = window
        self.scan = scan
        self.starts = starts
        self.done = done
        self.u64 = _unaligned(window.data, "<u8")
        self.f64 = _unaligned(window.data, "<f8")
        self.u32 = _unaligned(window.data, "<u4")

    def batch(self) -> pa.RecordBatch:
        columns: dict[str, Any] = {}
        key, at = self.strings(self.starts, "key")
        columns["id"], at = self.strings(at, "id")
        self.check_keys(key, columns["id"])
        columns["concept_id"], at = self.strings(at, "concept_id")
        for name in FLOATS:
            columns[name], at = self.floats(at)
        columns["creation_time"], at = self.strings(at, "creation_time")
        columns["last_accessed"], at = self.strings(at, "last_accessed")
        columns["access_count"], at = pa.array(self.u64[at]), at + 8
        columns["content"], at = self.strings(at, "content")
        columns["content_type"], at = self.variants(at, "content_type")
        columns["emotional_signature"] = self.feelings(at)
        at = np.array(self.scan.tails, np.int64)
        columns["vault_status"], at = self.variants(at, "vault_status")
        columns["mode"], at = self.variants(at, "mode")
        comforts = [self.f64[at + 8 * i] for i in range(len(COMFORTS))]
        columns["comfort_metrics"] = pa.StructArray.from_arrays(comforts, fields=list(COMFORT_METRICS))
        columns["creation_ts"] = to_timestamps(columns["creation_time"])
        columns["last_accessed_ts"] = to_timestamps(columns["last_accessed"])
        columns["extra"] = pa.nulls(len(self.starts), pa.string())
        return pa.RecordBatch.from_arrays([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)

    def floats(self, at: Any) -> tuple[pa.Array, Any]:
        return pa.array(self.f64[at]), at + 8

    def strings(self, at: Any, name: str) -> tuple[pa.Array, Any]:
        """The strings whose lengths stand at ``at``, and where each ends."""
        if not len(at):
            return pa.array([], pa.string()), at
        begin = at + 8
        end = begin + self.u64[at].astype(np.int64)
        raw = _slices(self.window.data, begin, end)
        try:
            return raw.cast(pa.string()), end
        except pa.ArrowInvalid:
            raise self.bad_text(raw, begin, name) from None

    def bad_text(self, raw: pa.Array, begin: Any, name: str) -> SnapshotError:
        for index, value in enumerate(raw.to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError as error:
                position = int(begin[index]) + error.start
                row = int(np.searchsorted(self.starts, position, side="right")) - 1
                return self.error(row, position, f"expected UTF-8 in {name}", f"bytes {value[error.start :][:8]!r}")
        return self.error(0, int(self.starts[0]), f"expected UTF-8 in {name}", "text that Arrow refuses")

    def check_keys(self, keys: pa.Array, ids: pa.Array) -> None:
        same = pc.equal(keys, ids)
        if not pc.all(same).as_py():
            row = same.index(False).as_py()
            expected = f"expected the key to be the id {ids[row].as_py()!r}"
            raise self.error(row, int(self.starts[row]), expected, repr(keys[row].as_py()))

    def variants(self, at: Any, name: str) -> tuple[pa.Array, Any]:
        names = VARIANTS[name]
        index = self.u32[at]
        if index.max() >= len(names):
            row = int(np.argmax(index >= len(names)))
            raise self.error(row, int(at[row]), f"expected a {name} variant below {len(names)}", f"{index[row]}")
        return pa.array(names).take(pa.array(index)), at + 4

    def feelings(self, at: Any) -> pa.Array:
        floats = [pa.array(self.f64[at + 8 * i]) for i in range(len(FEELINGS))]
        counts = self.u64[at + 8 * len(FEELINGS)]
        offsets = np.zeros(len(counts) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        values, _ = self.strings(np.array(self.scan.strings, np.int64), "trauma_indicators")
        lists = pa.ListArray.from_arrays(pa.array(offsets), values)
        return pa.StructArray.from_arrays([*floats, lists], fields=list(EMOTIONAL_SIGNATURE))

    def error(self, row: int, position: int, expected: str, found: str) -> SnapshotError:
        return self.window.error(position, expected, found, self.done + row)


def _unaligned(data: bytes, dtype: str) -> Any:
    """Numbers at every byte position of a window."""
    width = np.dtype(dtype).itemsize
    return np.ndarray((max(len(data) - width + 1, 0),), dtype, data, strides=(1,))


def _slices(data: bytes, begin: Any, end: Any) -> pa.Array:
    """Slices of a window as a binary column.

    The slices do not overlap and ascend, so they and the gaps between them are the
    elements of one column over the window; the gaps are then left out.
    """
    bounds = np.empty(2 * len(begin), np.int32)
    bounds[0::2] = begin
    bounds[1::2] = end
    pieces = pa.Array.from_buffers(pa.binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    return pieces.take(pa.array(np.arange(0, len(bounds) - 1, 2, dtype=np.int32)))


def write_bincode(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The phase-1 bytes of records in the JSON form, in the order given.

    The format has no room for an absent or unknown field: raises ``SnapshotError``
    naming the record and what does not fit.
    """
    rows = list(records)
    with io.BytesIO() as sink:
        write_map(sink, [_batch_of(rows)], len(rows))
        return sink.getvalue()


def _batch_of(rows: list[Mapping[str, Any]]) -> pa.RecordBatch:
    for row in rows:
        unknown = [f"{name}" for name in row if name not in RECORD_FIELDS.names]
        if unknown:
            raise _refused(row, f"the format has no field {min(unknown)!r}")
    try:
        return pa.RecordBatch.from_pylist(rows, schema=RECORD_SCHEMA)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if len(rows) == 1:
            raise _refused(rows[0], str(error)) from None
        return pa.concat_batches([_batch_of([row]) for row in rows])


def _refused(row: Mapping[str, Any], reason: str) -> SnapshotError:
    return SnapshotError(f"record {row.get('id')!r} does not fit the bincode format: {reason}")
