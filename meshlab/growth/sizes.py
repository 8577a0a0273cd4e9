"""What layers and manifests weigh: measured by writing some, with the code that writes the real ones.

A layer of records is a Parquet file, which keeps and compresses each column by itself.
So its size is a sum: a curve over the number of records, read between measured points,
what contents take, and what tombstones take.  Long contents stand uncompressed in layers
of their own: so much for each, and their bytes.

>>> found = measured(synthetic())
>>> found.records(1000, 0, 0) > 2 * found.records(100, 0, 0) > 0
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError
from meshlab.records import CONTENT_TYPES, MODES, VAULT_STATUSES
from meshlab.snapshot.base import verified_path
from meshlab.snapshot.contents import LEAST, TEXTS, encode, encode_batch, write_texts
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.layers import LAYER_SCHEMA, STATE_COLUMNS, read_records, write_records
from meshlab.snapshot.manifest import CONTENTS, RECORDS, Layer, Manifest, Range, current, pack
from meshlab.tables.events import load_users
from meshlab.tables.load import Log
from meshlab.times import SECOND, format_time

_EVENTS = 8192
"""Events of the beginning of a log that a sample is folded from, at least."""

_ROWS = 1024
"""Records that are enough for a sample; so many synthetic ones stand in for missing ones."""

_POINTS = (1, 4, 16, 64, 256, 1024, 4096, 16_384)


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a checkpoint writes.

    ``curve`` has numbers of records, ascending, and the bytes of layers of so many
    without their contents; ``reference`` are the bytes of a reference to a long content,
    ``short`` those that a byte of a short one takes, ``gone`` those of a tombstone.
    ``text`` is what a layer of long contents takes beside them, at all and for each;
    ``manifest`` what a manifest takes, at all and for each layer of records, layer of
    contents, range and orphan.
    """

    curve: tuple[tuple[int, ...], tuple[int, ...]]
    reference: float
    short: float
    gone: float
    text: tuple[float, float]
    manifest: tuple[int, ...]

    def records(self, count: int, gone: int, contents: float) -> int:
        """A layer of so many records and tombstones; ``contents`` is the sum of their ``content_bytes``."""
        if not count and not gone:
            return 0
        return round(_between(*self.curve, max(count, 1)) + contents + gone * self.gone)

    def content_bytes(self, sizes: Any) -> Any:
        """What contents of so many bytes take in a layer of records, each (``uint8``)."""
        found = np.where(sizes >= LEAST, self.reference, np.minimum(sizes * self.short, 255))
        return np.rint(found).astype(np.uint8)

    def contents(self, count: int, nbytes: int) -> int:
        """A layer of so many long contents."""
        return round(self.text[0] + count * self.text[1] + nbytes) if count else 0

    def joined(self, sizes: Sequence[int]) -> int:
        """The one layer of long contents that some are merged into."""
        return round(sum(sizes) - (len(sizes) - 1) * self.text[0])

    def snapshot(self, records: int, contents: int, ranges: int, orphans: int) -> int:
        """A manifest that names so many."""
        return sum(cost * count for cost, count in zip(self.manifest, (1, records, contents, ranges, orphans)))


def _between(points: Sequence[int], values: Sequence[int], at: float) -> float:
    """Straight lines between measured points; the last one goes on."""
    if at <= points[-1] or len(points) < 2:
        return float(np.interp(at, points, values))
    slope = (values[-1] - values[-2]) / (points[-1] - points[-2])
    return float(values[-1] + slope * (at - points[-1]))


# Measuring


def measured(sample: pa.Table) -> Sizes:
    """Sizes of layers of records such as these (``LAYER_SCHEMA``), of which a few will do."""
    if sample.num_rows < _ROWS // 16:
        sample = pa.concat_tables([sample, synthetic()])
    bare = _with_content(sample, pa.nulls(sample.num_rows, pa.string()))
    rows = [count for count in _POINTS if count < sample.num_rows] + [sample.num_rows]
    curve = tuple(rows), tuple(_records_bytes(_some(bare, count)) for count in rows)
    return Sizes(curve, *_content_costs(sample), _tombstone_cost(bare), _text_costs(), _manifest_costs())


