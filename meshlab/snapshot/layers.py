"""Layers of records: Parquet files named by what they hold.

A layer has one row per changed record, whole, and one per deleted id, sorted by id;
a later layer replaces what an earlier one says.  Contents stand as codes (see
``contents``); ``hash`` is what the record adds to the state hash.

A file gets its name, its SHA-256, when it is complete and synced, so a name in
``layers/`` never stands for half a file.  Before a process first uses a layer it reads
it whole and compares: Parquet readers give out flipped bytes without a word.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meshlab.errors import SnapshotError, storage_errors
from meshlab.snapshot.codes import encode_ids, sort_ids
from meshlab.snapshot.manifest import LAYERS, Layer, layer_path
from meshlab.tables.schema import RECORD_FIELDS
from meshlab.wal.files import Files
from meshlab.wal.sink import SyncedFile

LAYER_SCHEMA = pa.schema([*RECORD_FIELDS, ("extra", pa.string()), ("hash", pa.binary(16)), ("gone", pa.bool_())])
"""Rows of a layer of records; of a deleted one only ``id`` and ``gone`` are set."""

STATE_COLUMNS = (*RECORD_FIELDS.names, "extra")
GROUP_ROWS = 32_768
_HELD_ROWS = 4096
"""Rows of each layer in memory while layers are merged."""

_CODEC = "zstd"
_FEW_VALUES = ["concept_id", "content_type", "vault_status", "mode"]
_names = count()
_verified: dict[tuple[str, int, int, int], bool] = {}
"""Files this process has compared with their names: path, inode, size, time stamp."""


class LayerFolder:
    """The folder the layers of a user are written to."""

    def __init__(self, root: Path, files: Files, folder: str = LAYERS) -> None:
        self.path = root / folder
        self._files = files
        self.written: list[Layer] = []
        self._made: set[str] = set()

    @property
    def nbytes(self) -> int:
        """Bytes written into layers so far."""
        return sum(layer.nbytes for layer in self.written)

    def prepare(self) -> None:
        """Make the folder if need be, and remove what a killed checkpoint left in it."""
        with storage_errors("make", self.path):
            if not self.path.is_dir():
                self._files.mkdir(self.path)
                self._files.sync_directory(self.path.parent)
            for name in os.listdir(self.path):
                if name.startswith("."):
                    self._files.unlink(self.path / name)

    def add(self, kind: str, write: Callable[[Any], tuple[int, str, str]]) -> Layer | None:
        """A new layer: ``write`` fills a sink and returns rows, first and last id; None for no rows."""
        temporary = self.path / f".{os.getpid()}-{next(_names)}.tmp"
        with storage_errors("write", temporary):
            sink = SyncedFile(temporary, self._files)
            try:
                rows, first, last = write(pa.PythonFile(sink, "w"))
                sink.close()
                layer = Layer(sink.hexdigest(), kind, rows, sink.tell(), first, last)
                if rows:  # over a file of that name: it has the same bytes, or had
                    known = self.path_of(layer).exists()
                    self._files.rename(temporary, self.path_of(layer))
                    self._made |= set() if known else {layer.name}
            except BaseException:
                with suppress(OSError):
                    sink.close()
                self._drop(temporary)
                raise
            if not rows:
                self._drop(temporary)
                return None
            self.written.append(layer)
            # Of a layer that was there already, the one who made it may have died before this.
            self._files.sync_directory(self.path)
        return layer

    def drop(self, layers: Iterable[Layer]) -> None:
        """Remove layers that were made here and that no manifest names."""
        for layer in layers:
            if layer.name in self._made:
                self._drop(self.path_of(layer))

    def discard(self) -> None:
        """Remove all layers that were written here."""
        self.drop(self.written)

    def remove(self) -> None:
        """Remove the folder, if it is there, with everything in it."""
        with suppress(OSError):
            for path in self.path.iterdir():
                self._files.unlink(path)
            self.path.rmdir()

    def path_of(self, layer: Layer) -> Path:
        """Where this folder keeps a layer."""
        return self.path / layer_path(Path(), layer).name

    def _drop(self, path: Path) -> None:
        with suppress(OSError):  # a disk that takes nothing: the next checkpoint cleans up
            self._files.unlink(path)


def write_records(sink: Any, tables: Iterable[pa.Table]) -> tuple[int, str, str]:
    """Write tables of ``LAYER_SCHEMA``, sorted by id throughout; returns rows, first and last id."""
    rows, first, last = 0, "", ""
    settings = {"compression": _CODEC, "use_dictionary": _FEW_VALUES, "write_statistics": ["id"]}
    with pq.ParquetWriter(sink, LAYER_SCHEMA, write_page_checksum=True, **settings) as writer:
        for table in _grouped(tables):
            first = first if rows else table["id"][0].as_py()
            last = table["id"][-1].as_py()
            rows += table.num_rows
            writer.write_table(table, row_group_size=GROUP_ROWS)
    return rows, first, last


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables that fill groups of rows, but for the last."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= GROUP_ROWS:
            whole = pa.concat_tables(waiting)
            full = count - count % GROUP_ROWS
            yield whole.slice(0, full)
            waiting, count = [whole.slice(full)], count - full
    if count:
        yield pa.concat_tables(waiting)


def write_plain(sink: Any, table: pa.Table) -> tuple[int, str, str]:
    """Write a small table of another kind than records; returns its rows, and no ids."""
    pq.write_table(table, sink, compression=_CODEC, write_page_checksum=True)
    return table.num_rows, "", ""


def verify_layer(path: Path, layer: Layer) -> None:
    """Compare a file with its name, once per process.  Raises ``SnapshotError``."""
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            seen = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
            if seen in _verified:
                return
            if status.st_size != layer.nbytes:
                raise SnapshotError(f"{path}: expected {layer.nbytes} bytes, found {status.st_size}", hint=_ELSEWHERE)
            if hashlib.file_digest(file, "sha256").hexdigest() != layer.name:
                raise SnapshotError(f"{path}: its bytes are not those its name stands for", hint=_ELSEWHERE)
    except FileNotFoundError:
        raise SnapshotError(f"{path}: the snapshot names this layer, and it is missing", hint=_ELSEWHERE) from None
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}", hint=_ELSEWHERE) from None
    _verified[seen] = True


def forget_verified() -> None:
    """Compare every layer anew, as a process does that has just started."""
    _verified.clear()


_ELSEWHERE = "restore the file from a copy of the store; 'meshlab windows' tells which moments need it"


def read_records(path: Path, columns: Iterable[str] = LAYER_SCHEMA.names) -> pa.Table:
    """Some columns of a layer."""
    with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
        return file.read(columns=list(columns)).cast(pa.schema([LAYER_SCHEMA.field(name) for name in columns]))


def rows_with_ids(path: Path, wanted: pa.Array) -> pa.Table:
    """The rows of a layer about some ids, row group by row group."""
    found = [LAYER_SCHEMA.empty_table()]
    with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
        held = file.read(columns=["id"])["id"]
        hits = np.flatnonzero(pc.is_in(held, wanted).to_numpy(zero_copy_only=False))
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            mine = hits[np.searchsorted(hits, start) : np.searchsorted(hits, stop)]
            if len(mine):
                found.append(file.read_row_group(group).cast(LAYER_SCHEMA).take(pa.array(mine - start)))
            start = stop
    return pa.concat_tables(found)


def newest_rows(tables: list[pa.Table], *, drop_gone: bool) -> pa.Table:
    """Of several tables of one schema, oldest first, the last row of each id, sorted by id."""
    filled = [table for table in tables if table.num_rows]
    if len(filled) == 1:  # sorted, and each id once
        (table,) = filled
        return table.filter(pc.invert(table["gone"])) if drop_gone else table
    table = pa.concat_tables(tables)
    ids = table["id"].combine_chunks()
    if not len(ids):
        return table
    codes, firsts = encode_ids(ids)
    last = np.empty(len(firsts), np.int64)
    last[codes] = np.arange(len(codes))  # of repeated indices the last assignment stays
    if drop_gone:
        gone = table["gone"].to_numpy()
        last = last[~gone[last]]
    rows = last[sort_ids(ids.take(pa.array(last)))]
    return table.take(pa.array(rows))


# Merging


FAN = 8
"""Neighbouring layers of one size that are merged into one."""

MAX = 1 << 62
_SMALLEST = 64 << 10
"""Bytes up to which layers count as of one size."""


def choose_merge(layers: list[Layer], largest: int | None = None) -> slice | None:
    """Which neighbouring layers to merge, oldest first, or None.

    The last ``FAN`` layers, when they are of one tier: sizes within a factor of
    ``FAN``.  The oldest layer takes part only when all the others together are as
    large, so that it is rewritten at most once per doubling.  With ``largest``, no
    layer of more bytes takes part, nor the oldest for its age.
    """
    if len(layers) < 2:
        return None
    rest = sum(layer.nbytes for layer in layers[1:])
    if largest is None and rest >= layers[0].nbytes and len(layers) > FAN // 2:
        return slice(0, len(layers))
    last, start = _tier(layers[-1]), len(layers)
    while start > 1 and _tier(layers[start - 1]) <= last and layers[start - 1].nbytes <= (largest or MAX):
        start -= 1
    return slice(start, len(layers)) if len(layers) - start >= FAN else None


def _tier(layer: Layer) -> int:
    tier, size = 0, _SMALLEST
    while layer.nbytes > size:
        tier, size = tier + 1, size * FAN
    return tier


def merge_records(paths: list[Path], *, drop_gone: bool) -> Iterator[pa.Table]:
    """The newest rows of some layers, range of ids by range of ids: memory does not grow with them."""
    readers = [_Reader(path) for path in paths]
    while any(reader.waiting for reader in readers):
        bound = min(reader.bound for reader in readers if reader.waiting)
        parts = [reader.until(bound) for reader in readers]
        yield newest_rows([part for part in parts if part is not None], drop_gone=drop_gone)


class _Reader:
    """A layer read a few rows at a time: there may be many beside it."""

    def __init__(self, path: Path) -> None:
        file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        self._rows = file.iter_batches(_HELD_ROWS)
        self._held: pa.Table | None = None
        self._fill()

    @property
    def waiting(self) -> bool:
        """Whether rows are left."""
        return self._held is not None

    @property
    def bound(self) -> str:
        """The last id in memory."""
        assert self._held is not None
        return str(self._held["id"][-1].as_py())

    def until(self, bound: str) -> pa.Table | None:
        """Take the rows up to an id, inclusive."""
        if self._held is None:
            return None
        ids = self._held["id"]
        low, high = 0, len(ids)
        key = bound.encode()
        while low < high:
            middle = (low + high) // 2
            if ids[middle].as_py().encode() <= key:
                low = middle + 1
            else:
                high = middle
        taken, self._held = self._held.slice(0, low), self._held.slice(low)
        if not self._held.num_rows:
            self._fill()
        return taken

    def _fill(self) -> None:
        batch = next(self._rows, None)
        self._held = None if batch is None else pa.Table.from_batches([batch]).cast(LAYER_SCHEMA)
