"""The records a manifest stands for: all of them, or those of some ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.snapshot.contents import Contents
from meshlab.snapshot.layers import (
    LAYER_SCHEMA,
    STATE_COLUMNS,
    merge_records,
    newest_rows,
    read_records,
    rows_with_ids,
    verify_layer,
)
from meshlab.snapshot.manifest import CONTENTS, RECORDS, Layer, Manifest, layer_path
from meshlab.tables.schema import RECORD_SCHEMA, TIME, TIME_PROJECTIONS
from meshlab.tables.times import to_timestamps


class Base:
    """The layers of a manifest, opened.

    Every layer is compared with its name before it is first used in a process: records
    when the base is opened, contents when the first one is asked for.  ``folder`` is
    where layers of a checkpoint that will not be committed stand, ``opened`` contents
    that are open already.
    """

    def __init__(
        self,
        root: Path,
        layers: list[Layer],
        folder: Path | None = None,
        opened: dict[Path, Any] | None = None,
    ) -> None:
        held = [layer for layer in layers if layer.kind == CONTENTS]
        self.contents = Contents(lambda: [verified_path(root, layer, folder) for layer in held], opened)
        self._records = [verified_path(root, layer, folder) for layer in layers if layer.kind == RECORDS]

    @classmethod
    def open(cls, root: Path, manifest: Manifest) -> Base:
        """The layers of a manifest.  Raises ``SnapshotError`` for one that is missing or damaged."""
        return cls(root, manifest.layers)

    def state(self) -> pa.Table:
        """All live records in ``RECORD_SCHEMA``, sorted by id."""
        table = self.coded()
        parts = {name: table[name] for name in STATE_COLUMNS}
        parts["content"] = self.contents.decode_column(table["content"])
        for name, text in TIME_PROJECTIONS.items():
            parts[name] = pa.chunked_array([to_timestamps(chunk) for chunk in table[text].chunks], TIME)
        return pa.table([parts[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)

    def batches(self, *, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """All live records in ``RECORD_SCHEMA``, sorted by id, at most ``rows`` in a batch.

        Memory holds a few rows of every layer, a few contents, and some hundred bytes for
        every long content.  Raises ``SnapshotError`` for one that is nowhere.
        """
        for table in merge_records(self._records, drop_gone=True):
            low = 0
            for texts in self.contents.parts(table["content"].combine_chunks(), sparing=True):
                part = table.slice(low, len(texts)).select(list(STATE_COLUMNS)).combine_chunks()
                low += len(texts)
                yield from _whole(part, texts).to_batches(max_chunksize=rows)
        self.contents.release()

    def coded(self) -> pa.Table:
        """All live records, sorted by id, with codes for contents and without projections of times."""
        columns = [*STATE_COLUMNS, "gone"]
        tables = [read_records(path, columns) for path in self._records]
        empty = LAYER_SCHEMA.empty_table().select(columns)
        return newest_rows([empty, *tables], drop_gone=True).select(list(STATE_COLUMNS))

    def lookup(self, ids: pa.Array) -> pa.Table:
        """The live records of some ids in ``LAYER_SCHEMA``: contents as codes, with their hashes."""
        wanted, found = ids, []
        for path in reversed(self._records):
            if not len(wanted):
                break
            taken = rows_with_ids(path, wanted)
            if taken.num_rows:
                found.append(taken.filter(pc.invert(taken["gone"])))
                wanted = wanted.filter(pc.invert(pc.is_in(wanted, taken["id"].combine_chunks())))
        return pa.concat_tables([LAYER_SCHEMA.empty_table(), *found])


def _whole(part: pa.Table, texts: pa.Array) -> pa.Table:
    """Records with their contents and the projections of their times."""
    columns = {name: part[name] for name in STATE_COLUMNS} | {"content": texts}
    for name, text in TIME_PROJECTIONS.items():
        columns[name] = pa.chunked_array([to_timestamps(chunk) for chunk in part[text].chunks], TIME)
    return pa.table([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)


def verified_path(root: Path, layer: Layer, folder: Path | None = None) -> Path:
    """The file of a layer, compared with its name; in ``folder`` if it is there."""
    path = layer_path(root, layer)
    if folder is not None and (folder / path.name).exists():
        path = folder / path.name
    verify_layer(path, layer)
    return path
