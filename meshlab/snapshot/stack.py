"""The layers of a user while a checkpoint adds to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS, OTHER
from meshlab.errors import InternalError
from meshlab.snapshot.base import Base, verified_path
from meshlab.snapshot.codes import sort_ids
from meshlab.snapshot.contents import digests_in, each_once, encode_batch, read_texts, write_texts
from meshlab.snapshot.fold import Fold
from meshlab.snapshot.hashing import StateHash, row_hashes
from meshlab.snapshot.layers import (
    LAYER_SCHEMA,
    STATE_COLUMNS,
    LayerFolder,
    choose_merge,
    merge_records,
    newest_rows,
    read_records,
    write_plain,
    write_records,
)
from meshlab.snapshot.manifest import CONTENTS, QUARANTINE, RECORDS, Layer, Manifest
from meshlab.tables.reports import reject_table
from meshlab.tables.schema import TIME
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.lines import Reject

STRETCH = 64 << 20
"""Arrow bytes of events folded into one layer."""

_MAP_BATCHES = 4
"""Batches of a phase-1 map that go into one layer."""

LARGE_CONTENTS = 16 << 20
"""A layer of contents with more bytes is not merged: rewriting it would win nothing."""


class Stack:
    """Layers so far, oldest first, and what was folded into new ones.

    Events are folded a stretch at a time, each into a layer of its own: memory holds two
    stretches, and of the records that one of them touches all but long contents.
    """

    def __init__(self, root: Path, manifest: Manifest, folder: LayerFolder) -> None:
        self._root, self._folder = root, folder
        self.layers = list(manifest.layers)
        self.hash = StateHash.parse(manifest.state_hash)
        self.records = manifest.records
        self.events = self.changed = self.gone = self.orphans = self.bytes_saved = 0
        self.last_orphans: list[dict[str, Any]] = []
        self._opened: dict[Path, Any] = {}
        self._base = Base(root, self.layers, folder.path, self._opened)

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Fold events in log order; the next stretch is read while one is folded."""
        _one_behind(self._fold, _stretches(batches))

    def _fold(self, batches: list[pa.RecordBatch]) -> None:
        encoded = [encode_batch(batch) for batch in batches]
        texts = each_once([texts for _, texts in encoded])
        touched = _ids([batch for batch, _ in encoded])
        if len(touched):
            old = self._base.lookup(touched)
            fold = Fold(old.select(list(STATE_COLUMNS)))
            for batch, _ in encoded:
                fold.add(batch)
            state, orphans, _counts = fold.finish()
            self.orphans += orphans.num_rows
            self.last_orphans += _plain(orphans)
            self._push(state.select(list(STATE_COLUMNS)), old, texts)
        self.events += sum(batch.num_rows for batch in batches)

    def add_map(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Take the records of a phase-1 map; returns its newest ``last_accessed`` (µs)."""
        newest = LONG_AGO
        for group in _groups(batches):
            encoded = [encode_batch(batch) for batch in group]
            table = pa.Table.from_batches([batch for batch, _ in encoded]).select(list(STATE_COLUMNS))
            order = sort_ids(table["id"].combine_chunks())
            self._push(table.take(pa.array(order)), LAYER_SCHEMA.empty_table(), each_once([t for _, t in encoded]))
            moments = [pc.max(batch.column("last_accessed_ts").cast(pa.int64())).as_py() for batch in group]
            newest = max([newest, *(moment for moment in moments if moment is not None)])
        return newest

    def set_aside(self, uid: str, rejects: list[Reject]) -> None:
        """Keep the bytes of accepted damage in a layer of their own."""
        if rejects:
            table = reject_table(uid, rejects)
            self._grow(self._folder.add(QUARANTINE, lambda sink: write_plain(sink, table)))

    def merge(self) -> None:
        """Merge neighbours of one size, as long as there are enough of them."""
        while (run := choose_merge(self.of_kind(RECORDS))) is not None:
            self._merge(RECORDS, run)
        while (run := choose_merge(self.of_kind(CONTENTS), LARGE_CONTENTS)) is not None:
            self._merge(CONTENTS, run)

    def _merge(self, kind: str, run: slice) -> None:
        places = [place for place, layer in enumerate(self.layers) if layer.kind == kind][run]
        layers = [self.layers[place] for place in places]
        paths = [self._path(layer) for layer in layers]

        def write(sink: Any) -> tuple[int, str, str]:
            if kind == CONTENTS:
                return write_texts(sink, read_texts(paths)), "", ""
            return write_records(sink, merge_records(paths, drop_gone=run.start == 0))

        merged = self._folder.add(kind, write)
        if kind == RECORDS:
            self._check_merge(paths, merged, drop_gone=run.start == 0)
        self._replace(places, merged)

    def _check_merge(self, paths: list[Path], merged: Layer | None, *, drop_gone: bool) -> None:
        """Read a merged layer back: the newest row of every id, with the hash it had.  Raises ``InternalError``."""
        columns = ["id", "hash", "gone"]
        told = newest_rows([read_records(path, columns) for path in paths], drop_gone=drop_gone)
        found = told.slice(0, 0) if merged is None else read_records(self._path(merged), columns)
        if not found.equals(told):
            raise InternalError("merged layers do not read back as they were")

    def of_kind(self, kind: str) -> list[Layer]:
        """The layers of a kind, oldest first."""
        return [layer for layer in self.layers if layer.kind == kind]

    def drop_unused(self) -> None:
        """Remove layers of this checkpoint that were merged away again."""
        kept = {layer.name for layer in self.layers}
        self._folder.drop([layer for layer in self._folder.written if layer.name not in kept])

    def _push(self, state: pa.Table, old: pa.Table, texts: pa.Table) -> None:
        """Write records that changed from ``old``, and the contents they need, as layers."""
        used = digests_in(state["content"].combine_chunks())
        mine = pc.is_in(texts["digest"], used.drop_null())
        fresh = self._base.contents.missing(texts.filter(mine))
        self._count_saved(state, old, texts, fresh)
        if fresh.num_rows:
            added = self._folder.add(CONTENTS, lambda sink: (write_texts(sink, fresh), "", ""))
            self._grow(added)
        hashes = _hashes(state, self._base)
        self.hash = self.hash.remove(old["hash"].combine_chunks()).add(hashes)
        ids = state["id"].combine_chunks()
        gone = old["id"].combine_chunks()
        gone = gone.filter(pc.invert(pc.is_in(gone, ids)))
        self.records += state.num_rows - old.num_rows
        self.changed += state.num_rows
        self.gone += len(gone)
        table = _layer_table(state, hashes, gone)
        layer = self._folder.add(RECORDS, lambda sink: write_records(sink, [table]))
        self._grow(layer)
        if layer is not None:
            self._check(layer, hashes)
        self._base.contents.release()

    def _check(self, layer: Layer, hashes: pa.Array) -> None:
        """Read a layer back and compute every hash anew.  Raises ``InternalError``."""
        table = read_records(self._path(layer))
        live = table.filter(pc.invert(table["gone"]))
        if not (live["hash"].combine_chunks().equals(hashes) and _hashes(live, self._base).equals(hashes)):
            raise InternalError(f"layer {layer.name} does not read back as it was folded")

    def _path(self, layer: Layer) -> Path:
        return verified_path(self._root, layer, self._folder.path)

    def _count_saved(self, state: pa.Table, old: pa.Table, texts: pa.Table, fresh: pa.Table) -> None:
        """Bytes of contents that records have got and that were not written."""
        before = old["content"].take(pc.index_in(state["id"], old["id"].combine_chunks()))
        got = pc.fill_null(pc.not_equal(state["content"], before), True)
        used = digests_in(state["content"].filter(got).combine_chunks())
        place = pc.index_in(used, texts["digest"].combine_chunks()).drop_null()
        referred = pc.sum(pc.binary_length(texts["text"]).take(place)).as_py() or 0
        self.bytes_saved += referred - (pc.sum(pc.binary_length(fresh["text"])).as_py() or 0)

    def _grow(self, layer: Layer | None) -> None:
        if layer is not None:
            self.layers.append(layer)
            self._base = Base(self._root, self.layers, self._folder.path, self._opened)

    def _replace(self, places: list[int], merged: Layer | None) -> None:
        """Put a layer in place of some; the same layer may stand in other places too."""
        kept = [[layer] for layer in self.layers]
        for place in places:
            kept[place] = []
        kept[places[0]] = [] if merged is None else [merged]
        self.layers = [layer for stay in kept for layer in stay]
        self._base = Base(self._root, self.layers, self._folder.path, self._opened)


def _one_behind(work: Callable[[list[pa.RecordBatch]], None], stretches: Iterable[list[pa.RecordBatch]]) -> None:
    """Work on stretches in their order, in a thread; the next one is made meanwhile."""
    with ThreadPoolExecutor(1) as behind:
        under_way = None
        for stretch in stretches:
            if under_way is not None:
                under_way.result()
            under_way = behind.submit(work, stretch)
        if under_way is not None:
            under_way.result()


def _stretches(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    stretch: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        stretch.append(batch)
        held += batch.nbytes
        if held >= STRETCH:
            yield stretch
            stretch, held = [], 0
    if stretch:
        yield stretch


def _ids(batches: list[pa.RecordBatch]) -> pa.Array:
    """The ids that some events are about, each once."""
    found = []
    for batch in batches:
        about = pc.not_equal(batch.column("op").cast(pa.string()), OPS[OTHER])
        found.append(pc.unique(batch.column("id").filter(about)))
    return pc.unique(pa.chunked_array(found, pa.string()))


def _hashes(state: pa.Table, base: Base) -> pa.Array:
    """The row hashes of records whose contents stand as codes."""
    pieces, low = [pa.array([], pa.binary(16))], 0
    for texts in base.contents.parts(state["content"].combine_chunks(), sparing=True):
        part = state.slice(low, len(texts)).combine_chunks()
        pieces.append(row_hashes(part.set_column(part.schema.get_field_index("content"), "content", texts)))
        low += len(texts)
    return pa.concat_arrays(pieces)


def _layer_table(state: pa.Table, hashes: pa.Array, gone: pa.Array) -> pa.Table:
    """Rows of a layer, sorted by id."""
    columns = [*state.columns, hashes, pa.array(np.zeros(state.num_rows, bool))]
    live = pa.table(columns, schema=LAYER_SCHEMA)
    if not len(gone):
        return live
    nulls = [pa.nulls(len(gone), field.type) for field in LAYER_SCHEMA]
    dead = pa.table([gone, *nulls[1:-1], pa.array(np.ones(len(gone), bool))], schema=LAYER_SCHEMA)
    both = pa.concat_tables([live, dead])
    return both.take(pa.array(sort_ids(both["id"].combine_chunks())))


def _plain(orphans: pa.Table) -> list[dict[str, Any]]:
    """Orphans as a manifest holds them, the last hundred."""
    last = orphans.slice(max(0, orphans.num_rows - 100))
    index = last.schema.get_field_index("effective_ts")
    plain = last.set_column(index, "effective", last["effective_ts"].cast(TIME).cast(pa.int64()))
    return list(plain.to_pylist())


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == _MAP_BATCHES:
            yield group
            group = []
    if group:
        yield group