def _some(table: pa.Table, count: int) -> pa.Table:
    """So many records from everywhere, in their order."""
    return table.take(pa.array(np.arange(count) * table.num_rows // count))


def _with_content(table: pa.Table, contents: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index("content"), LAYER_SCHEMA.field("content"), contents)


def _content_costs(sample: pa.Table) -> tuple[float, float]:
    """Bytes of a reference, and of a byte of a short content."""
    refers = pc.fill_null(pc.starts_with(sample["content"], "\0"), False)
    short = pc.if_else(refers, None, sample["content"])
    nbytes = pc.sum(pc.binary_length(short)).as_py() or 0
    bare = _records_bytes(_with_content(sample, pa.nulls(sample.num_rows, pa.string())))
    codes, _ = encode(pa.array([f"{number:0{LEAST}}" for number in range(sample.num_rows)]))
    reference = (_records_bytes(_with_content(sample, codes)) - bare) / sample.num_rows
    if nbytes < LEAST:
        return reference, 0.5  # about what zstd makes of prose
    return reference, max(0.0, _records_bytes(_with_content(sample, short)) - bare) / nbytes


def _tombstone_cost(bare: pa.Table) -> float:
    """Bytes of a row that holds an id and nothing else, beside others."""
    half = bare.num_rows // 2
    nulls = [pa.nulls(half, field.type) for field in LAYER_SCHEMA]
    dead = pa.table([bare["id"].slice(0, half), *nulls[1:-1], pa.array(np.ones(half, bool))], schema=LAYER_SCHEMA)
    live = bare.slice(half)
    return (_records_bytes(pa.concat_tables([dead, live])) - _records_bytes(live)) / half


def _records_bytes(table: pa.Table) -> int:
    sink = pa.BufferOutputStream()
    write_records(sink, [table])
    return int(sink.getvalue().size)


def _text_costs() -> tuple[float, float]:
    few, many = (_texts_bytes(count) for count in (1, 513))
    each = (many - few) / 512
    return few - each, each


def _texts_bytes(count: int) -> int:
    """Bytes of a layer of long contents, those themselves left out."""
    sink = pa.BufferOutputStream()
    texts = [f"{number:0{LEAST}}" for number in range(count)]
    digests = [f"{number:032}".encode() for number in range(count)]
    write_texts(sink, pa.table([digests, texts], schema=TEXTS))
    return int(sink.getvalue().size) - count * LEAST


_ID = "5f0c0b66-6f0f-4c63-8a50-0b9f6cf0a0f1"
_MOMENT = 1 << 50
_RANGE = Range("20250701", 0, 1 << 24, b"\0" * 16, 1 << 15, _MOMENT, _MOMENT, 1 << 24)
_ORPHAN = {
    "segment": "20250701",
    "offset": 1 << 24,
    "line": 1 << 15,
    "effective": _MOMENT,
    "id": _ID,
    "fields": ["amplitude", "stability", "last_accessed", "access_count"],
}


def _manifest_costs() -> tuple[int, ...]:
    """Bytes of a manifest, and what each layer, range and orphan adds."""
    records = Layer("0" * 64, RECORDS, 1 << 10, 1 << 17, _ID, _ID)
    contents = records._replace(kind=CONTENTS, first="", last="")
    more: list[dict[str, Any]] = [
        {"layers": [records]},
        {"layers": [contents]},
        {"folded": [_RANGE]},
        {"last_orphans": [_ORPHAN]},
    ]
    fixed, *each = (_manifest_bytes(**parts) for parts in ({}, *more))
    return fixed, *(nbytes - fixed for nbytes in each)


def _manifest_bytes(**parts: Any) -> int:
    known: dict[str, Any] = {"uid": "someone", "generation": 300, "parent": "0" * 64, "tool": "meshlab 0.1.0"}
    known |= dict.fromkeys(("seq", "records", "orphans", "bytes_of_change"), 1 << 17)
    known |= dict.fromkeys(("effective", "created_at"), _MOMENT)
    return len(pack(Manifest(**known, **parts)))


# Records to measure with


def records_of(log: Log) -> pa.Table:
    """Some of a user's records as layers hold them: from a layer if there is one, else from the beginning of the log.

    Synthetic ones when there are none, or none that can be read.
    """
    try:
        found = current(log.root, log.uid)
        layers = found.of_kind(RECORDS) if isinstance(found, Manifest) else []
        sample = _from_layer(log, layers) if layers else _from_log(log)
    except (MeshlabError, OSError, pa.ArrowException):
        sample = LAYER_SCHEMA.empty_table()
    return sample if sample.num_rows else synthetic()


def _from_layer(log: Log, layers: list[Layer]) -> pa.Table:
    """The live records of the smallest layer that has enough of them, else of the largest."""
    enough = [layer for layer in layers if layer.rows >= _ROWS]
    chosen = min(enough, key=_rows) if enough else max(layers, key=_rows)
    table = read_records(verified_path(log.root, chosen))
    return table.filter(pc.invert(table["gone"]))


def _rows(layer: Layer) -> int:
    return layer.rows


def _from_log(log: Log) -> pa.Table:
    fold, count = Fold(), 0
    for batch in load_users([log], columns=FOLD_COLUMNS, progress=False).to_batches():
        fold.add(encode_batch(batch)[0])
        count += batch.num_rows
        if count >= _EVENTS:
            break
    return _as_layer(fold.finish().state.select(list(STATE_COLUMNS)))


def _as_layer(state: pa.Table) -> pa.Table:
    """Records as a layer has them, with noise for hashes: it compresses as badly."""
    noise = np.random.default_rng(1).bytes(16 * state.num_rows)
    hashes = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), state.num_rows, [None, pa.py_buffer(noise)])
    return pa.table([*state.columns, hashes, pa.array(np.zeros(state.num_rows, bool))], schema=LAYER_SCHEMA)


