"""Long contents, each kept once per user and named by its SHA-256.

In a layer of records a content is a *code*: a content under ``LEAST`` bytes stands for
itself, a longer one is a NUL and the 64 hexadecimal digits of its SHA-256; a short
content that begins with a NUL gets a second NUL in front.  The long ones are in layers
of their own: uncompressed Arrow files, which are mapped into memory, so that a few
contents of many are found without reading the rest.

>>> codes, texts = encode(pa.array(["short", "x" * 300, None, "x" * 300]))
>>> [code and len(code) for code in codes.to_pylist()], texts.num_rows
([5, 65, None, 65], 1)
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import SnapshotError
from meshlab.tables.connection import borrow
from meshlab.tables.slices import INLINE, inline, spread

LEAST = 256
"""Bytes from which on a content is kept apart."""

TEXTS = pa.schema([("digest", pa.binary(32)), ("text", pa.string())])
"""Contents and their SHA-256."""

_NUL = "\0"
_CODE = 65
_SLICE = 65_536
_BATCH = 8192
_SPARSE = 64
"""Texts from everywhere that are looked at before their pages are let go: each may bring a megabyte of its file."""

_FEW_BYTES = 4 << 20

_PART = 32 << 20
"""Bytes of contents in one array."""


def encode(contents: pa.Array) -> tuple[pa.Array, pa.Table]:
    """The codes of contents, and the long ones among them, each once (``TEXTS``)."""
    sizes = pc.fill_null(pc.binary_length(contents), 0).to_numpy(zero_copy_only=False)
    long = np.flatnonzero(sizes >= LEAST)
    codes = _escaped(contents, sizes)
    if not len(long):
        return codes, TEXTS.empty_table()
    texts = contents.take(pa.array(long))
    digests = _digests(texts)
    first = _first_of_each(digests)
    table = pa.table([digests.take(first), texts.take(first)], schema=TEXTS)
    index = np.arange(len(contents))
    index[long] = len(contents) + np.arange(len(long))
    return pa.concat_arrays([codes, _references(digests)]).take(pa.array(index)), table


def encode_batch(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Table]:
    """A batch with codes for contents, and the long contents."""
    codes, texts = encode(batch.column("content"))
    return batch.set_column(batch.schema.get_field_index("content"), "content", codes), texts


def each_once(texts: list[pa.Table]) -> pa.Table:
    """Contents of several batches, each once."""
    table = pa.concat_tables([TEXTS.empty_table(), *texts])
    firsts = _first_of_each(table["digest"].combine_chunks())
    return table if len(firsts) == table.num_rows else table.take(firsts)


def digests_in(codes: pa.Array) -> pa.Array:
    """The SHA-256 of every code that is a reference, null for the others."""
    rows = _reference_rows(codes)
    return spread(_unhex(codes.take(pa.array(rows))), rows, len(codes))


class Contents:
    """The contents of some layers, mapped into memory when the first one is asked for.

    ``opened`` holds layers that are open already, by path, and takes those opened here.
    """

    def __init__(self, paths: Callable[[], Iterable[Path]] = tuple, opened: dict[Path, _Opened] | None = None) -> None:
        self._paths = paths
        self._known = {} if opened is None else opened
        self._layers: list[_Opened] | None = None
        self._index: _Index | None = None

    def parts(self, codes: pa.Array, *, sparing: bool = False) -> Iterator[pa.Array]:
        """The contents that codes stand for, in arrays of bounded size, one behind the other.

        ``sparing`` keeps few pages of the layers in memory, which takes longer.  Raises
        ``SnapshotError`` for a content that is nowhere.
        """
        return self._parts(codes, self._all(), sparing=sparing)

    def _parts(self, codes: pa.Array, index: _Index, *, sparing: bool) -> Iterator[pa.Array]:
        plain, rows = _unescaped(codes), _reference_rows(codes)
        found = index.find(_unhex(codes.take(pa.array(rows))))
        if (found < 0).any():
            digest = _unhex(codes.take(pa.array(rows[found < 0][:1])))[0].as_py().hex()
            raise SnapshotError(f"a content with the SHA-256 {digest} is in no contents layer", hint=_LOST)
        sizes = np.diff(_offsets(plain)).astype(np.int64)
        sizes[rows] = index.size[found]
        step = _SPARSE if sparing and 4 * len(found) < index.rows_beside(found) else _SLICE
        for low, high in _cuts(sizes):
            pieces = []
            for start in range(low, high, step):  # a few texts from everywhere must not add up to the file
                stop = min(start + step, high)
                some = slice(*np.searchsorted(rows, [start, stop]))
                pieces.append(index.texts(plain.slice(start, stop - start), rows[some] - start, found[some]))
                if sparing:
                    self.release()
            yield pa.concat_arrays(pieces)

    def decode(self, codes: pa.Array, fresh: pa.Table | None = None) -> pa.Array:
        """The contents that a few codes stand for, as one array; see ``decode_column``."""
        return pa.concat_arrays(
            [pa.array([], pa.string()), *self.decode_column(pa.chunked_array([codes]), fresh).chunks]
        )

    def decode_column(self, codes: pa.ChunkedArray, fresh: pa.Table | None = None) -> pa.ChunkedArray:
        """The contents that a column of codes stands for, in as many chunks as they need.

        ``fresh`` holds contents that are in no layer yet.
        """
        index = self._all()
        if fresh is not None and fresh.num_rows:
            index = _Index.of([*index.layers, _Opened.of_table(fresh)])
        parts = [part for chunk in codes.chunks for part in self._parts(chunk, index, sparing=False)]
        return pa.chunked_array(parts, pa.string())

    def missing(self, texts: pa.Table) -> pa.Table:
        """Those of some contents that are in no layer."""
        return texts.filter(pa.array(self._all().find(texts["digest"].combine_chunks()) < 0))

    def release(self) -> None:
        """Let go of the pages that were looked at; they come back from the cache of the system."""
        for layer in self._layers or ():
            if layer.map is not None and hasattr(layer.map, "madvise"):
                layer.map.madvise(mmap.MADV_DONTNEED)

    def _all(self) -> _Index:
        if self._index is None:
            self._layers = []
            for path in self._paths():
                if path not in self._known:
                    self._known[path] = _Opened.of_file(path)
                self._layers.append(self._known[path])
            self._index = _Index.of(self._layers)
        return self._index


_LOST = "restore the file from a copy of the store; earlier snapshots in history/ may not need it"


class _Opened(NamedTuple):
    """A contents layer: digests, and per text the number of its buffer, its place there and its bytes."""

    digests: pa.Array
    buffers: list[pa.Buffer]
    buffer: Any
    start: Any
    size: Any
    map: mmap.mmap | None

    @classmethod
    def of_file(cls, path: Path) -> _Opened:
        with open(path, "rb") as file:
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        opened = pa.ipc.open_file(pa.py_buffer(held))
        return cls._of([opened.get_batch(index) for index in range(opened.num_record_batches)], held)

    @classmethod
    def of_table(cls, table: pa.Table) -> _Opened:
        return cls._of(table.to_batches(), None)

    @classmethod
    def _of(cls, batches: list[pa.RecordBatch], held: mmap.mmap | None) -> _Opened:
        digests = pa.concat_arrays([batch.column("digest") for batch in batches] or [pa.array([], pa.binary(32))])
        offsets = [_offsets(batch.column("text")) for batch in batches]
        nothing = np.zeros(0, np.int32)
        return cls(
            digests,
            [batch.column("text").buffers()[2] or pa.py_buffer(b"") for batch in batches],
            np.repeat(np.arange(len(batches), dtype=np.int32), [batch.num_rows for batch in batches]),
            np.concatenate([nothing, *(found[:-1] for found in offsets)]),
            np.concatenate([nothing, *(np.diff(found) for found in offsets)]),
            held,
        )


class _Index(NamedTuple):
    """All texts of some layers by their digest; rows count through the layers."""

    layers: list[_Opened]
    digests: pa.Array
    keys: Any  # the first eight bytes of each digest as numbers, ascending
    rows: Any  # the row of each key
    buffers: list[pa.Buffer]
    buffer: Any
    start: Any
    size: Any

    @classmethod
    def of(cls, layers: list[_Opened]) -> _Index:
        digests = pa.concat_arrays([pa.array([], pa.binary(32)), *(layer.digests for layer in layers)])
        keys = _keys(digests)
        order = np.argsort(keys, kind="stable")
        firsts = np.cumsum([0, *(len(layer.buffers) for layer in layers)])
        nothing = np.zeros(0, np.int32)
        return cls(
            layers,
            digests,
            keys[order],
            order,
            [buffer for layer in layers for buffer in layer.buffers],
            np.concatenate([nothing, *(layer.buffer + first for layer, first in zip(layers, firsts[:-1]))]),
            np.concatenate([nothing, *(layer.start for layer in layers)]),
            np.concatenate([nothing, *(layer.size for layer in layers)]),
        )

    def find(self, wanted: pa.Array) -> Any:
        """The row of each digest, -1 for those that are not here."""
        rows = np.full(len(wanted), -1)
        keys = _keys(wanted)
        order = np.argsort(keys)  # needles in order stay in the cache
        at, last = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
        at[order] = np.searchsorted(self.keys, keys[order])
        last[order] = np.searchsorted(self.keys, keys[order], side="right")
        while True:  # more than once only for digests that share their first eight bytes
            tried = np.flatnonzero((rows < 0) & (at < last))
            if not len(tried):
                return rows
            candidate = self.rows[at[tried]]
            same = pc.equal(self.digests.take(pa.array(candidate)), wanted.take(pa.array(tried)))
            hit = same.to_numpy(zero_copy_only=False)
            rows[tried[hit]] = candidate[hit]
            at[tried] += 1

    def rows_beside(self, rows: Any) -> int:
        """How many texts the batches hold that some rows are in."""
        return int(np.bincount(self.buffer)[np.unique(self.buffer[rows])].sum())

    def texts(self, plain: pa.Array, at: Any, rows: Any) -> pa.Array:
        """A copy of ``plain`` with the texts of ``rows`` in the places ``at``.

        The strings are first put together as views, without their prefixes: nobody
        compares these, they are only copied.
        """
        offsets = _offsets(plain)
        start, size = offsets[:-1], np.diff(offsets)
        view = np.zeros((len(plain), 4), np.int32)
        view[:, 0], view[:, 3] = size, start
        held = np.frombuffer(plain.buffers()[2] or b"", np.uint8)
        short = np.flatnonzero(size <= INLINE)
        view[short, 1:] = inline(held, start[short], size[short])
        view[at, 0], view[at, 1] = self.size[rows], 0
        view[at, 2], view[at, 3] = self.buffer[rows] + 1, self.start[rows]
        valid = plain.is_valid().to_numpy(zero_copy_only=False)
        nulls = pa.py_buffer(np.packbits(valid, bitorder="little"))
        buffers = [nulls, pa.py_buffer(view), pa.py_buffer(held), *self.buffers]
        return pa.Array.from_buffers(pa.string_view(), len(plain), buffers).cast(pa.string())


def _cuts(sizes: Any) -> Iterator[tuple[int, int]]:
    """Ranges of rows that hold ``_PART`` bytes at most, or one row."""
    ends, low = np.cumsum(sizes), 0
    while low < len(sizes):
        before = ends[low - 1] if low else 0
        high = int(np.searchsorted(ends, before + _PART, side="right"))
        high = min(max(high, low + 1), low + _SLICE)
        yield low, high
        low = high


def _offsets(texts: pa.Array) -> Any:
    """Where each text of a ``string`` array starts and the last one ends, in its third buffer."""
    if not len(texts):
        return np.zeros(1, np.int32)
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]


def write_texts(sink: Any, texts: pa.Table) -> int:
    """Write contents as an Arrow file, in the order of their digests; returns how many there were."""
    with pa.ipc.new_file(sink, TEXTS) as writer:
        for batch in _by_digest(texts).to_batches(max_chunksize=_BATCH):
            writer.write_batch(batch)
    return int(texts.num_rows)


def _by_digest(texts: pa.Table) -> pa.Table:
    """The same rows in the order of their digests, in one chunk or as few as strings allow."""
    order = np.argsort(_keys(texts["digest"].combine_chunks()), kind="stable")
    pieces = [texts.take(pa.array(order[low : low + _BATCH])) for low in range(0, len(order), _BATCH)]
    return pa.concat_tables([TEXTS.empty_table(), *(piece.combine_chunks() for piece in pieces)])


def read_texts(paths: Iterable[Path]) -> pa.Table:
    """All contents of some layers, in memory maps."""
    opened = (pa.ipc.open_file(pa.memory_map(str(path))) for path in paths)
    return pa.concat_tables([TEXTS.empty_table(), *(file.read_all() for file in opened)])


# Codes


def _escaped(contents: pa.Array, sizes: Any) -> pa.Array:
    """Short contents, with a second NUL before those that begin with one; long ones are null."""
    short = pc.if_else(pa.array(sizes < LEAST), contents, pa.scalar(None, pa.string()))
    special = pc.starts_with(short, _NUL)
    if not pc.any(special).as_py():
        return short
    return pc.if_else(special, pc.binary_join_element_wise(_NUL, short, ""), short)


def _unescaped(codes: pa.Array) -> pa.Array:
    special = pc.starts_with(codes, _NUL + _NUL)
    if not pc.any(special).as_py():
        return codes
    return pc.if_else(special, pc.utf8_slice_codeunits(codes, 1), codes)


def _reference_rows(codes: pa.Array) -> Any:
    special = pc.fill_null(pc.starts_with(codes, _NUL), False)
    rows = np.flatnonzero(special.to_numpy(zero_copy_only=False))
    if not len(rows):
        return rows
    escaped = pc.starts_with(codes.take(pa.array(rows)), _NUL + _NUL).to_numpy(zero_copy_only=False)
    return rows[~escaped]


def _references(digests: pa.Array) -> pa.Array:
    """Codes of digests: a NUL and the hexadecimal digits."""
    held = np.frombuffer(digests.buffers()[1], np.uint8)[32 * digests.offset : 32 * (digests.offset + len(digests))]
    text = np.zeros((len(digests), _CODE), np.uint8)
    text[:, 1:] = _HEX[held].reshape(len(digests), 64)
    offsets = np.arange(len(digests) + 1, dtype=np.int32) * _CODE
    return pa.Array.from_buffers(pa.string(), len(digests), [None, pa.py_buffer(offsets), pa.py_buffer(text)])


_HEX = np.array([list(b"%02x" % value) for value in range(256)], np.uint8)
_DIGIT = np.zeros(256, np.uint8)
_DIGIT[list(b"0123456789abcdef")] = np.arange(16)


def _unhex(codes: pa.Array) -> pa.Array:
    """The digests of references."""
    if not len(codes):
        return pa.array([], pa.binary(32))
    offsets = np.frombuffer(codes.buffers()[1], np.int32)[codes.offset : codes.offset + len(codes) + 1]
    if (np.diff(offsets) != _CODE).any():
        raise SnapshotError("a layer holds a reference to a content that is no SHA-256", hint=_LOST)
    text = np.frombuffer(codes.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, _CODE)
    digits = _DIGIT[text[:, 1:]]
    held = digits[:, 0::2] << 4 | digits[:, 1::2]
    return pa.Array.from_buffers(pa.binary(32), len(codes), [None, pa.py_buffer(np.ascontiguousarray(held))])


def _digests(texts: pa.Array) -> pa.Array:
    """The SHA-256 of texts; of many by DuckDB on all cores, which takes some 10 ms to begin with."""
    if texts.nbytes < _FEW_BYTES:
        plain = texts.cast(pa.binary()).to_pylist()
        return pa.array([hashlib.sha256(text).digest() for text in plain], pa.binary(32))
    connection = borrow()
    connection.register("texts", pa.table({"text": texts}))
    try:
        result = connection.sql("select unhex(sha256(text)) as digest from texts").to_arrow_table()
    finally:
        connection.unregister("texts")
    return result.column("digest").combine_chunks().cast(pa.binary(32))


def _first_of_each(digests: pa.Array) -> pa.Array:
    """Rows at which each digest stands first."""
    codes = digests.cast(pa.binary()).dictionary_encode().indices.to_numpy()
    firsts = np.unique(codes, return_index=True)[1]
    return pa.array(np.sort(firsts))


def _keys(digests: pa.Array) -> Any:
    held = np.frombuffer(digests.buffers()[1] or b"", np.uint8)[
        32 * digests.offset : 32 * (digests.offset + len(digests))
    ]
    return np.ascontiguousarray(held.reshape(-1, 32)[:, :8]).view(">u8").ravel().astype(np.uint64)