def synthetic() -> pa.Table:
    """Made-up records with all fields but the content, for want of better."""
    draw = np.random.default_rng(1)
    floats = {name: draw.random(_ROWS) for name in ("phase_tag", "amplitude", "width", "position", "stability")}
    times = [format_time(_MOMENT + second * SECOND) for second in draw.integers(0, 1 << 21, _ROWS).tolist()]
    feelings = draw.random((_ROWS, 3)).round(2).tolist()
    columns: dict[str, Any] = {
        "id": sorted(draw.bytes(16).hex() for _ in range(_ROWS)),
        "concept_id": [f"concept:{number}" for number in draw.integers(0, 200, _ROWS).tolist()],
        **floats,
        "frequency": np.ones(_ROWS),
        "creation_time": times,
        "last_accessed": sorted(times),
        "access_count": draw.integers(0, 50, _ROWS).astype(np.uint64),
        "content": pa.nulls(_ROWS, pa.string()),
        "content_type": [CONTENT_TYPES[number] for number in draw.integers(0, len(CONTENT_TYPES), _ROWS)],
        "emotional_signature": [
            {"valence": a, "arousal": b, "dominance": c, "trauma_indicators": []} for a, b, c in feelings
        ],
        "vault_status": [VAULT_STATUSES[0]] * _ROWS,
        "mode": [MODES[0]] * _ROWS,
        "comfort_metrics": [{"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0}] * _ROWS,
        "extra": pa.nulls(_ROWS, pa.string()),
    }
    return _as_layer(pa.table({name: columns[name] for name in STATE_COLUMNS}))
